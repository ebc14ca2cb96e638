"""Defaults that depend on the device."""

import os

import jax

from scalegmn_jax.base import InputError, TargetNetwork


def default_grad_chunk(size: int) -> int | None:
  """Networks at a time: `size`, or the fastest number on the device for 0.

  None means all networks at once.
  """
  if size:
    return size
  return 1 if jax.default_backend() == "cpu" else None


def default_vmap_size(target: TargetNetwork) -> int | None:
  """The fastest number of networks trained side by side; None for all.

  On a CPU one network at a time if it has convolutions, as the features of many
  networks do not fit into the cache. Products of small matrices are faster in
  batches.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  convolutional = any(len(leaf.shape) > 2 for leaf in jax.tree.leaves(shapes))
  return default_grad_chunk(0) if convolutional else None


def devices() -> str:
  """A line about the devices that JAX runs on.

  Raises:
    InputError: the platform of JAX_PLATFORMS has no device here.
  """
  try:
    available = jax.devices()
  except (RuntimeError, AssertionError) as error:
    reason = (str(error) or "no device").splitlines()[0]
    raise InputError(
      f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}, expected a "
      f"platform with a device on this machine ({reason})"
    ) from None
  kinds = sorted({d.device_kind for d in available})
  return f"JAX {jax.__version__} on {len(available)} x {', '.join(kinds)}"
