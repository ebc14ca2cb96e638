"""Kernels with few values: rounding to the nearest multiples of a step."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Axis, InputError, SymmetrySpec, Weights
from scalegmn_jax.symmetry import canonical
from scalegmn_jax.symmetry.kernels import are_kernels
from scalegmn_jax.symmetry.spec import leaves

_CLIPS = np.linspace(0.4, 1, 25)
"""The steps that are compared, as shares of the largest."""


def check_bits(bits: int) -> None:
  """Raises InputError for numbers of bits that no grid has."""
  if not 2 <= bits <= 8:
    raise InputError(f"bits is {bits}, expected 2 to 8")


def round_kernels(
  spec: SymmetrySpec,
  weights: Weights,
  bits: int,
  *,
  per_channel: bool = False,
) -> Weights:
  """Kernel entries as the nearest of 2^bits - 1 multiples of a step.

  The multiples are -m, ..., m with m = 2^(bits-1) - 1; larger entries are
  clipped. Of 25 steps, from 0.4 to 1 times max|W| / m, the one with the least
  squared error is taken. Biases and other weights stay. Permutations and signs
  commute with rounding; positive scaling does with `per_channel` where it acts
  on receivers only, otherwise the gauge decides, see `gauge.equalize`.

  Args:
    spec: the symmetry.
    weights: of one network.
    bits: per kernel entry, from 2 to 8.
    per_channel: a step for each neuron that receives, in place of one for the
      kernel.

  Raises:
    InputError: `bits` is out of its range.
  """
  check_bits(bits)
  most = 2 ** (bits - 1) - 1
  rounded, flags = [], are_kernels(spec, weights)
  for (_, weight, axes), flag in zip(leaves(spec, weights), flags, strict=True):
    along = tuple(
      i
      for i, axis in enumerate(axes.axes)
      if not (
        per_channel and isinstance(axis, Axis) and axis.kind == "receives"
      )
    )
    rounded.append(_rounded(weight, most, along) if flag else weight)
  return jax.tree.unflatten(jax.tree.structure(weights), rounded)


def _rounded(weight: jax.Array, most: int, along: tuple[int, ...]) -> jax.Array:
  """A kernel on its grid; entries along these axes have one step."""
  largest = jnp.abs(weight).max(along, keepdims=True) / most
  # Weights whose step would underflow are rounded to zero.
  largest = jnp.where(canonical.positive(largest * _CLIPS[0]), largest, 1)

  def on_grid(fraction):
    step = fraction * largest
    return jnp.clip(jnp.round(weight / step), -most, most) * step

  def error(fraction):
    # In units of the largest step: squares of small weights underflow.
    lost = (weight - on_grid(fraction)) / largest
    return (lost**2).sum(along, keepdims=True)

  fractions = jnp.asarray(_CLIPS, weight.dtype)
  errors = jax.lax.map(error, fractions)
  return on_grid(fractions[jnp.argmin(errors, axis=0)])
