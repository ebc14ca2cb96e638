"""Canonical forms: the invariant part of a feature vector.

The orbit of z [..., d], whose last axis shares one multiplier q, is
represented by vectors z_r such that any function summed over them, Σ_r ρ(z_r),
is invariant under z → q z (Kalogeropoulos et al. 2024, arXiv:2406.10685,
section 4). Each z_r is z times a scalar. Layers apply a linear map to the
representatives first, so a canonical map returns its results: the scalar is
applied to the result, which is the shorter vector, and nothing is computed
twice.

Real zoos contain zeros (zero biases, dead neurons, pruned kernels): all forms
map zero to zero, with a zero gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Linear = Callable[[jax.Array], jax.Array]
"""A linear map [..., d] -> [..., h] of vectors."""

Canonical = Callable[[jax.Array, Linear], tuple[jax.Array, ...]]
"""(z [..., d], linear map) -> (linear(z_r) [..., h] per representative)."""


def positive(s: jax.Array) -> jax.Array:
  """Whether s >= 0 is at least the smallest normal number, bool like s.

  Smaller numbers have no finite inverse. CPUs and TPUs take them as zeros, GPUs
  do not.
  """
  return s >= jnp.finfo(s.dtype).tiny


def inverse_norm(z: jax.Array) -> jax.Array:
  """1/‖z‖ over the last axis, [..., 1], and 0 where z is 0.

  Division by max|z| comes first: squares of numbers below 1e-19 are zero in
  float32, and the direction of a channel that weight decay has made tiny would
  be lost. The result does not depend on this factor, so differentiation takes
  it as a constant.
  """
  largest = jnp.max(jnp.abs(z), axis=-1, keepdims=True)
  nonzero = positive(largest)
  factor = jax.lax.stop_gradient(1 / jnp.where(nonzero, largest, 1))
  square = jnp.sum((z * factor) ** 2, axis=-1, keepdims=True)
  # The square is at least 1 where z is not 0; elsewhere it is replaced by 1,
  # which keeps the gradient of the root finite.
  root = jax.lax.rsqrt(jnp.where(nonzero, square, 1))
  return jnp.where(nonzero, factor * root, 0)


def unit(z: jax.Array) -> jax.Array:
  """z/‖z‖ over the last axis, 0 where z is 0."""
  return z * inverse_norm(z)


def norm(z: jax.Array, axis: int = -1) -> jax.Array:
  """‖z‖ over one axis without underflow, with gradient 0 at 0.  z → |q| z."""
  largest = jnp.max(jnp.abs(z), axis=axis, keepdims=True)
  nonzero = positive(largest)
  safe = jax.lax.stop_gradient(jnp.where(nonzero, largest, 1))
  square = jnp.sum((z / safe) ** 2, axis=axis, keepdims=True)
  root = safe * jnp.sqrt(jnp.where(nonzero, square, 1))
  return jnp.squeeze(jnp.where(nonzero, root, 0), axis)


def inverse(s: jax.Array) -> jax.Array:
  """1/s for sizes s >= 0, and 0 where s is 0.  s → q s gives y → y / q."""
  nonzero = positive(s)
  return jnp.where(nonzero, 1 / jnp.where(nonzero, s, 1), 0)


def permutation(z: jax.Array, linear: Linear) -> tuple[jax.Array, ...]:
  """Representative for q = 1: z itself."""
  return (linear(z),)


def scale(z: jax.Array, linear: Linear) -> tuple[jax.Array, ...]:
  """Representative for q > 0: the direction z/‖z‖."""
  return (linear(z) * inverse_norm(z),)


def sign(z: jax.Array, linear: Linear) -> tuple[jax.Array, ...]:
  """Representatives for q in {-1, 1}: z and -z.

  |z| would be cheaper but loses the relative signs within z, which are
  invariant.
  """
  y = linear(z)
  return y, -y


def scale_and_sign(z: jax.Array, linear: Linear) -> tuple[jax.Array, ...]:
  """Representatives for q ≠ 0: the directions z/‖z‖ and -z/‖z‖."""
  y = linear(z) * inverse_norm(z)
  return y, -y


def mixed(is_scale: jax.Array, is_sign: jax.Array) -> Canonical:
  """Canonical map of a batch of vectors of different groups.

  Args:
    is_scale: mask [..., 1], broadcast against z: vectors that positive
      multipliers act on.
    is_sign: mask [..., 1], vectors that signs act on. Vectors in neither mask
      are only permuted.

  Returns:
    A map with two representatives per vector.
  """

  def canonical(z, linear):
    y = linear(z) * jnp.where(is_scale, inverse_norm(z), 1)
    return y, jnp.where(is_sign, -y, y)

  return canonical
