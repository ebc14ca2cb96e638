"""Canonical forms: what of a feature vector does not change under its group.

A canonical map takes z [..., d], whose last axis shares one multiplier q, to
representatives [R, ..., d] of its orbit such that any function summed over
them, Σ_r ρ(z_r), is invariant under z → q z (Kalogeropoulos et al. 2024,
arXiv:2406.10685, section 4).

Zero is a value that real zoos contain (zero biases, dead neurons, pruned
kernels): the forms here map it to zero, with a zero gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Canonical = Callable[[jax.Array], jax.Array]
"""z [..., d] -> representatives [R, ..., d]."""


def unit(z: jax.Array) -> jax.Array:
  """z/‖z‖ over the last axis, 0 where z is 0.

  Division by max|z| comes first: squares of numbers below 1e-19 are zero in
  float32, and the direction of a channel that weight decay has driven down
  would be lost. The result does not depend on that factor, so it is constant
  for differentiation.
  """
  largest = jnp.max(jnp.abs(z), axis=-1, keepdims=True)
  nonzero = largest > 0
  z = z / jax.lax.stop_gradient(jnp.where(nonzero, largest, 1))
  square = jnp.sum(z * z, axis=-1, keepdims=True)
  # The square is at least 1 where z is not 0; elsewhere the root of the 1 put
  # in keeps the gradient finite.
  return jnp.where(nonzero, z / jnp.sqrt(jnp.where(nonzero, square, 1)), 0)


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


def permutation(z: jax.Array) -> jax.Array:
  """For q = 1: z itself, [1, ..., d]."""
  return z[None]


def scale(z: jax.Array) -> jax.Array:
  """For q > 0: the direction z/‖z‖, [1, ..., d]."""
  return unit(z)[None]


def sign(z: jax.Array) -> jax.Array:
  """For q in {-1, 1}: both signs, [2, ..., d].

  |z| would be cheaper and forget the relative signs within z, which are
  invariant.
  """
  return jnp.stack([z, -z])


def mixed(is_scale: jax.Array, is_sign: jax.Array) -> Canonical:
  """For a batch of vectors of different groups: [2, ..., d].

  Args:
    is_scale: mask [..., 1], broadcast against z: the vectors of the scale
      group.
    is_sign: the same for the sign group; neither means permutation only.
  """

  def canonical(z):
    first = jnp.where(is_scale, unit(z), z)
    return jnp.stack([first, jnp.where(is_sign, -first, first)])

  return canonical
