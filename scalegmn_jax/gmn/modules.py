"""ScaleGMN as flax modules, which own the parameters and their names.

The functions that they compute are in `layers` and `prototypes`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, MetaNetwork, Weights
from scalegmn_jax.gmn import layers, masks, products
from scalegmn_jax.gmn.features import GraphFeatures
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.interface import Connectivity
from scalegmn_jax.graph.topology import Topology
from scalegmn_jax.symmetry import spec as specs

AnyMetaNetwork = TypeVar("AnyMetaNetwork", bound=MetaNetwork)


def begin_with(
  metanetwork: AnyMetaNetwork, values: Mapping[str, Any]
) -> AnyMetaNetwork:
  """The same metanetwork whose `init` gives some parameters other values.

  Args:
    metanetwork: φ is drawn by its `init`.
    values: a part of φ: nested names, with an array for each parameter.
  """

  def replaced(params: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
      return jnp.asarray(values, params.dtype)
    new = {name: replaced(params[name], v) for name, v in values.items()}
    return params | new

  def init(key):
    return replaced(metanetwork.init(key), values)

  return metanetwork._replace(init=init)


class Module(nn.Module):
  """A flax module whose parameters are pytrees of `layers.Normal`s.

  Attributes:
    dtype: of matrix products, see `products.DTYPES`.
  """

  dtype: str

  def make(self, name: str, params: Any) -> Any:
    """The parameters `name`, drawn from `params` by `layers.init`.

    Raises:
      InputError: the parameters that are given have other shapes.
    """
    if not self.has_variable("params", name):
      drawn = self.param(name, lambda key: layers.init(key, params))
      return products.prepare(drawn, self.dtype)
    # Not by `param`: to compare shapes it traces `layers.init` in every call,
    # which is half of the time of tracing a metanetwork.
    given = self.get_variable("params", name)
    expected, found = layers.shapes(params), jax.tree.map(jnp.shape, given)
    if found != expected:
      raise InputError(
        f"parameters {'/'.join((*self.path, name))} have shapes {found}, "
        f"expected {expected}"
      )
    return products.prepare(given, self.dtype)


class Body(Module):
  """Embedding and message passing.

  Attributes:
    width: d.
    depth: message passing layers.
    bidirectional: messages also pass against the edges.
    writes: edges are an output, for an operator: edge updates have their second
      term, and the last layer has one as well.
  """

  width: int
  depth: int
  bidirectional: bool
  writes: bool

  @nn.compact
  def __call__(
    self, connectivity: Connectivity, features: GraphFeatures
  ) -> tuple[jax.Array, jax.Array]:
    """A graph -> (x [V, d] → q x, e [E, d] → q_i e / q_j).

    After each layer the features of a vertex have its size, ‖x_i‖ = √d s_i (a
    layer norm that carries q). Messages Σ_j x_j ⊙ e_ji then are of the size of
    x_i whatever the gauge, the fan-in and the depth.
    """
    d, reverse = self.width, connectivity.reverse()
    types, edge_types, *_ = connectivity.features
    graph: Any = features.graph
    b_in, k_in = graph.nodes.shape[-1], graph.edges.shape[-1]

    # Codes multiply where a group acts and add where none does.
    vertex_code = self.make("vertex_code", layers.Normal((types, d), std=1.0))
    vertex_code = vertex_code[connectivity.vertex_type]
    edge_code = self.make("edge_code", layers.factor_params(edge_types, d))
    factor = self.make("vertex_factor", layers.factor_params(types, d))
    factor = factor[connectivity.vertex_type]
    embed = self.make("embed_vertex", layers.linear_params(b_in, d))
    x = layers.linear(embed, graph.nodes) * factor
    x = x + jnp.where(features.additive, vertex_code, 0)
    # The size of a scaled vertex carries q as its bias does: with it the vertex
    # has something to send even if its bias is zero.
    x = x + jnp.where(features.sized, features.sizes * vertex_code, 0)
    embeds = [self.make("embed_edge", layers.linear_params(k_in, d))]
    inputs = [graph.edges]
    if self.bidirectional:
      embeds.append(self.make("embed_back", layers.linear_params(k_in, d)))
      inputs.append(features.backward_edges)

    def embed_edges(_, edges, __):
      edges, types = edges
      code = edge_code[types]
      return [
        layers.linear(embed, k) * code
        for embed, k in zip(embeds, edges, strict=True)
      ]

    edges = inputs, connectivity.edge_type
    e, *backs = connectivity.all_edges.map(embed_edges, None, edges, None)
    back = backs[0] if backs else None

    for i in range(self.depth):
      last = i == self.depth - 1
      message = self.make(f"message_{i}", layers.message_params(d))
      messages = [layers.message(message, x, e, connectivity, features)]
      if back is not None:
        message = self.make(f"back_message_{i}", layers.message_params(d))
        messages.append(layers.message(message, x, back, reverse, features))
      d_in = (1 + len(messages)) * d
      update = self.make(f"update_{i}", layers.update_params(d_in, d))
      x = layers.update(update, x, messages, connectivity, features)
      x = layers.resize(x, features.sizes)
      if last and not self.writes:
        break
      read = self.make(f"read_{i}", layers.invariant_readout_params(d))
      u = layers.invariant_readout(read, x, connectivity, features)
      tied = connectivity.tied(u)
      if tied is not None:
        x, u = layers.tie(
          self.make(f"tie_{i}", layers.tie_params(d)), x, u, tied
        )
      dual = layers.dual_of(x, features.sizes)
      update = self.edge_update(f"edge_{i}")
      e = layers.edge_update(update, e, x, dual, u, connectivity)
      if back is not None and not last:
        update = self.edge_update(f"back_edge_{i}")
        back = layers.edge_update(update, back, x, dual, u, reverse)
    return x, e

  def edge_update(self, name: str) -> Any:
    """Parameters of `layers.edge_update`."""
    return self.make(
      name, layers.edge_update_params(self.width, writes=self.writes)
    )


class Writer(Module):
  """A head that writes updates of the weights of a network.

  Attributes:
    body: message passing.
    step: initial α.
  """

  body: Body
  step: float

  def updates(
    self,
    topology: Topology,
    features: GraphFeatures,
    nodes: jax.Array,
    edges: jax.Array,
  ) -> Weights:
    """α ⊙ the read-outs of vertices and edges, with a learned α per weight;
    0 for running statistics."""
    graph = features.graph._replace(nodes=nodes, edges=edges)
    updates, structure = jax.tree.flatten(convert.to_weights(topology, graph))
    alpha = self.param("step", lambda _: jnp.full(len(updates), self.step))
    leaves = specs.leaves(topology.spec, topology.shapes)
    return jax.tree.unflatten(
      structure,
      [
        jnp.zeros_like(u) if axes.statistic else a * u
        for a, u, (_, _, axes) in zip(alpha, updates, leaves, strict=True)
      ],
    )


class Operator(Writer):
  """The equivariant head: a network -> updates of its weights, Δ → gΔ.

  Messages give Δ = α ⊙ Γ [x, b] for biases b and α ⊙ Γ e for kernels, with a
  learned α per weight that starts at `step`, so that training starts near the
  identity. Running statistics stay as they are. Prototypes replace weights in
  part.

  Attributes:
    body: message passing.
    step: initial α.
    prototypes: (connectivity, features, x, weights, activation, ask) ->
      (weights, gates), see `prototypes.writer.Prototypes`; None to update only.
  """

  prototypes: Callable[..., tuple[Weights, Any]] | None

  @nn.compact
  def __call__(
    self,
    connectivity: NetworkConnectivity,
    features: GraphFeatures,
    weights: Weights,
    activation: jax.Array | int,
    ask: Any,
  ) -> Weights:
    topology = connectivity.topology
    x, e = self.body(connectivity, features)
    head = layers.equivariant_readout_params(
      x.shape[-1], topology.vertex_width, topology.edge_width
    )
    head = {name: self.make(name, params) for name, params in head.items()}
    nodes, edges = layers.equivariant_readout(
      head, x, e, connectivity, features
    )
    updates = self.updates(topology, features, nodes, edges)
    if self.prototypes is None:
      return updates
    written, gates = self.prototypes(
      connectivity, features, x, weights, activation, ask
    )
    return jax.tree.map(
      lambda g, new, w, u: g * (new - w) + (1 - g) * u,
      *(gates, written, weights, updates),
    )


class Scores(Module):
  """The head that scores kernel entries, see `masks.Scorer`.

  A score is the logarithm of the balanced magnitude, see
  `masks.log_magnitudes`, plus an invariant read-out of the edge. The read-out
  is 0 at first: training starts from pruning by magnitude.

  Attributes:
    body: message passing.
  """

  body: Body

  @nn.compact
  def __call__(
    self,
    connectivity: NetworkConnectivity,
    features: GraphFeatures,
    weights: Weights,
    activation: jax.Array | int,
  ) -> Weights:
    topology = connectivity.topology
    x, e = self.body(connectivity, features)
    d = x.shape[-1]
    read = self.make("read", layers.invariant_readout_params(d))
    u = layers.invariant_readout(read, x, connectivity, features)
    score = self.make(
      "score", layers.edge_readout_params(d, topology.edge_width)
    )
    edges = layers.edge_readout(
      score, e, x, layers.dual_of(x, features.sizes), u, connectivity
    )
    graph = features.graph._replace(edges=edges)
    return jax.tree.map(
      jnp.add,
      masks.log_magnitudes(topology.spec, weights, activation),
      convert.to_weights(topology, graph),
    )


class Biases(Writer):
  """The head that updates biases only: a network -> Δ, 0 for other weights.

  Messages give Δ = α ⊙ Γ [x, b] → qΔ, with a learned α per weight that starts
  at `step`.

  Attributes:
    body: message passing.
    step: initial α.
  """

  @nn.compact
  def __call__(
    self, connectivity: NetworkConnectivity, features: GraphFeatures
  ) -> Weights:
    topology = connectivity.topology
    x, _ = self.body(connectivity, features)
    head = layers.vertex_readout_params(x.shape[-1], topology.vertex_width)
    head = {name: self.make(name, params) for name, params in head.items()}
    nodes = layers.vertex_readout(head, x, connectivity, features)
    edges = jnp.zeros((topology.edges, topology.edge_width), nodes.dtype)
    return self.updates(topology, features, nodes, edges)


class Functional(Module):
  """The invariant head: φ_out([mean φ_h(x̃), x_in, x_out, a]), [..., outputs].

  The mean is over hidden vertices; inputs and outputs keep their positions. The
  features a of the answers to probes come last. A batch gives one row per
  network.

  Attributes:
    body: message passing; None to read by probes alone.
    prober: ask -> a [..., F], see `probes.Prober`; None to read by messages
      alone.
    width: hidden features of φ_out.
    outputs: numbers per network.
  """

  body: Body | None
  prober: Callable[[Any], jax.Array] | None
  width: int
  outputs: int

  @nn.compact
  def __call__(
    self,
    connectivity: Connectivity | None,
    features: GraphFeatures | None,
    ask: Any,
  ) -> jax.Array:
    parts = []
    if self.body is not None:
      assert connectivity is not None and features is not None
      x, _ = self.body(connectivity, features)
      d = x.shape[-1]
      hidden = self.make("hidden", layers.mlp_params(d, d, d))
      parts.append(layers.graph_readout(hidden, x, connectivity, features))
    if self.prober is not None:
      parts.append(self.prober(ask))
    summary = jnp.concatenate(parts, axis=-1)
    out = layers.mlp_params(summary.shape[-1], self.width, self.outputs)
    return layers.mlp(self.make("out", out), summary)
