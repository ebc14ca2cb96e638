"""Scores of edited networks on a set of images, and rows of tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Network,
  Networks,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import keep_statistics, trained

Array = np.ndarray | jax.Array

THRESHOLD = 1e-3
"""Weights below it in the balanced gauge count as pruned."""


class Scores(NamedTuple):
  """Scores of B networks on one set of images; arrays [B].

  Attributes:
    objective: cross-entropy + λ·balanced L1. Invariant.
    objective_plain: cross-entropy + λ·plain L1. Not invariant under scaling.
    cross_entropy: nats per image; the KL divergence from the outputs of the
      teacher if there is one.
    l1: ‖θ‖₁ of the weights as stored.
    l1_balanced: the minimum of ‖θ‖₁ over the gauge.
    accuracy: share of images with the right label, also if there is a teacher;
      images whose class the network does not have are not counted.
    sparsity: share of trained weights below `THRESHOLD` in the balanced gauge.
    accuracy_pruned: accuracy with these weights set to zero.
    predictions: [B, N] int32; -1 for images whose class the network does not
      have.
  """

  objective: Array
  objective_plain: Array
  cross_entropy: Array
  l1: Array
  l1_balanced: Array
  accuracy: Array
  sparsity: Array
  accuracy_pruned: Array
  predictions: Array


def make_scorer(
  target: TargetNetwork, *, l1: float
) -> Callable[[Networks, jax.Array, jax.Array], Scores]:
  """Makes a function that scores networks.

  Args:
    target: the architecture.
    l1: λ.

  Returns:
    (networks, images [N, ...], labels [N]) -> `Scores`, in host memory. One
    compiled program serves any number of networks.
  """

  def score_one(data: tuple[jax.Array, jax.Array], network: Network) -> Scores:
    def evaluate(network, weights):
      return evaluate_network(
        target.apply, network._replace(weights=weights), *data
      )

    balanced = gauge.balance(target.spec, network.weights, network.activation)
    pruned = _zero(target.spec, balanced, lambda w: jnp.abs(w) < THRESHOLD)
    ce, accuracy, predictions = evaluate(network, network.weights)
    labelled = network._replace(teacher=None)
    if network.teacher is not None:
      _, accuracy, _ = evaluate(labelled, network.weights)
    _, accuracy_pruned, _ = evaluate(labelled, pruned)
    plain, least = (
      gauge.l1(target.spec, w) for w in (network.weights, balanced)
    )
    return Scores(
      objective=ce + l1 * least,
      objective_plain=ce + l1 * plain,
      cross_entropy=ce,
      l1=plain,
      l1_balanced=least,
      accuracy=accuracy,
      sparsity=(_flat(target.spec, pruned) == 0).mean(),
      accuracy_pruned=accuracy_pruned,
      predictions=predictions,
    )

  score = batched.apply_batched(score_one, batch_size=1)
  return lambda networks, images, labels: jax.device_get(
    score((images, labels), networks)
  )


def _flat(spec: SymmetrySpec, weights: Weights) -> jax.Array:
  """All trained weights as a vector."""
  return jnp.concatenate([w.ravel() for w in trained(spec, weights)])


def _zero(
  spec: SymmetrySpec,
  weights: Weights,
  where: Callable[[jax.Array], jax.Array],
) -> Weights:
  """Sets trained weights to zero."""
  zeroed = jax.tree.map(lambda w: jnp.where(where(w), 0, w), weights)
  return keep_statistics(spec, weights, zeroed)


def score_row(
  keys: Mapping[str, Any],
  scores: Scores,
  original: Scores,
  *,
  seconds_alone: float = 0.0,
  seconds_batched: float = 0.0,
  data_passes: float = 0.0,
) -> dict[str, Any]:
  """A row of results: the keys of a method and statistics over networks.

  Args:
    keys: identify the method, such as {"method": "adam", "epochs": 50}.
    scores: scores of the edited networks.
    original: scores of the original networks, for the agreement of predictions
      and the change of accuracy.
    seconds_alone: seconds per network if networks are edited one at a time.
    seconds_batched: seconds per network if all networks are edited together.
    data_passes: passes of the method over the training images per network.
  """
  counted = original.predictions >= 0
  agreement = (scores.predictions == original.predictions)[counted].mean()
  accuracy = scores.accuracy
  return {
    **keys,
    "objective": float(scores.objective.mean()),
    "cross_entropy": float(scores.cross_entropy.mean()),
    "objective_plain": float(scores.objective_plain.mean()),
    "l1": float(scores.l1.mean()),
    "l1_balanced": float(scores.l1_balanced.mean()),
    "accuracy_mean": float(accuracy.mean()),
    "accuracy_std": float(accuracy.std()),
    "accuracy_min": float(accuracy.min()),
    "accuracy_change_min": float((accuracy - original.accuracy).min()),
    "sparsity": float(scores.sparsity.mean()),
    "accuracy_pruned": float(scores.accuracy_pruned.mean()),
    "agreement": float(agreement),
    "seconds_alone": seconds_alone,
    "seconds_batched": seconds_batched,
    "data_passes": data_passes,
  }


def accuracy_at_sparsity(
  target: TargetNetwork, shares: Sequence[float]
) -> Callable[[Networks, jax.Array, jax.Array], np.ndarray]:
  """Makes a function that measures accuracy against sparsity.

  Args:
    target: the architecture.
    shares: shares of the trained weights of each network that are set to zero,
      the smallest in the balanced gauge first.

  Returns:
    (networks, images [N, ...], labels [N]) -> accuracy [len(shares), B].
  """

  def at_shares(data, network):
    weights = gauge.balance(target.spec, network.weights, network.activation)
    sizes = jnp.sort(jnp.abs(_flat(target.spec, weights)))

    def accuracy(share):
      count = (share * sizes.size).astype(int)
      threshold = jnp.where(count > 0, sizes[count - 1], -1.0)
      pruned = _zero(target.spec, weights, lambda w: jnp.abs(w) <= threshold)
      return evaluate_network(
        target.apply, network._replace(weights=pruned), *data
      )[1]

    return jax.lax.map(accuracy, jnp.asarray(shares, jnp.float32))

  apply = batched.apply_batched(at_shares, in_turn=True)
  return lambda networks, images, labels: (
    np.asarray(apply((images, labels), networks._replace(teacher=None))).T
  )
