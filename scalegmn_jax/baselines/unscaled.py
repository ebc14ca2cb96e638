"""Operators without the scale symmetry, to be measured beside ScaleGMN.

They see standardized weights: the reference's permutation-only model does not
train without, and a baseline that does not train shows nothing. For a model
that is equivariant to scaling, standardization would break the symmetry.
"""

import jax
import jax.flatten_util

from scalegmn_jax.base import MetaNetwork, TargetNetwork, Weights
from scalegmn_jax.gmn import layers


def standardized(
  metanetwork: MetaNetwork, weights: Weights, *, per: str
) -> MetaNetwork:
  """θ' = μ + σ f((θ - μ)/σ): an operator f on standardized weights.

  Args:
    metanetwork: f.
    weights: of the training networks, leaves [B, ...].
    per: "tensor" for one μ and σ per weight tensor, as a permutation symmetry
      needs, or "entry" for one per entry.
  """

  def statistics(w):
    axes = 0 if per == "entry" else tuple(range(w.ndim))
    return w.mean(axes), w.std(axes) + 1e-6

  pairs = jax.tree.map(statistics, weights)
  mean = jax.tree.map(lambda _, p: p[0], weights, pairs)
  std = jax.tree.map(lambda _, p: p[1], weights, pairs)

  def apply(params, weights, activation=0):
    standard = jax.tree.map(lambda w, m, s: (w - m) / s, weights, mean, std)
    edited = metanetwork.apply(params, standard, activation)
    return jax.tree.map(lambda w, m, s: m + s * w, edited, mean, std)

  return MetaNetwork(metanetwork.init, apply)


def flat_mlp(
  target: TargetNetwork, *, width: int, step: float = 0.01
) -> MetaNetwork:
  """θ' = θ + α MLP(θ) on the flat weights: equivariant to nothing.

  Args:
    target: the architecture.
    width: of the hidden layers.
    step: initial α.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  size = sum(leaf.size for leaf in jax.tree.leaves(shapes))

  def init(key):
    params = {
      "in": layers.mlp_params(size, width, width),
      "out": layers.mlp_params(width, width, size),
      "step": layers.Normal((), step),
    }
    return layers.init(key, params)

  def apply(params, weights, activation=0):
    del activation
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    h = layers.mlp(params["out"], layers.mlp(params["in"], flat))
    return unravel(flat + params["step"] * h)

  return MetaNetwork(init, apply)
