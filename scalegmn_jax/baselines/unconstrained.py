"""Metanetworks without the scale symmetry, to be measured beside ScaleGMN.

They see standardized weights: the reference's permutation-only model does not
train without, and a baseline that does not train shows nothing. For a model
that is equivariant to scaling, standardization would break the symmetry.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.flatten_util
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
from scalegmn_jax.gmn import layers
from scalegmn_jax.graph.batch.dataset import GraphDataset


def standardized_operator(
  operator: Operator, weights: Weights, *, per: str
) -> Operator:
  """θ' = μ + σ f((θ - μ)/σ): an operator f on standardized weights.

  μ and σ are a part of φ that is not trained: φ alone says what is computed,
  and one program serves all sets of training networks.

  Args:
    operator: f.
    weights: of the training networks, leaves [B, ...].
    per: "tensor" for one μ and σ per weight tensor, as a permutation symmetry
      needs, or "entry" for one per entry.
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    mean, std = _read(params, weights)
    standard = jax.tree.map(lambda w, m, s: (w - m) / s, weights, mean, std)
    edited = operator.apply(params["model"], standard, activation)
    return jax.tree.map(lambda w, m, s: m + s * w, edited, mean, std)

  return Operator(_init(operator, weights, per), apply)


def standardized_functional(
  functional: Functional, weights: Weights, *, per: str
) -> Functional:
  """f((θ - μ)/σ): a functional on standardized weights.

  The arguments are those of `standardized_operator`.
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    mean, std = _read(params, weights)
    standard = jax.tree.map(lambda w, m, s: (w - m) / s, weights, mean, std)
    return functional.apply(params["model"], standard, activation)

  return Functional(_init(functional, weights, per), apply)


def _init(
  metanetwork: MetaNetwork, weights: Weights, per: str
) -> Callable[[jax.Array], Params]:
  """key -> φ with the statistics of stacked weights in it.

  They are vectors, or scalars, since weight decay acts on kernels.
  """

  def statistics(of):
    return jax.tree.map(
      lambda w: of(w.reshape(w.shape[0], -1), 0 if per == "entry" else None),
      weights,
    )

  mean = statistics(jnp.mean)
  std = statistics(lambda w, axis: jnp.std(w, axis) + 1e-6)

  def init(key):
    return {"model": metanetwork.init(key), "mean": mean, "std": std}

  return init


def _read(params: Params, weights: Weights) -> tuple[Weights, Weights]:
  """(μ, σ), to be broadcast with the weights of one network."""

  def fit(statistic, w):
    statistic = jax.lax.stop_gradient(statistic)
    return statistic.reshape(w.shape) if statistic.ndim else statistic

  mean, std = (
    jax.tree.map(fit, params[name], weights) for name in ("mean", "std")
  )
  return mean, std


def select_head(functional: Functional, activations: int) -> Functional:
  """A functional with a head for each activation of the zoo.

  ScaleGMN reads a network under the group of its activation; rivals that have
  no group would not know it otherwise.

  Args:
    functional: weights -> [A K].
    activations: A.

  Returns:
    weights -> [K].
  """

  def apply(params, weights, activation: jax.Array | int = 0):
    heads = functional.apply(params, weights, activation)
    return heads.reshape(activations, -1)[activation]

  return Functional(functional.init, apply)


def standardized_batch_functional(
  functional: BatchFunctional,
  population: GraphDataset,
  networks: np.ndarray,
) -> BatchFunctional:
  """A functional on batches, of features divided by their size, with a head for
  each activation.

  Biases are divided by the root mean square of those at vertices of the same
  id, and kernels by that of the weights on edges of the same id. No mean is
  subtracted, since the slots that a kernel does not fill are to stay zero.

  Args:
    functional: batch -> [G, A K] of A activations.
    population: of the networks.
    networks: the numbers of those in training.

  Returns:
    batch -> [G, K].
  """
  of_vertex, of_edge = map(
    jnp.asarray, _root_mean_squares(population, networks)
  )
  activations = len(population.schema.activations)

  def apply(params, batch):
    nodes, edges = batch.graph.nodes, batch.graph.edges
    bias = nodes["bias"] / of_vertex[nodes["type"]][:, None]
    kernel = edges["kernel"] / of_edge[edges["type"]][:, None]
    graph = batch.graph._replace(
      nodes=nodes | {"bias": bias}, edges=edges | {"kernel": kernel}
    )
    heads = functional.apply(params, dataclasses.replace(batch, graph=graph))
    heads = heads.reshape(len(heads), activations, -1)
    chosen = batch.graph.globals["activation"][:, None, None]
    return jnp.take_along_axis(heads, chosen, axis=1)[:, 0]

  return BatchFunctional(functional.init, apply)


def _root_mean_squares(
  population: GraphDataset, networks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Of the numbers that are not 0 at each id of vertices, and of edges; 1 where
  there are none."""
  sums = [np.zeros((2, n)) for n in population.schema.features[:2]]
  for network in networks:
    graph = population.graph(network)
    for total, rows, values in (
      (sums[0], graph.nodes["type"], graph.nodes["bias"]),
      (sums[1], graph.edges["type"], graph.edges["kernel"]),
    ):
      for i, of_row in enumerate((np.square(values), values != 0)):
        total[i] += np.bincount(rows, of_row.sum(1), len(total[i]))
  of_vertex, of_edge = (
    np.sqrt(np.where(count > 0, square / np.maximum(count, 1), 1))
    for square, count in sums
  )
  return of_vertex.astype(np.float32), of_edge.astype(np.float32)


def flat_operator(
  target: TargetNetwork, *, width: int, step: float = 0.01
) -> Operator:
  """θ' = θ + α MLP(θ) on the flat weights: equivariant to nothing.

  Args:
    target: the architecture.
    width: of the hidden layers.
    step: initial α.
  """
  size = _size(target)
  init_mlp, mlp = _mlp(size, width, size)

  def init(key):
    return init_mlp(key) | {"step": jnp.full((), step)}

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    return unravel(flat + params["step"] * mlp(params, flat))

  return Operator(init, apply)


def flat_functional(
  target: TargetNetwork, *, width: int, outputs: int = 1
) -> Functional:
  """MLP(θ) on the flat weights [outputs]: invariant to nothing.

  Args:
    target: the architecture.
    width: of the hidden layers.
    outputs: how many numbers.
  """
  init, mlp = _mlp(_size(target), width, outputs)

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    return mlp(params, jax.flatten_util.ravel_pytree(weights)[0])

  return Functional(init, apply)


def _size(target: TargetNetwork) -> int:
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _mlp(
  d_in: int, width: int, d_out: int
) -> tuple[
  Callable[[jax.Array], dict], Callable[[Params, jax.Array], jax.Array]
]:
  """(init, apply) of an MLP with three hidden layers: [d_in] -> [d_out]."""

  def init(key):
    params = {
      "in": layers.mlp_params(d_in, width, width),
      "out": layers.mlp_params(width, width, d_out),
    }
    return layers.init(key, params)

  def apply(params, x):
    return layers.mlp(params["out"], layers.mlp(params["in"], x))

  return init, apply
