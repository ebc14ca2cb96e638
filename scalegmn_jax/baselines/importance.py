"""Which weights of a network matter: what pruning keeps.

Kernels are pruned; biases, one or two of a hundred weights, are neither pruned
nor counted. The entries that are kept are those of the highest scores in the
whole network, not layer by layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Networks, TargetNetwork, Weights
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.symmetry import gauge

Score = Callable[[Networks, jax.Array, jax.Array], Weights]
"""(one network, images, labels) -> a number >= 0 per weight: the importance."""


def magnitude(target: TargetNetwork, *, power: int = 2) -> Score:
  """|w|^p in the gauge in which Σ|w|^p is least. Invariant under positive
  scaling: that gauge does not depend on where on its orbit a network is. For
  the other groups, which leave |w| alone, |w|^p as it is.

  The gauge decides how the layers share the weights that are kept. For p = 1
  each neuron's incoming and outgoing weights have the same sum of |w|, so those
  of a layer with many are small and all of them may go (16-16 CNNs on digits,
  90 % pruned: 0.7 % of the middle layer's 2,304 weights are left, 3.5 % with
  p = 2). Training itself drives networks towards p = 2: gradient flow keeps the
  difference of the sums of squares, and weight decay removes it.

  Args:
    target: the architecture.
    power: p.
  """

  def score(network, images, labels):
    del images, labels
    # Of moderate size whatever the gauge: powers of it do not underflow.
    even = gauge.balance(target.spec, network.weights, network.activation)
    powers = jax.tree.map(lambda w: jnp.abs(w) ** power, even)
    return gauge.balance(target.spec, powers, network.activation)

  return score


def magnitude_as_stored(network: Networks, images, labels) -> Weights:
  """|w| as it is. Not invariant: with multipliers that differ between neurons
  any weight that is not zero can be made the largest."""
  del images, labels
  return jax.tree.map(jnp.abs, network.weights)


def snip(target: TargetNetwork, *, images: int) -> Score:
  """|w ∂L/∂w| of the cross-entropy on the first `images` training images.

  Invariant under positive scaling: w carries q_i/q_j and ∂L/∂w its inverse.

  Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection
  Sensitivity", ICLR 2019, arXiv:1810.02340, eq. 3 and 6 without the
  normalization, which does not change the order; there of a network at its
  initialization, here of a trained one.
  """

  def score(network, x, y):
    x, y = x[:images], y[:images]

    def loss(weights):
      return fits.evaluate_network(
        target.apply, network._replace(weights=weights), x, y
      )[0]

    gradient = jax.grad(loss)(network.weights)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), network.weights, gradient)

  return score


def kernels(weights: Weights) -> int:
  """Number of the weights of one network that count."""
  return sum(w.size for w in jax.tree.leaves(weights) if w.ndim > 1)


def keep_highest(
  scores: Weights, kept: Weights, count: jax.Array | int
) -> Weights:
  """The mask of a network without its least important kernel entries.

  Args:
    scores: >= 0, a pytree like the weights; a mask carries nothing: it is as
      invariant as they are.
    kept: the mask before; what is 0 there goes first.
    count: entries to prune, exactly; among equals the first ones.

  Returns:
    1 for what is kept, 0 for what is pruned. Biases are kept.
  """
  ordered = jax.tree.map(lambda s, k: jnp.where(k > 0, s, -1), scores, kept)
  leaves, structure = jax.tree.flatten(ordered)
  flat = jnp.concatenate([s.ravel() for s in leaves if s.ndim > 1])
  rank = (
    jnp.zeros(flat.size, int).at[jnp.argsort(flat)].set(jnp.arange(flat.size))
  )
  mask = (rank >= count).astype(flat.dtype)
  masks, start = [], 0
  for s in leaves:
    if s.ndim > 1:
      masks.append(mask[start : start + s.size].reshape(s.shape))
      start += s.size
    else:
      masks.append(jnp.ones_like(s))
  return jax.tree.unflatten(structure, masks)
