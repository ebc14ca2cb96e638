"""Scores of kernel entries, and masks with a gradient in them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import InitFn, SymmetrySpec, Weights
from scalegmn_jax.symmetry import kernels

TEMPERATURE = 0.5
"""Width of the sigmoid in units of the scores, logarithms of magnitudes."""

_BISECTIONS = 30
"""Halvings of the interval in which a threshold is; to 1e-8 of its length."""


class Scorer(NamedTuple):
  """A metanetwork that says which kernel entries of a network matter.

  Attributes:
    init: key -> φ.
    apply: (φ, θ, activation) -> scores, a pytree like θ: logarithms, -∞ for
      entries without any effect. Invariant under scalings and signs, permuted
      with the neurons.
  """

  init: InitFn
  apply: Callable[..., Weights]


def log_magnitudes(
  spec: SymmetrySpec, weights: Weights, activation: jax.Array | int
) -> Weights:
  """log |w| in the gauge of least squares, see `kernels.balanced_powers`.

  Invariant under scalings and signs, permuted with the neurons. -∞ for entries
  that are zero there: they have no effect.
  """
  squares = kernels.balanced_powers(
    spec, jax.lax.stop_gradient(weights), activation
  )
  return jax.tree.map(lambda s: 0.5 * jnp.log(s), squares)


def mask_highest(
  spec: SymmetrySpec, scores: Weights, count: jax.Array | int
) -> Weights:
  """A mask that removes the kernel entries with the lowest scores.

  Its gradient is that of sigmoids of the scores minus a threshold, which keeps
  the sum of the sigmoids at the number of kept entries ("straight-through":
  Bengio, Léonard, Courville 2013, arXiv:1308.3432). A gradient that raises all
  scores alike, which changes nothing, is 0.

  Args:
    spec: the symmetry.
    scores: logarithms, a pytree like the weights; -∞ for entries that are
      removed whatever the count. The mask is invariant if the scores are.
    count: number of entries to remove.

  Returns:
    A pytree like the weights, 0 or 1; 1 for other weights than kernels.
  """
  leaves, structure = jax.tree.flatten(scores)
  flags = kernels.are_kernels(spec, scores)
  fixed = jax.lax.stop_gradient(scores)
  ones = jax.tree.map(jnp.ones_like, fixed)
  hard = kernels.keep_highest(spec, jax.tree.map(jnp.exp, fixed), ones, count)
  soft = iter(
    _sigmoids(
      [s for s, flag in zip(leaves, flags, strict=True) if flag],
      kernels.count(spec, scores) - count,
    )
  )

  def with_gradient(score, kept, flag):
    if not flag:
      return kept
    kept, p = jnp.where(jnp.isneginf(score), 0, kept), next(soft)
    return kept + (p - jax.lax.stop_gradient(p))

  masks = zip(leaves, jax.tree.leaves(hard), flags, strict=True)
  return jax.tree.unflatten(structure, [with_gradient(*mask) for mask in masks])


def _sigmoids(
  scores: list[jax.Array], total: jax.Array | int
) -> list[jax.Array]:
  """Sigmoids of scores minus the threshold at which their sum is `total`; 0
  where a score is -∞."""
  finite = [~jnp.isneginf(s) for s in scores]
  scores = [jnp.where(f, s, 0) for s, f in zip(scores, finite, strict=True)]

  def sum_of(values):
    kept = zip(values, finite, strict=True)
    return sum(jnp.where(f, v, 0).sum() for v, f in kept)

  def at(threshold):
    return [jax.nn.sigmoid((s - threshold) / TEMPERATURE) for s in fixed]

  fixed = jax.lax.stop_gradient(scores)
  # Beyond these ends every sigmoid is near 0, or near 1.
  beyond = TEMPERATURE * math.log(sum(s.size for s in scores) + 1)
  low = jnp.min(jnp.stack([s.min() for s in fixed])) - beyond
  high = jnp.max(jnp.stack([s.max() for s in fixed])) + beyond

  def halve(_, ends):
    low, high = ends
    middle = (low + high) / 2
    more = sum_of(at(middle)) > total
    return jnp.where(more, middle, low), jnp.where(more, high, middle)

  low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
  threshold = (low + high) / 2
  slopes = [p * (1 - p) for p in at(threshold)]
  moved = sum_of([d * s for d, s in zip(slopes, scores, strict=True)])
  moved = moved / jnp.maximum(sum_of(slopes), jnp.finfo(moved.dtype).tiny)
  # The value of the threshold, and its derivative in the scores.
  threshold = threshold + (moved - jax.lax.stop_gradient(moved))
  return [
    jnp.where(f, jax.nn.sigmoid((s - threshold) / TEMPERATURE), 0)
    for s, f in zip(scores, finite, strict=True)
  ]
