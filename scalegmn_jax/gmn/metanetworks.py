"""Operators and functionals: ScaleGMN as flax modules and as `MetaNetwork`s.

The modules own the parameters and their names; what they compute is in
`layers`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, MetaNetwork, TargetNetwork
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn import reading as readings
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.interface import GraphWiring
from scalegmn_jax.graph.topology import Topology, topology_of
from scalegmn_jax.graph.wiring import Wiring
from scalegmn_jax.symmetry import canonical


class _Module(nn.Module):
  """A flax module whose parameters are those of `layers`."""

  def make(self, name: str, params: Any) -> Any:
    return self.param(name, lambda key: layers.init(key, params))


class Body(_Module):
  """Embedding and message passing.

  Attributes:
    width: d.
    depth: message passing layers.
    bidirectional: messages also pass against the edges.
    writes: edges are written, for an operator: updates of edges have their
      second term, and the last layer has one as well.
  """

  width: int
  depth: int
  bidirectional: bool
  writes: bool

  @nn.compact
  def __call__(
    self, wiring: GraphWiring, reading: readings.Reading
  ) -> tuple[jax.Array, jax.Array]:
    """A graph -> (x [V, d] → q x, e [E, d] → q_i e / q_j).

    After each layer vertex features have their vertex's size, ‖x_i‖ = √d s_i
    (a layer norm that carries q): so messages Σ_j x_j ⊙ e_ji are of the size of
    x_i whatever the gauge, the fan-in and the depth.
    """
    d, reverse = self.width, wiring.reverse()
    types, edge_types, b_in, k_in = wiring.features
    graph: Any = reading.graph

    # Codes multiply where a group acts and add where none does.
    vertex_code = self.make("vertex_code", layers.Normal((types, d), std=1.0))
    vertex_code = vertex_code[wiring.vertex_type]
    edge_code = self.make("edge_code", layers.factor_params(edge_types, d))
    edge_code = edge_code[wiring.edge_type]
    factor = self.make("vertex_factor", layers.factor_params(types, d))
    factor = factor[wiring.vertex_type]
    embed = self.make("embed_vertex", layers.linear_params(b_in, d))
    x = layers.linear(embed, graph.nodes) * factor
    x = x + jnp.where(reading.additive, vertex_code, 0)
    # Beside its bias a scaled vertex has its size, which carries q as well; so
    # it has something to send when its bias is zero.
    x = x + jnp.where(reading.scaled, reading.sizes * vertex_code, 0)
    embed = self.make("embed_edge", layers.linear_params(k_in, d))
    e = layers.linear(embed, graph.edges) * edge_code
    back = None
    if self.bidirectional:
      embed = self.make("embed_back", layers.linear_params(k_in, d))
      back = layers.linear(embed, reading.backward_edges) * edge_code

    for i in range(self.depth):
      last = i == self.depth - 1
      message = self.make(f"message_{i}", layers.message_params(d))
      m = [layers.message(message, x, e, wiring, reading)]
      if back is not None:
        message = self.make(f"back_message_{i}", layers.message_params(d))
        m.append(layers.message(message, x, back, reverse, reading))
      d_in = (1 + len(m)) * d
      update = self.make(f"update_{i}", layers.update_params(d_in, d))
      x = layers.update(update, x, m, wiring, reading)
      x = layers.resize(x, reading.sizes)
      if last and not self.writes:
        break
      read = self.make(f"read_{i}", layers.read_params(d))
      u = layers.read(read, x, wiring, reading)
      inverse = canonical.inverse(reading.sizes)
      dual = x * inverse * inverse  # carries 1/q
      update = self.edge_update(f"edge_{i}")
      e = layers.edge_update(update, e, x, dual, u, wiring)
      if back is not None and not last:
        update = self.edge_update(f"back_edge_{i}")
        back = layers.edge_update(update, back, x, dual, u, reverse)
    return x, e

  def edge_update(self, name: str) -> Any:
    """Parameters of `layers.edge_update`."""
    return self.make(
      name, layers.edge_update_params(self.width, writes=self.writes)
    )


class Operator(_Module):
  """The equivariant head: a network -> updates of its weights, Δ → gΔ.

  Δ = α ⊙ Γ [x, b] for biases b and α ⊙ Γ e for kernels, with a learned α per
  weight that starts at `step`, so that training starts near the identity.
  """

  body: Body
  step: float

  @nn.compact
  def __call__(self, wiring: Wiring, reading: readings.Reading) -> Any:
    topology = wiring.topology
    x, e = self.body(wiring, reading)
    d, biases = x.shape[-1], topology.vertex_width
    hidden = self.make("hidden", layers.linear_params(d + biases, biases))
    fixed = self.make(
      "fixed", layers.linear_params(d + biases, biases, bias=True)
    )
    edge = self.make("edge", layers.linear_params(d, topology.edge_width))
    graph: Any = reading.graph
    nodes = layers.on_range(
      topology.hidden,
      lambda x: layers.linear(hidden, x),
      lambda x: layers.linear(fixed, x),
      jnp.concatenate([x, graph.nodes], axis=-1),
    )
    graph = graph._replace(nodes=nodes, edges=layers.linear(edge, e))
    updates, structure = jax.tree.flatten(convert.to_weights(topology, graph))
    alpha = self.param("step", lambda _: jnp.full(len(updates), self.step))
    return jax.tree.unflatten(
      structure, [a * u for a, u in zip(alpha, updates, strict=True)]
    )


class Functional(_Module):
  """The invariant head: φ_out([mean φ_h(x̃), x_in, x_out]), [..., outputs].

  The mean is over hidden vertices; inputs and outputs are told apart. Of a
  batch there is one result per network.
  """

  body: Body
  outputs: int

  @nn.compact
  def __call__(
    self, wiring: GraphWiring, reading: readings.Reading
  ) -> jax.Array:
    x, _ = self.body(wiring, reading)
    d = x.shape[-1]
    read = self.make("hidden", layers.mlp_params(d, d, d))
    inside = layers.invariant(read, x[wiring.hidden], reading.hidden(wiring))
    parts = [wiring.mean_hidden(inside), wiring.by_position(x)]
    features = jnp.concatenate(parts, axis=-1)
    out = layers.mlp_params(features.shape[-1], d, self.outputs)
    return layers.mlp(self.make("out", out), features)


def _reader(
  target: TargetNetwork,
  symmetry: str,
  backward: str | readings.Backward,
  edge_chunk: int | None,
):
  """(wiring, (weights, activation) -> Reading)."""
  carried = readings.checked(symmetry, backward)
  topology = topology_of(target)
  if symmetry == "permutation":
    topology = topology.permutation_only()
  if edge_chunk is not None and edge_chunk < 1:
    raise InputError(f"model.edge_chunk is {edge_chunk}, expected at least 1")
  wiring = Wiring(topology, edge_chunk)

  def read(weights, activation):
    return readings.read_network(wiring, weights, activation, carried)

  return wiring, read


def _ones(topology: Topology) -> Any:
  """Weights of the right shapes: parameters depend on no others."""
  return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), topology.shapes)


def operator(
  target: TargetNetwork,
  *,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
  edge_chunk: int | None = None,
  step: float = 0.01,
) -> MetaNetwork:
  """A ScaleGMN that writes networks: θ' = θ + Δ(θ), equivariant.

  Args:
    target: the architecture.
    width: features per vertex and edge.
    depth: message passing layers.
    bidirectional: messages also pass from outputs to inputs ("-B").
    symmetry: "target" for the groups of the target's activations, or
      "permutation" for a model that is equivariant to nothing else.
    backward: the edge feature of backward messages under positive scaling:
      "carrier", "inverse", or a function (see `reading.Backward`).
    edge_chunk: edges computed at a time, None for all: for target networks so
      large that what is kept for the backward pass would not fit.
    step: initial size of the update.

  Raises:
    InputError: no such symmetry or backward edge, no edges in a chunk.
  """
  wiring, read = _reader(target, symmetry, backward, edge_chunk)
  module = Operator(Body(width, depth, bidirectional, True), step)

  def init(key):
    return module.init(key, wiring, read(_ones(wiring.topology), 0))["params"]

  def apply(params, weights, activation=0):
    reading = read(weights, activation)
    updates = module.apply({"params": params}, wiring, reading)
    return jax.tree.map(jnp.add, weights, updates)

  return MetaNetwork(init, apply)


def functional(
  target: TargetNetwork,
  *,
  outputs: int = 1,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
  edge_chunk: int | None = None,
) -> MetaNetwork:
  """A ScaleGMN that reads networks: θ -> [outputs], invariant.

  The arguments are those of `operator`.
  """
  wiring, read = _reader(target, symmetry, backward, edge_chunk)
  module = Functional(Body(width, depth, bidirectional, False), outputs)

  def init(key):
    return module.init(key, wiring, read(_ones(wiring.topology), 0))["params"]

  def apply(params, weights, activation=0):
    reading = read(weights, activation)
    return module.apply({"params": params}, wiring, reading)

  return MetaNetwork(init, apply)
