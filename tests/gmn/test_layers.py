"""The transformation law of every layer, under every group: one line each.

A graph of feature vectors is a network whose weights are vectors: its spec is
the spec of the network, with one more axis on which nothing acts. So the public
`equivariance_error` and `invariance_error` take layers as functions of it. The
layers of a group are computed from one graph, in one program.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.base import Axes, SymmetrySpec
from scalegmn_jax.gmn import features, layers
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import canonical
from scalegmn_jax.targets.mlp import mlp

D = 3
GROUPS = {"scale": "relu", "sign": "tanh", "permutation": "gelu"}


class Graph(NamedTuple):
  """The arguments of layers.

  Attributes:
    x: [V, D] → q x.
    e: [E, D] → q_i e / q_j.
    back: [E, D] → q_j e / q_i.
    dual: [V, D] → x / q.
    u: [V, D], invariant.
    c: the connectivity.
    reverse: the connectivity with every edge turned round.
    f: the features.
  """

  x: jax.Array
  e: jax.Array
  back: jax.Array
  dual: jax.Array
  u: jax.Array
  c: NetworkConnectivity
  reverse: NetworkConnectivity
  f: features.GraphFeatures

  @property
  def canonical(self):
    """The canonical map of hidden vertices."""
    return self.f.hidden(self.c)


def on_hidden(graph, f, x):
  """f at hidden vertices; others stay as they are."""
  return layers.on_range(graph.c.hidden, f, lambda z: z, x)


def vertices(graph, x):
  """[V, D] → q x as a network with vectors for weights."""
  return to_network(graph, x, graph.e)


def edges(graph, e):
  """[E, D] → q_i e / q_j as a network."""
  return to_network(graph, graph.x, e)


def backward_edges(graph, e):
  """[E, D] → q_j e / q_i as a network."""
  place, sizes = graph.c.topology, graph.f.sizes
  return edges(graph, e * (sizes[place.receivers] / sizes[place.senders]) ** 2)


def both(graph, results):
  return to_network(graph, *results)


def pooled(graph, y):
  """[V, D] invariant, without the order of hidden vertices."""
  y = [graph.c.mean_hidden(y[graph.c.hidden]), graph.c.by_position(y)]
  return jnp.concatenate(y)


def as_it_is(graph, y):
  return y


# name: (what its result is, parameters, (parameters, graph) -> result)
LAYERS = {
  "linear": (
    vertices, layers.linear_params(D, D),
    lambda p, g: layers.linear(p, g.x),
  ),
  "equivariant": (
    vertices, layers.equivariant_params(D, D, D),
    lambda p, g: on_hidden(
      g, lambda z: layers.equivariant(p, z, g.canonical), g.x
    ),
  ),
  "resize": (
    vertices, {},
    lambda p, g: layers.resize(g.x, g.f.sizes),
  ),
  "message": (
    vertices, layers.message_params(D),
    lambda p, g: layers.message(p, g.x, g.e, g.c, g.f),
  ),
  "backward message": (  # x is added: nothing is sent to outputs
    vertices, layers.message_params(D),
    lambda p, g: g.x + layers.message(p, g.x, g.back, g.reverse, g.f),
  ),
  "update": (
    vertices, layers.update_params(2 * D, D),
    lambda p, g: layers.update(p, g.x, [g.x[:, ::-1]], g.c, g.f),
  ),
  "edge update": (
    edges, layers.edge_update_params(D, writes=False),
    lambda p, g: layers.edge_update(p, g.e, g.x, g.dual, g.u, g.c),
  ),
  "edge update that writes": (
    edges, layers.edge_update_params(D, writes=True),
    lambda p, g: layers.edge_update(p, g.e, g.x, g.dual, g.u, g.c),
  ),
  "backward edge update": (
    backward_edges, layers.edge_update_params(D, writes=True),
    lambda p, g: layers.edge_update(p, g.back, g.x, g.dual, g.u, g.reverse),
  ),
  "equivariant head": (
    both, layers.equivariant_readout_params(D, D, D),
    lambda p, g: layers.equivariant_readout(p, g.x, g.e, g.c, g.f),
  ),
  "invariant": (
    as_it_is, layers.mlp_params(D, D, D),
    lambda p, g: layers.invariant(p, g.x[g.c.hidden], g.canonical).mean(0),
  ),
  "invariant readout": (
    pooled, layers.invariant_readout_params(D),
    lambda p, g: layers.invariant_readout(p, g.x, g.c, g.f),
  ),
  "invariant head": (
    as_it_is, layers.mlp_params(D, D, D),
    lambda p, g: layers.graph_readout(p, g.x, g.c, g.f),
  ),
}  # fmt: skip
INVARIANT = (pooled, as_it_is)


def to_graph(group, connectivity, network) -> Graph:
  """The graph of a network with vectors for weights."""
  place = connectivity.topology
  numbers = jax.vmap(lambda w: convert.to_graph(place, w)[:2], -1, -1)(network)
  x, e = (a[:, 0] for a in numbers)
  # Inputs have no bias; they differ between networks as outputs do.
  x = x.at[place.spaces["input"]].set(2 * x[place.spaces["output"]] + 1)
  groups = tuple(
    jnp.asarray(place.groups[0] == name)[:, None] for name in ("scale", "sign")
  )
  plain = convert.to_graph(place, jax.tree.map(lambda w: w[..., 0], network))
  f = features.graph_features(
    connectivity,
    plain._replace(nodes=x, edges=e),
    canonical.norm(x)[:, None],
    groups,
    group,
  )
  inverse = canonical.inverse(f.sizes)
  dual, u = x * inverse * inverse, (x * inverse) ** 2
  reverse = connectivity.reverse()
  return Graph(x, e, f.backward_edges, dual, u, connectivity, reverse, f)


def to_network(graph, x, e) -> Any:
  """The network with vectors for weights of a graph."""

  def weights(x, e):
    plain = graph.f.graph._replace(nodes=x[:, None], edges=e[:, None])
    return convert.to_weights(graph.c.topology, plain)

  return jax.vmap(weights, -1, -1)(x, e)


def vector_spec(spec: SymmetrySpec) -> SymmetrySpec:
  """The spec of a network with vectors for weights."""
  axes = jax.tree.map(
    lambda axes: Axes((*axes.axes, None)),
    spec.axes,
    is_leaf=lambda leaf: isinstance(leaf, Axes),
  )
  return SymmetrySpec(spec.spaces, axes)


def random_params(params):
  rng = np.random.default_rng(3)
  return jax.tree.map(
    lambda p: jax.device_put(p.mean + rng.normal(size=p.shape) / D**0.5),
    params,
    is_leaf=lambda leaf: isinstance(leaf, layers.Normal),
  )


def without_canonical_form(graph):
  f = graph.f._replace(canonical=lambda rows: canonical.permutation)
  return graph._replace(f=f)


def with_other_edges(graph):
  return graph._replace(e=jnp.roll(graph.e, 1, 0), u=jnp.roll(graph.u, 1, 0))


def with_edges_for_backward_edges(graph):
  """The mistake of the reference, under positive scaling."""
  return graph._replace(back=graph.e)


BROKEN = [
  ("message", "scale", without_canonical_form),
  ("message", "sign", without_canonical_form),
  ("message", "permutation", with_other_edges),
  ("backward message", "scale", with_edges_for_backward_edges),
  ("update", "scale", without_canonical_form),
  ("edge update", "permutation", with_other_edges),
  ("invariant readout", "scale", without_canonical_form),
  ("invariant head", "sign", without_canonical_form),
]


@functools.cache
def errors(group):
  """{layer, or (layer, change of its arguments): the errors of its results}.

  NaN is the error of results that are zero, or of invariants that hardly differ
  between networks.
  """
  target = mlp((2, 3, 4, 2), GROUPS[group])
  connectivity = NetworkConnectivity(topology_of(target))
  cases: dict[Any, Any] = {layer: (layer, lambda g: g) for layer in LAYERS}
  for layer, other, change in BROKEN:
    if other == group:
      cases[layer, change] = layer, change
  params = {
    layer: random_params(drawn) for layer, (_, drawn, _) in LAYERS.items()
  }

  def results(cases, network):
    graph = to_graph(group, connectivity, network)
    found = []
    for layer, change in cases.values():
      kind, _, apply = LAYERS[layer]
      found.append(kind(graph, apply(params[layer], change(graph))))
    return found

  invariants = {
    case: (layer, change)
    for case, (layer, change) in cases.items()
    if LAYERS[layer][0] in INVARIANT
  }
  others = {case: c for case, c in cases.items() if case not in invariants}
  spec = vector_spec(target.spec)
  rng = np.random.default_rng(4)
  networks = jax.tree.map(
    lambda s: rng.normal(size=(4, *s.shape, D)),
    connectivity.topology.shapes,
  )

  @jax.jit
  def measure(networks, key):
    network = jax.tree.map(lambda w: w[0], networks)
    of_weights = testing.equivariance_error(
      lambda copies: results(others, copies[0]),
      SymmetrySpec(spec.spaces, [spec.axes] * len(others)),
      [network] * len(others),
      key,
    )
    of_outputs = testing.invariance_error(
      lambda network: jnp.concatenate(
        [a.ravel() for a in results(invariants, network)]
      ),
      spec,
      networks,
      key,
    )
    return of_weights, of_outputs

  key = jax.random.key(5)
  of_weights, of_outputs = jax.device_get(measure(networks, key))
  found = {}
  for i, case in enumerate(others):
    found[case] = np.array(
      [e for name, e in of_weights.items() if name.startswith(f"{i}/")]
    )
  network = jax.tree.map(lambda w: w[0], networks)
  outputs = jax.eval_shape(lambda w: results(invariants, w), network)
  ends = np.cumsum([a.size for a in outputs])
  error = np.where(of_outputs.spread > 1e-3, of_outputs.error, np.nan)
  parts = np.split(error, ends[:-1])
  return found | dict(zip(invariants, parts, strict=True))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("layer", LAYERS)
def test_law(x64, layer, group):
  assert errors(group)[layer].max() <= 1e-10


@pytest.mark.parametrize(("layer", "group", "change"), BROKEN)
def test_a_broken_layer_fails(x64, layer, group, change):
  assert errors(group)[layer, change].max() > 1e-10
