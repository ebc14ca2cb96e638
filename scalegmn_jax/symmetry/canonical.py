"""Canonical forms: what of a feature vector does not change under its group.

The orbit of z [..., d], whose last axis shares one multiplier q, is
represented by vectors z_r such that any function summed over them, Σ_r ρ(z_r),
is invariant under z → q z (Kalogeropoulos et al. 2024, arXiv:2406.10685,
section 4). Each is z times a number. What reads them begins with a matrix, so
a canonical map gives their products with it: the number is multiplied to the
shorter product, and neither signs nor directions are computed twice.

Zero is a value that real zoos contain (zero biases, dead neurons, pruned
kernels): the forms here map it to zero, with a zero gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Canonical = Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]
"""(z [..., d], matrix [d, h]) -> z_r @ matrix of each representative,
[..., h]."""


def inverse_norm(z: jax.Array) -> jax.Array:
  """1/‖z‖ over the last axis, [..., 1], and 0 where z is 0.

  Division by max|z| comes first: squares of numbers below 1e-19 are zero in
  float32, and the direction of a channel that weight decay has driven down
  would be lost. The result does not depend on that factor, so it is constant
  for differentiation.
  """
  largest = jnp.max(jnp.abs(z), axis=-1, keepdims=True)
  nonzero = largest > 0
  factor = jax.lax.stop_gradient(1 / jnp.where(nonzero, largest, 1))
  square = jnp.sum((z * factor) ** 2, axis=-1, keepdims=True)
  # The square is at least 1 where z is not 0; elsewhere the root of the 1 put
  # in keeps the gradient finite.
  root = jax.lax.rsqrt(jnp.where(nonzero, square, 1))
  return jnp.where(nonzero, factor * root, 0)


def unit(z: jax.Array) -> jax.Array:
  """z/‖z‖ over the last axis, 0 where z is 0."""
  return z * inverse_norm(z)


def norm(z: jax.Array, axis: int = -1) -> jax.Array:
  """‖z‖ over one axis without underflow, with gradient 0 at 0.  z → |q| z."""
  largest = jnp.max(jnp.abs(z), axis=axis, keepdims=True)
  nonzero = largest > 0
  safe = jax.lax.stop_gradient(jnp.where(nonzero, largest, 1))
  square = jnp.sum((z / safe) ** 2, axis=axis, keepdims=True)
  root = safe * jnp.sqrt(jnp.where(nonzero, square, 1))
  return jnp.squeeze(jnp.where(nonzero, root, 0), axis)


def inverse(s: jax.Array) -> jax.Array:
  """1/s of sizes s >= 0, and 0 where s is 0.  s → q s gives y → y / q."""
  return jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1), 0)


def permutation(z: jax.Array, matrix: jax.Array) -> tuple[jax.Array, ...]:
  """For q = 1: z itself."""
  return (z @ matrix,)


def scale(z: jax.Array, matrix: jax.Array) -> tuple[jax.Array, ...]:
  """For q > 0: the direction z/‖z‖."""
  return (z @ matrix * inverse_norm(z),)


def sign(z: jax.Array, matrix: jax.Array) -> tuple[jax.Array, ...]:
  """For q in {-1, 1}: both signs.

  |z| would be cheaper and forget the relative signs within z, which are
  invariant.
  """
  y = z @ matrix
  return y, -y


def mixed(is_scale: jax.Array, is_sign: jax.Array) -> Canonical:
  """For a batch of vectors of different groups: two representatives each.

  Args:
    is_scale: mask [..., 1], broadcast against z: the vectors of the scale
      group.
    is_sign: the same for the sign group; neither means permutation only.
  """

  def canonical(z, matrix):
    y = z @ matrix * jnp.where(is_scale, inverse_norm(z), 1)
    return y, jnp.where(is_sign, -y, y)

  return canonical
