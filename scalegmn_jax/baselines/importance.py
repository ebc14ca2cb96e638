"""Importance scores of weights, by which pruning selects.

Kernels are pruned; biases, one or two percent of the weights, scales and
running statistics are neither pruned nor counted. Pruning keeps the entries
with the highest scores in the whole network, not layer by layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Network, SymmetrySpec, TargetNetwork, Weights
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import leaves

Score = Callable[[Network, jax.Array, jax.Array], Weights]
"""(network, images, labels) -> the importance of each weight, at least 0."""


def magnitude(target: TargetNetwork, *, power: int = 2) -> Score:
  """|w|^p in the gauge that minimizes Σ|w|^p.

  Invariant under positive scaling, because this gauge does not depend on the
  position of the network on its orbit. The other groups leave |w| unchanged.

  The gauge decides how the kept weights are distributed over the layers. For
  p = 1, each neuron's incoming and outgoing weights have the same sum of |w|;
  the weights of a layer with many weights are then small, and all of them may
  be pruned (16-16 CNNs on digits, 90 % pruned: 0.7 % of the 2,304 weights of
  the middle layer are left, 3.5 % with p = 2). Training drives networks towards
  p = 2: gradient flow conserves the difference of the sums of squares, and
  weight decay removes it.

  Args:
    target: the architecture.
    power: p.
  """

  def score(network, images, labels):
    del images, labels
    # Balance first: powers of balanced weights do not underflow.
    balanced = gauge.balance(target.spec, network.weights, network.activation)
    powers = jax.tree.map(lambda w: jnp.abs(w) ** power, balanced)
    return gauge.balance(target.spec, powers, network.activation)

  return score


def magnitude_as_stored(
  network: Network, images: jax.Array, labels: jax.Array
) -> Weights:
  """|w| of the stored weights.

  Not invariant: multipliers can make any nonzero weight the largest.
  """
  del images, labels
  return jax.tree.map(jnp.abs, network.weights)


def snip(target: TargetNetwork, *, images: int) -> Score:
  """|w ∂L/∂w| of the cross-entropy on the first `images` training images.

  Invariant under positive scaling: w → q w gives ∂L/∂w → ∂L/∂w / q.

  Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection
  Sensitivity", ICLR 2019, arXiv:1810.02340, eq. 3 and 6 without the
  normalization, which does not change the order. The paper scores networks at
  initialization; here the networks are trained.

  Args:
    target: the architecture.
    images: number of images.
  """

  def score(network, x, y):
    x, y = x[:images], y[:images]

    def loss(weights):
      return evaluate_network(
        target.apply, network._replace(weights=weights), x, y
      )[0]

    gradient = jax.grad(loss)(network.weights)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), network.weights, gradient)

  return score


def _are_kernels(spec: SymmetrySpec, weights: Weights) -> list[bool]:
  """Whether each weight, in order, is a kernel: a matrix, not one number per
  neuron."""
  return [
    weight.ndim > 1
    and not axes.statistic
    and all(axis.kind != "scales" for axis in axes.acting())
    for _, weight, axes in leaves(spec, weights)
  ]


def kernels(spec: SymmetrySpec, weights: Weights) -> int:
  """Number of kernel entries of one network."""
  are_kernels = _are_kernels(spec, weights)
  sizes = [w.size for w in jax.tree.leaves(weights)]
  return sum(n for n, k in zip(sizes, are_kernels, strict=True) if k)


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
  are_kernels = _are_kernels(spec, scores)
  ordered, structure = jax.tree.flatten(
    jax.tree.map(lambda s, k: jnp.where(k > 0, s, -1), scores, kept)
  )
  flat = jnp.concatenate(
    [s.ravel() for s, k in zip(ordered, are_kernels, strict=True) if k]
  )
  rank = (
    jnp.zeros(flat.size, int).at[jnp.argsort(flat)].set(jnp.arange(flat.size))
  )
  mask = (rank >= count).astype(flat.dtype)
  masks, start = [], 0
  for s, is_kernel in zip(ordered, are_kernels, strict=True):
    if is_kernel:
      masks.append(mask[start : start + s.size].reshape(s.shape))
      start += s.size
    else:
      masks.append(jnp.ones_like(s))
  return jax.tree.unflatten(structure, masks)
