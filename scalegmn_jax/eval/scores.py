"""What is measured of a population of edited networks: one row of a table."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Networks, TargetNetwork, Weights
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.symmetry import gauge

Array = np.ndarray | jax.Array

THRESHOLD = 1e-3
"""Weights below it in the balanced gauge count as pruned."""


class Scores(NamedTuple):
  """Per network [B], on one set of images.

  Attributes:
    objective: cross-entropy + λ·balanced L1. Invariant.
    objective_plain: cross-entropy + λ·plain L1. Not invariant under scaling.
    cross_entropy: nats per image; with a teacher, divergence from its outputs.
    l1, l1_balanced: ‖θ‖₁ as stored, and its minimum over the gauge.
    accuracy: share of images of the network's task; labels are right, also
      where a teacher's outputs are the target.
    sparsity: share of weights below `THRESHOLD` in the balanced gauge.
    accuracy_pruned: accuracy once those are zero.
    predictions: [B, N] int32, -1 of images that are not in the task.
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


def _below(weights: Weights, threshold) -> Weights:
  return jax.tree.map(
    lambda w: jnp.where(jnp.abs(w) < threshold, 0, w), weights
  )


def map_networks(f: Callable[..., Any], zoo: Any, *shared: Any) -> Any:
  """f(network, *shared) of every network, stacked: leaves [B, ...].

  One after the other, so that one program serves populations of all sizes and
  memory does not grow with them.
  """
  host = jax.device_get(zoo)
  count = jax.tree.leaves(host)[0].shape[0]
  results = [
    f(jax.tree.map(lambda a, i=i: a[i], host), *shared) for i in range(count)
  ]
  return jax.tree.map(lambda *a: np.stack(a), *jax.device_get(results))


def make_scorer(
  target: TargetNetwork, *, l1: float
) -> Callable[[Networks, jax.Array, jax.Array], Scores]:
  """(zoo, images, labels) -> `Scores`."""

  @jax.jit
  def one(network, images, labels):
    def measure(network, weights):
      return fits.evaluate_network(
        target.apply, network._replace(weights=weights), images, labels
      )

    even = gauge.balance(target.spec, network.weights, network.activation)
    pruned = _below(even, THRESHOLD)
    ce, accuracy, predictions = measure(network, network.weights)
    labelled = network._replace(teacher=None)
    if network.teacher is not None:
      _, accuracy, _ = measure(labelled, network.weights)
    _, accuracy_pruned, _ = measure(labelled, pruned)
    plain, least = gauge.l1(network.weights), gauge.l1(even)
    return Scores(
      objective=ce + l1 * least,
      objective_plain=ce + l1 * plain,
      cross_entropy=ce,
      l1=plain,
      l1_balanced=least,
      accuracy=accuracy,
      sparsity=(jax.flatten_util.ravel_pytree(pruned)[0] == 0).mean(),
      accuracy_pruned=accuracy_pruned,
      predictions=predictions,
    )

  return lambda zoo, *data: map_networks(one, zoo, *data)


def score_row(
  method: str,
  scores: Scores,
  original: Scores,
  *,
  seconds_alone: float = 0.0,
  seconds_batched: float = 0.0,
  data_passes: float = 0.0,
) -> dict[str, Any]:
  """A row of `results.json`: means over networks.

  Args:
    method: its name.
    scores: of the edited networks.
    original: of the networks as they were, for the agreement of predictions
      and the change of accuracy.
    seconds_alone, seconds_batched: per network, when edited one at a time and
      all side by side.
    data_passes: how often the method reads the training images per network.
  """
  inside = original.predictions >= 0
  agreement = (scores.predictions == original.predictions)[inside].mean()
  accuracy = scores.accuracy
  return {
    "method": method,
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
  """(zoo, images, labels) -> mean accuracy [len(shares)] when that share of
  each network's smallest weights in the balanced gauge is zero."""

  @jax.jit
  def at(zoo, images, labels):
    def read(weights, activation):
      even = gauge.balance(target.spec, weights, activation)
      return even, jnp.sort(jnp.abs(jax.flatten_util.ravel_pytree(even)[0]))

    even, sizes = jax.vmap(read)(zoo.weights, zoo.activation)

    def accuracy(share):
      def prune(weights, sizes):
        cut = (share * sizes.size).astype(int)
        threshold = jnp.where(cut > 0, sizes[cut - 1], -1.0)
        return jax.tree.map(
          lambda w: jnp.where(jnp.abs(w) <= threshold, 0, w), weights
        )

      pruned = zoo._replace(weights=jax.vmap(prune)(even, sizes), teacher=None)
      return fits.evaluate_networks(target.apply, pruned, images, labels)[
        1
      ].mean()

    return jax.lax.map(accuracy, jnp.asarray(shares, jnp.float32))

  return lambda *args: np.asarray(at(*args))
