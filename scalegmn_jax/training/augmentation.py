"""Other networks of the same label: augmentation of weights.

All act on one network, a chain of dense layers (`targets.mlp`) that maps
coordinates [d] to values: an implicit representation of an image.
"""

import dataclasses

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Weights


@dataclasses.dataclass(frozen=True)
class AugmentRanges:
  """What `augment` draws from.

  Attributes:
    rotation: greatest angle, in degrees.
    scale: coordinates are multiplied by a log-uniform number in
      [1/scale, scale].
    shift: greatest offset of a coordinate, uniform.
    noise: standard deviation of Gaussian noise, in units of that of the
      weight's tensor.
  """

  rotation: float = 0.0
  scale: float = 1.0
  shift: float = 0.0
  noise: float = 0.0


def moved(weights: Weights, matrix: jax.Array, offset: jax.Array) -> Weights:
  """The network x -> f(Ax + t), exactly: W → AᵀW, b → b + tW at the inputs.

  Commutes with the group of the network, which acts on the other axis.

  Args:
    weights: of one network f on d coordinates.
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


def noisy(key: jax.Array, weights: Weights, noise: float) -> Weights:
  """Gaussian noise, in units of the standard deviation of each tensor.

  Args:
    key: consumed.
    weights: of one network.
    noise: in those units.
  """
  values, structure = jax.tree.flatten(weights)
  keys = jax.random.split(key, len(values))
  values = [
    w + noise * w.std() * jax.random.normal(k, w.shape, w.dtype)
    for k, w in zip(keys, values, strict=True)
  ]
  return jax.tree.unflatten(structure, values)


def augment(key: jax.Array, weights: Weights, ranges: AugmentRanges) -> Weights:
  """A network of 2 coordinates rotated, scaled, shifted and disturbed.

  Args:
    key: consumed.
    weights: of one network.
    ranges: of all that is drawn.
  """
  k_angle, k_scale, k_shift, k_noise = jax.random.split(key, 4)
  limit = jnp.deg2rad(ranges.rotation)
  angle = limit * jax.random.uniform(k_angle, minval=-1.0)
  size = ranges.scale ** jax.random.uniform(k_scale, minval=-1.0)
  c, s = jnp.cos(angle), jnp.sin(angle)
  matrix = size * jnp.array([[c, -s], [s, c]])
  offset = ranges.shift * jax.random.uniform(k_shift, (2,), minval=-1.0)
  return noisy(k_noise, moved(weights, matrix, offset), ranges.noise)
