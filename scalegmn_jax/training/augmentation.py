"""Augmentation of weights: other networks with the same label.

All functions act on one network, a chain of dense layers (`targets.mlp`) that
maps coordinates [d] to values: an implicit representation of an image.
"""

import dataclasses

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Weights, random_array


@dataclasses.dataclass(frozen=True)
class AugmentRanges:
  """Ranges of the random transformations of `augment`.

  Attributes:
    rotation: greatest angle, in degrees.
    scale: coordinates are multiplied by a log-uniform number in
      [1/scale, scale].
    shift: greatest offset of a coordinate, uniform.
    noise: standard deviation of Gaussian noise, relative to the standard
      deviation of each weight tensor.
  """

  rotation: float = 0.0
  scale: float = 1.0
  shift: float = 0.0
  noise: float = 0.0


def transform_input(
  weights: Weights, matrix: jax.Array, offset: jax.Array
) -> Weights:
  """Transforms the input: exactly x -> f(Ax + t), by W → AᵀW, b → b + tW.

  Commutes with the symmetry group, which acts on the other axis of the first
  layer.

  Args:
    weights: weights of one network f on d coordinates.
    matrix: A, [d, d].
    offset: t, [d].
  """
  first, *others = weights
  kernel = first["kernel"]
  first = first | {
    "bias": first["bias"] + offset @ kernel,
    "kernel": matrix.T @ kernel,
  }
  return (first, *others)


def add_noise(key: jax.Array, weights: Weights, noise: float) -> Weights:
  """Adds Gaussian noise to all weights.

  Args:
    key: consumed.
    weights: weights of one network.
    noise: standard deviation, relative to the one of each tensor.
  """
  values, structure = jax.tree.flatten(weights)
  keys = jax.random.split(key, len(values))
  values = [
    w
    + noise
    * w.std()
    * random_array(jax.random.normal, k, w.shape, dtype=w.dtype)
    for k, w in zip(keys, values, strict=True)
  ]
  return jax.tree.unflatten(structure, values)


def augment(key: jax.Array, weights: Weights, ranges: AugmentRanges) -> Weights:
  """Rotates, scales and shifts a network on 2 coordinates, and adds noise.

  Args:
    key: consumed.
    weights: weights of one network.
    ranges: ranges of the random transformation.
  """
  k_angle, k_scale, k_shift, k_noise = jax.random.split(key, 4)
  limit = jnp.deg2rad(ranges.rotation)
  angle = limit * jax.random.uniform(k_angle, minval=-1.0)
  size = ranges.scale ** jax.random.uniform(k_scale, minval=-1.0)
  c, s = jnp.cos(angle), jnp.sin(angle)
  matrix = size * jnp.array([[c, -s], [s, c]])
  offset = ranges.shift * jax.random.uniform(k_shift, (2,), minval=-1.0)
  return add_noise(
    k_noise, transform_input(weights, matrix, offset), ranges.noise
  )
