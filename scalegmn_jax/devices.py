"""Devices: work on many networks is spread over all of them.

There is one mesh axis, over networks. Parameters of metanetworks and images are
on every device, each device computes its share of the networks, and gradients
are summed over devices in one collective operation. Random choices depend on
the key of the run and the index of the network, never on the device.

    with devices.spread():            # all devices of this process, or of all
      training.loop.train(...)        # and everything in `batched`

If several processes compute together (`scalegmn_jax.processes`), the results
of functions that are mapped over networks are on every device.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from scalegmn_jax import processes
from scalegmn_jax.base import InputError

AXIS = "networks"
"""The name of the mesh axis. `map_shards` finds any mesh that has it."""


@contextlib.contextmanager
def spread(devices: Sequence[Any] | None = None) -> Iterator[None]:
  """Spreads networks over devices within this context.

  Args:
    devices: several of `jax.devices()`; None for all, those of the other
      processes included. If there is one in all, None has no effect.
  """
  devices = jax.devices() if devices is None else list(devices)
  if devices == jax.devices()[:1]:
    yield
    return
  # Auto: with explicit axes every gather inside a step needs its sharding.
  mesh = jax.make_mesh(
    (len(devices),), (AXIS,), (AxisType.Auto,), devices=devices
  )
  with jax.set_mesh(mesh):
    if 1 < processes.count() == len({d.process_index for d in devices}):
      _meet()
    yield


def _meet() -> None:
  """Connects the devices of all processes by a first collective operation.

  On CPUs they have half a minute for it, and the first program of a run may
  compile longer in one process than in another.
  """
  processes.wait()
  ones = np.ones((shards(), 1), np.float32)
  jax.block_until_ready(jax.jit(sum_shards, static_argnums=0)(jnp.sum, ones))


def shards() -> int:
  """Number of devices over which `map_shards` spreads networks here.

  1 without a mesh, and inside of a function that is spread already.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if AXIS not in mesh.axis_names or AXIS in mesh.manual_axes:
    return 1
  return mesh.shape[AXIS]


def fill_up(stacked: Any, count: int) -> Any:
  """Appends copies of the last network up to a multiple of `count` networks."""
  total = jax.tree.leaves(stacked)[0].shape[0]
  if total % count == 0:
    return stacked
  rows = jnp.minimum(jnp.arange(-(-total // count) * count), total - 1)
  return jax.tree.map(lambda leaf: leaf[rows], stacked)


def map_shards(f: Callable[..., Any], *stacked: Any, shared: Any = ()) -> Any:
  """Applies f to the networks of each device; to be called inside `jax.jit`.

  Copies of the last network fill up the devices; their results are dropped.

  Args:
    f: (*pytrees with leaves [b, ...], shared) -> a pytree with leaves
      [b, ...]. It must not close over traced arrays.
    *stacked: pytrees with leaves [B, ...].
    shared: a pytree that is on every device.

  Returns:
    The results of f with leaves [B, ...].
  """
  count = shards()
  if count == 1:
    return f(*stacked, shared)
  total = jax.tree.leaves(stacked)[0].shape[0]
  stacked = fill_up(stacked, count)
  share, everywhere = PartitionSpec(AXIS), PartitionSpec()
  # Only what is on its own devices can be read by a process.
  gather = processes.count() > 1

  def of_shard(*args):
    result = f(*args)
    if not gather:
      return result
    return _joined(lambda a: jax.lax.all_gather(a, AXIS, tiled=True), result, 1)

  result = jax.shard_map(
    of_shard,
    in_specs=(*(share for _ in stacked), everywhere),
    out_specs=everywhere if gather else share,
    check_vma=False,
  )(*stacked, shared)
  return jax.tree.map(lambda leaf: leaf[:total], result)


def sum_shards(f: Callable[..., Any], stacked: Any, *shared: Any) -> Any:
  """Sum over devices of f of their networks; to be called inside `jax.jit`.

  One collective operation sums all leaves of the result.

  Args:
    f: (pytree with leaves [b, ...], *shared) -> a pytree of sums over networks.
    stacked: a pytree with leaves [B, ...]; B is a multiple of `shards()`, which
      is more than 1.
    *shared: pytrees that are on every device.
  """

  def summed(stacked, *shared):
    result = f(stacked, *shared)
    return _joined(lambda a: jax.lax.psum(a, AXIS), result, 0)

  everywhere = PartitionSpec()
  return jax.shard_map(
    summed,
    in_specs=(PartitionSpec(AXIS), *(everywhere for _ in shared)),
    out_specs=everywhere,
    check_vma=False,
  )(stacked, *shared)


def _joined(
  collective: Callable[[jax.Array], jax.Array], tree: Any, batch_axes: int
) -> Any:
  """Applies a collective operation to all leaves of one type at once.

  Between processes on CPUs every array costs milliseconds, whatever its size.

  Args:
    collective: [..., D] -> [..., D]; may change the size of the batch axes.
    tree: a pytree of arrays.
    batch_axes: number of leading axes that all leaves share.
  """
  leaves, structure = jax.tree.flatten(tree)
  flat = [leaf.reshape(*leaf.shape[:batch_axes], -1) for leaf in leaves]
  results = dict(enumerate(leaves))
  for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
    members = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
    result = collective(jnp.concatenate([flat[i] for i in members], -1))
    ends = np.cumsum([flat[i].shape[-1] for i in members])
    parts = jnp.split(result, ends[:-1], axis=-1)
    for i, part in zip(members, parts, strict=True):
      batch = part.shape[:batch_axes]
      results[i] = part.reshape(*batch, *leaves[i].shape[batch_axes:])
  return jax.tree.unflatten(structure, list(results.values()))


def replicate(tree: Any) -> Any:
  """Puts a pytree of arrays on every device of the mesh."""
  mesh = jax.sharding.get_mesh()
  if AXIS not in mesh.axis_names:
    return jax.device_put(tree)
  everywhere = NamedSharding(mesh, PartitionSpec())
  if processes.count() == 1:
    return jax.device_put(tree, everywhere)
  # `device_put` would gather each array to compare it between processes.
  return _identity(everywhere)(tree)


def count_flops(f: Callable[..., Any], *args: Any) -> float:
  """Operations of f, all networks together, counted without compiling it.

  XLA counts them in the program for one CPU, whatever f will run on: it counts
  none in the programs of other devices before they are compiled.

  Args:
    f: a function of pytrees.
    *args: its arguments, or their shapes.

  Raises:
    InputError: JAX may not use the CPU.
  """
  try:
    cpus = jax.local_devices(backend="cpu")
  except RuntimeError as error:
    raise InputError(
      f"operations are counted on the CPU, which JAX may not use ({error}): "
      "add it to JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu"
    ) from None
  shapes = jax.eval_shape(lambda *args: args, *args)
  mesh = jax.make_mesh((1,), (AXIS,), (AxisType.Auto,), devices=cpus[:1])
  with jax.set_mesh(mesh):
    cost: Any = jax.jit(f).lower(*shapes).cost_analysis()
  return float(cost["flops"])


@functools.cache
def _identity(sharding: NamedSharding) -> Callable[[Any], Any]:
  return jax.jit(lambda tree: tree, out_shardings=sharding)
