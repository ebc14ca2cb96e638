"""Operators and functionals: ScaleGMN as flax modules and as `MetaNetwork`s.

The modules own the parameters and their names; what they compute is in
`layers`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, MetaNetwork, TargetNetwork
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.topology import Topology, topology_of
from scalegmn_jax.graph.wiring import wiring_of
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn import reading as readings


class Body(nn.Module):
  """Embedding and message passing: a `Reading` -> nodes [V, d], edges [E, d].

  Attributes:
    topology: of the target network.
    width: d.
    depth: message passing layers.
    bidirectional: also pass messages against the edges.
    write_edges: whether the last layer updates the edges.
  """

  topology: Topology
  width: int
  depth: int
  bidirectional: bool
  write_edges: bool
  normalize: bool = False
  outer: bool = False

  @nn.compact
  def __call__(self, reading: readings.Reading):
    topology, d = self.topology, self.width
    wiring = wiring_of(topology)
    reverse = wiring.reverse()

    def param(name, init: Callable, *args, **kwargs):
      return self.param(name, lambda key: init(key, *args, **kwargs))

    def code(name, types):
      noise = param(name, jax.random.normal, (types.max() + 1, d))
      return noise[types]

    x = layers.linear(
      param("embed_vertex", layers.init_linear, topology.vertex_width, d),
      reading.graph.nodes,
    )
    e_linear = param("embed_edge", layers.init_linear, topology.edge_width, d)
    edge_code = 1 + 0.5*code("edge_code", topology.edge_type)
    e = layers.linear(e_linear, reading.graph.edges) * edge_code
    back = None
    if self.bidirectional:
      b_linear = param("embed_back", layers.init_linear, topology.edge_width, d)
      back = layers.linear(b_linear, reading.backward_edges) * edge_code
    # Codes multiply where the group acts and add where it does not.
    vertex_code = code("vertex_code", topology.vertex_type)
    hidden = jnp.zeros((topology.vertices, 1), bool)
    hidden = hidden.at[topology.hidden].set(True)
    x = jnp.where(hidden, x * (1+0.5*vertex_code), x + vertex_code)

    def norm(x):
      if not self.normalize: return x
      from scalegmn_jax.symmetry import canonical
      return canonical.unit(x) * reading.sizes * d**0.5
    x = norm(x)

    for i in range(self.depth):
      m = [
        layers.message(
          param(f"message_{i}", layers.init_message, d),
          x, e, wiring, reading.into_hidden,
        )
      ]
      if back is not None:
        m.append(
          layers.message(
            param(f"back_message_{i}", layers.init_message, d),
            x, back, reverse, reading.out_of_hidden,
          )
        )
      x = layers.update(
        param(f"update_{i}", layers.init_update, (1 + len(m)) * d, d),
        x, m, wiring, reading.hidden,
      )
      x = norm(x)
      if i == self.depth - 1 and not self.write_edges:
        break
      u = layers.read(
        param(f"read_{i}", layers.init_read, d), x, wiring, reading.hidden
      )
      e_new = e + layers.edge_update(
        param(f"edge_{i}", layers.init_edge_update, d), e, u, wiring
      )
      if self.outer:
        dual = x / reading.sizes**2
        p = param(f"outer_{i}", lambda k: {"a": layers.init_linear(jax.random.fold_in(k,0), d, d), "b": layers.init_linear(jax.random.fold_in(k,1), d, d), "gate": layers.init_mlp(jax.random.fold_in(k,2), 2*d, d, d, offset=0.)})
        o = wiring.at_senders(layers.linear(p["a"], dual)) * wiring.at_receivers(layers.linear(p["b"], x))
        e_new = e_new + o * layers.edge_gate(p["gate"], u, wiring)
      if back is not None and i < self.depth - 1:
        back = back + layers.edge_update(
          param(f"back_edge_{i}", layers.init_edge_update, d), back, u, wiring
        )
      e = e_new
    return x, e


class Operator(nn.Module):
  """Reading -> graph of updates: nodes [V, b], edges [E, k]."""

  body: Body
  step: float = 0.01

  @nn.compact
  def __call__(self, reading: readings.Reading):
    topology = self.body.topology
    x, e = self.body(reading)
    d = x.shape[-1]

    def param(name, init: Callable, *args, **kwargs):
      return self.param(name, lambda key: init(key, *args, **kwargs))

    hidden = param("hidden", layers.init_linear, d, topology.vertex_width)
    fixed = param(
      "fixed", layers.init_linear, d, topology.vertex_width, bias=True
    )
    edge = param("edge", layers.init_linear, d, topology.edge_width)
    nodes = layers.on_range(
      topology.hidden,
      lambda x: layers.linear(hidden, x),
      lambda x: layers.linear(fixed, x),
      x,
    )
    edges = layers.linear(edge, e)
    leaves = len(topology.biases) + len(topology.blocks)
    alpha = self.param("step", lambda _: jnp.full(leaves, self.step))
    updates = convert.to_weights(
      topology, reading.graph._replace(nodes=nodes, edges=edges)
    )
    flat, structure = jax.tree.flatten(updates)
    return jax.tree.unflatten(
      structure, [a * u for a, u in zip(alpha, flat, strict=True)]
    )


def operator(target: TargetNetwork, *, width=32, depth=2, bidirectional=False, step=0.01, backward=readings.carrier, **kw) -> MetaNetwork:
  topology = topology_of(target)
  wiring = wiring_of(topology)
  module = Operator(Body(topology, width, depth, bidirectional, True, **kw), step)
  def read(weights, activation):
    return readings.read_network(topology, wiring, weights, activation, backward)
  def init(key):
    weights = target.init(jax.random.key(0))
    return module.init(key, read(weights, 0))["params"]
  def apply(params, weights, activation=0):
    delta = module.apply({"params": params}, read(weights, activation))
    return jax.tree.map(jnp.add, weights, delta)
  return MetaNetwork(init, apply)
