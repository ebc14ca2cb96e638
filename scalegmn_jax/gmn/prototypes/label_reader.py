"""Reading which class each output of a network stands for.

A network is probed: its outputs on learned inputs show its classes, as in
Kahana et al. 2024, "Deep Linear Probe Generators for Weight Space Learning"
(arXiv:2410.10811). Outputs on fixed inputs are functions of the weights; no
data is read. `data_init.init_from_data` initializes the probes with images.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import Params, Weights
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn.modules import Module


def class_scores(probs: jax.Array, keys: jax.Array) -> jax.Array:
  """Scores [K, C] of every output for every class.

  Args:
    probs: [P, K], the probabilities of the network on every probe.
    keys: [P, C], what each probe says for each class.
  """
  return probs.T @ keys


def presence_features(
  scores: jax.Array, shares: jax.Array, *, class_combinations: bool
) -> jax.Array:
  """How much each class stands out, [C, F]: features of its presence.

  Args:
    scores: [K, C], see `class_scores`.
    shares: [K, C], softmax of the scores over outputs.
    class_combinations: add the lead of each class over the other classes of
      its output.

  Returns:
    The sorted scores of the outputs, and the lead; invariant to the order of
    outputs.
  """
  features = jnp.sort(scores, axis=0).T
  if not class_combinations:
    return features
  first, second = jnp.split(jax.lax.top_k(scores, 2)[0], 2, axis=1)
  runner_up = jnp.where(scores == first, second, first)
  lead = (shares * (scores - runner_up)).sum(0)
  return jnp.concatenate([features, lead[:, None]], axis=1)


def with_empty(shares: jax.Array) -> jax.Array:
  """Appends the share of outputs without any class: [K, C] -> [K, C + 1]."""
  empty = jnp.prod(1 - shares, axis=1, keepdims=True)
  return jnp.concatenate([shares, empty], axis=1)


def confidence(probs: jax.Array) -> jax.Array:
  """The largest probability of each probe, standardized over the probes.

  Args:
    probs: [..., P, K].

  Returns:
    [..., P] of mean zero and variance one, invariant to the order of outputs.
  """
  largest = probs.max(-1)
  spread = largest.std(-1, keepdims=True) + 1e-3
  return (largest - largest.mean(-1, keepdims=True)) / spread


def learned_inputs(params: Params) -> jax.Array | None:
  """The probes [P, ...] of an operator with φ `params`; None if it has none."""
  classes = params.get("prototypes", {}).get("classes", {})
  return classes.get("probes")


class ClassReader(Module):
  """Reads which class of the images each output of a network stands for.

  Attributes:
    apply_network: (weights, inputs, activation) -> outputs [P, K].
    input_shape: shape of one input.
    count: C, the number of classes.
    probes: P, the number of inputs.
    class_combinations: networks may lack classes, or have several classes at
      one output. The presence of a class then also depends on its lead over
      the other classes of its output.
  """

  apply_network: Callable[..., jax.Array]
  input_shape: tuple[int, ...]
  count: int
  probes: int
  class_combinations: bool

  @nn.compact
  def __call__(
    self, weights: Weights, activation: jax.Array | int
  ) -> tuple[jax.Array, jax.Array]:
    """Assigns classes to outputs.

    Returns:
      A [K, C + 1] -> πA for a permutation π of the outputs, and the
      `confidence` [P]. Column c says at which output class c is; it sums to at
      most one, and is shared among outputs where the network leaves it open.
      The last column marks the outputs without a class.
    """
    probes = self.make(
      "probes", layers.Normal((self.probes, *self.input_shape), std=0.5)
    )
    # Small, so that shares begin nearly even: a softmax does not let go of a
    # random choice.
    std = 0.6 / self.probes**0.5
    keys = self.make("keys", layers.Normal((self.probes, self.count), std=std))
    probs = jax.nn.softmax(self.apply_network(weights, probes, activation))
    scores = class_scores(probs, keys)
    shares = jax.nn.softmax(scores, axis=0)
    features = presence_features(
      scores, shares, class_combinations=self.class_combinations
    )
    # One MLP for all classes.
    there = self.make(
      "there", layers.mlp_params(features.shape[1], 16, 1, offset=2.0)
    )
    shares *= jax.nn.sigmoid(layers.mlp(there, features)).T
    return with_empty(shares), confidence(probs)
