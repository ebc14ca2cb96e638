"""Standardized weights as inputs of metanetworks without scale symmetry.

The permutation-only model of the PyTorch implementation does not train without
standardization, and a baseline that does not train shows nothing. For a model
with scale symmetry, standardization would break the symmetry.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import (
  BatchFunctional,
  Functional,
  MetaNetwork,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.graph.batch.dataset import GraphDataset
from scalegmn_jax.symmetry.spec import keep_statistics


def standardized_operator(
  operator: Operator, target: TargetNetwork, weights: Weights, *, per: str
) -> Operator:
  """An operator f on standardized weights: θ' = μ + σ f((θ - μ)/σ).

  μ and σ are constant entries of φ: φ alone determines the function, and one
  compiled program serves all sets of training networks.

  Running statistics are not updated: variances stay positive.

  Args:
    operator: f.
    target: the architecture.
    weights: weights of the training networks, leaves [B, ...].
    per: "tensor" for one μ and σ per weight tensor, which preserves permutation
      symmetry, or "entry" for one per entry.
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    mean, std = _mean_and_std(params, weights)
    standard = jax.tree.map(lambda w, m, s: (w - m) / s, weights, mean, std)
    edited = operator.apply(params["model"], standard, activation)
    edited = jax.tree.map(lambda w, m, s: m + s * w, edited, mean, std)
    return keep_statistics(target.spec, weights, edited)

  return Operator(_init(operator, weights, per), apply)


def standardized_functional(
  functional: Functional, weights: Weights, *, per: str
) -> Functional:
  """A functional f on standardized weights: f((θ - μ)/σ).

  Args:
    functional: f.
    weights: weights of the training networks, leaves [B, ...].
    per: "tensor" or "entry", see `standardized_operator`.
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    mean, std = _mean_and_std(params, weights)
    standard = jax.tree.map(lambda w, m, s: (w - m) / s, weights, mean, std)
    return functional.apply(params["model"], standard, activation)

  return Functional(_init(functional, weights, per), apply)


def _init(
  metanetwork: MetaNetwork, weights: Weights, per: str
) -> Callable[[jax.Array], Params]:
  """Adds μ and σ of stacked weights to φ: the `init` of the result.

  μ and σ are vectors or scalars, because weight decay acts on matrices.
  """

  def statistics(function):
    return jax.tree.map(
      lambda w: function(
        w.reshape(w.shape[0], -1), 0 if per == "entry" else None
      ),
      weights,
    )

  mean = statistics(jnp.mean)
  std = statistics(lambda w, axis: jnp.std(w, axis) + 1e-6)

  def init(key):
    return {"model": metanetwork.init(key), "mean": mean, "std": std}

  return init


def _mean_and_std(params: Params, weights: Weights) -> tuple[Weights, Weights]:
  """(μ, σ) in shapes that broadcast with the weights of one network."""

  def fit(statistic, w):
    statistic = jax.lax.stop_gradient(statistic)
    return statistic.reshape(w.shape) if statistic.ndim else statistic

  mean, std = (
    jax.tree.map(fit, params[name], weights) for name in ("mean", "std")
  )
  return mean, std


def select_head(functional: Functional, activations: int) -> Functional:
  """A functional with one head per activation.

  ScaleGMN depends on the activation through its group. A functional without
  such a group sees the activation only by the choice of the head.

  Args:
    functional: weights -> [A K].
    activations: A, the number of activations.

  Returns:
    weights -> [K].
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    heads = functional.apply(params, weights, activation)
    return heads.reshape(activations, -1)[activation]

  return Functional(functional.init, apply)


def standardized_batch_functional(
  functional: BatchFunctional,
  dataset: GraphDataset,
  networks: np.ndarray,
) -> BatchFunctional:
  """A functional on batches with normalized features and heads per activation.

  Biases and kernel entries are divided by their root mean square over all
  vertices or edges of the same type. No mean is subtracted: kernel slots that
  are not used stay zero.

  Args:
    functional: batch -> [G, A K] for A activations.
    dataset: the networks.
    networks: indices of the training networks in the dataset.

  Returns:
    batch -> [G, K].
  """
  rms_vertex, rms_edge = map(jnp.asarray, _root_mean_squares(dataset, networks))
  activations = len(dataset.schema.activations)

  def apply(params, batch):
    nodes, edges = batch.graph.nodes, batch.graph.edges
    bias = nodes["bias"] / rms_vertex[nodes["type"]][:, None]
    kernel = edges["kernel"] / rms_edge[edges["type"]][:, None]
    graph = batch.graph._replace(
      nodes=nodes | {"bias": bias}, edges=edges | {"kernel": kernel}
    )
    heads = functional.apply(params, dataclasses.replace(batch, graph=graph))
    heads = heads.reshape(len(heads), activations, -1)
    activation = batch.graph.globals["activation"][:, None, None]
    return jnp.take_along_axis(heads, activation, axis=1)[:, 0]

  return BatchFunctional(functional.init, apply)


def _root_mean_squares(
  dataset: GraphDataset, networks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Root mean squares of nonzero biases per vertex type and of nonzero kernel
  entries per edge type; 1 for types without nonzero values."""
  sums = [np.zeros((2, n)) for n in dataset.schema.features[:2]]
  for network in networks:
    graph = dataset.graph(network)
    for total, rows, values in (
      (sums[0], graph.nodes["type"], graph.nodes["bias"]),
      (sums[1], graph.edges["type"], graph.edges["kernel"]),
    ):
      for i, row in enumerate((np.square(values), values != 0)):
        total[i] += np.bincount(rows, row.sum(1), len(total[i]))
  rms_vertex, rms_edge = (
    np.sqrt(np.where(count > 0, square / np.maximum(count, 1), 1))
    for square, count in sums
  )
  return rms_vertex.astype(np.float32), rms_edge.astype(np.float32)
