"""Kernel entries: which weights they are, their sizes, and the highest of them.

Kernels are pruned; biases, one or two percent of the weights, scales and
running statistics are neither pruned nor counted. Pruning keeps the entries
with the highest scores in the whole network, not layer by layer.
"""

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import leaves


def are_kernels(spec: SymmetrySpec, weights: Weights) -> list[bool]:
  """Whether each weight, in order, is a kernel: a matrix, not one number per
  neuron."""
  return [
    weight.ndim > 1
    and not axes.statistic
    and all(axis.kind != "scales" for axis in axes.acting())
    for _, weight, axes in leaves(spec, weights)
  ]


def count(spec: SymmetrySpec, weights: Weights) -> int:
  """Number of kernel entries of one network."""
  kernels = are_kernels(spec, weights)
  sizes = [w.size for w in jax.tree.leaves(weights)]
  return sum(n for n, k in zip(sizes, kernels, strict=True) if k)


def balanced_powers(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  power: int = 2,
) -> Weights:
  """|w|^p in the gauge that minimizes Σ|w|^p, see `gauge.balance`.

  Invariant under positive scaling, because this gauge does not depend on the
  position of the network on its orbit; permuted with the neurons. The other
  groups leave |w| unchanged.

  Args:
    spec: the symmetry.
    weights: of one network.
    activation: index of its activation.
    power: p.
  """
  # Balance first: powers of balanced weights do not underflow.
  balanced = gauge.balance(spec, weights, activation)
  powers = jax.tree.map(lambda w: jnp.abs(w) ** power, balanced)
  return gauge.balance(spec, powers, activation)


def keep_highest(
  spec: SymmetrySpec, scores: Weights, kept: Weights, count: jax.Array | int
) -> Weights:
  """A mask that removes the kernel entries with the lowest scores.

  Args:
    spec: the symmetry.
    scores: at least 0, a pytree like the weights. The mask is invariant if the
      scores are.
    kept: the previous mask; entries that are 0 there are pruned first.
    count: the exact number of entries to prune; among equal scores, the first
      ones are pruned.

  Returns:
    A pytree like the weights: 1 for kept entries and for other weights than
    kernels, 0 for pruned entries.
  """
  kernels = are_kernels(spec, scores)
  ordered, structure = jax.tree.flatten(
    jax.tree.map(lambda s, k: jnp.where(k > 0, s, -1), scores, kept)
  )
  flat = jnp.concatenate(
    [s.ravel() for s, k in zip(ordered, kernels, strict=True) if k]
  )
  rank = (
    jnp.zeros(flat.size, int).at[jnp.argsort(flat)].set(jnp.arange(flat.size))
  )
  mask = (rank >= count).astype(flat.dtype)
  masks, start = [], 0
  for s, is_kernel in zip(ordered, kernels, strict=True):
    if is_kernel:
      masks.append(mask[start : start + s.size].reshape(s.shape))
      start += s.size
    else:
      masks.append(jnp.ones_like(s))
  return jax.tree.unflatten(structure, masks)
