"""Connectivity, whole and in edge blocks, against gathers and segment sums."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from scalegmn_jax.graph import connectivity
from scalegmn_jax.graph.connectivity import ByKernel, NetworkConnectivity
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import network


@pytest.fixture(
  scope="module", params=["skip", "normalized", "attention", "groups"]
)
def some(request, residual_mlp):
  """One target per kind of graph; the last two have diagonal blocks and ties,
  and several spaces in a stage."""
  return {
    "skip": lambda: residual_mlp,
    "normalized": lambda: network("preactivation")[0],
    "attention": lambda: network("fused_attention")[0],
    "groups": lambda: network("shuffled")[0],
  }[request.param]()


# In blocks of 9 edges some kernels are whole, some are one row at a time, some
# are divided evenly, and some have rows that remain.
@pytest.fixture(params=[None, 9], ids=["whole", "blocks"])
def edge_block(request):
  return request.param


def on_edge(sender, edge, receiver):
  """A function of all three arguments that does not commute."""
  return jnp.sin(sender["x"] + 2 * receiver["x"]) * edge + sender["y"]


def by_index(topology, x, e, edges):
  """(map, sum) of `on_edge`, by gathers and segment sums."""
  rows = np.concatenate(
    [np.arange(b.edges.start, b.edges.stop) for b in edges.blocks]
  )
  senders, receivers = topology.senders[rows], topology.receivers[rows]
  if edges.reversed:
    senders, receivers = receivers, senders
  features = {"x": x, "y": x * x}
  m = on_edge(
    jax.tree.map(lambda a: a[senders], features),
    e[rows],
    jax.tree.map(lambda a: a[receivers], features),
  )
  return m, jraph.segment_sum(m, jnp.asarray(receivers), topology.vertices)


def by_blocks(x, e, edges):
  features = {"x": x, "y": x * x}
  return (
    joined(edges.map(on_edge, features, e, features)),
    edges.sum(on_edge, features, e, features),
  )


def joined(values):
  """The result of `map` as one array."""
  return jnp.concatenate(jax.tree.leaves(values))


def features(topology, d=3):
  rng = np.random.default_rng(0)
  dtype = jax.dtypes.canonicalize_dtype(float)
  return (
    rng.normal(size=(topology.vertices, d)).astype(dtype),
    rng.normal(size=(topology.edges, d)).astype(dtype),
  )


def parts(topology, edge_block):
  """All nonempty edge sets of a network, in both directions."""
  forward = NetworkConnectivity(topology, edge_block)
  return [
    edges
    for c in (forward, forward.reverse())
    for edges in (c.all_edges, c.into_hidden, c.into_fixed)
    if edges.blocks
  ]


def assert_close(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, 1e-12, 1e-12)


def values_and_gradients(f, topology, edge_block):
  """(f of each edge set, its gradients) in one program."""
  edge_sets = parts(topology, edge_block)

  def loss(x, e):
    values = [f(x, e, p) for p in edge_sets]
    return sum(jnp.sin(y).sum() for y in jax.tree.leaves(values)), values

  found = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  (_, values), gradients = jax.jit(found)(*features(topology))
  return values, gradients


@pytest.fixture(scope="module")
def expected(some):
  """`values_and_gradients` of gathers and segment sums, for any block."""
  topology = topology_of(some)
  with jax.enable_x64(True):
    return values_and_gradients(
      lambda x, e, edges: by_index(topology, x, e, edges), topology, None
    )


def test_maps_sums_and_gradients_are_those_of_gathers_and_segment_sums(
  x64, some, edge_block, expected
):
  found = values_and_gradients(by_blocks, topology_of(some), edge_block)
  assert_close(found, expected)


def test_parts_are_by_receiver(some):
  topology = topology_of(some)
  forward = NetworkConnectivity(topology)
  for c, ends in (
    (forward, topology.receivers),
    (forward.reverse(), topology.senders),
  ):
    hidden = np.zeros(topology.vertices, bool)
    hidden[c.hidden] = True
    rows = np.flatnonzero(hidden[ends])
    edges = np.arange(topology.edges)
    selected = np.concatenate([edges[b.edges] for b in c.into_hidden.blocks])
    np.testing.assert_array_equal(selected, rows)
    both = [b.leaf for b in c.into_hidden.blocks + c.into_fixed.blocks]
    assert sorted(both) == sorted(b.leaf for b in topology.blocks)
    assert c.all_edges.blocks == topology.blocks
  assert forward.reverse().reverse() == forward


def test_values_by_kernel_are_read_as_one_array_is(
  x64, some, edge_block, expected
):
  topology = topology_of(some)
  x, e = features(topology)
  split = ByKernel(tuple(e[b.edges] for b in topology.blocks))
  edge_sets = parts(topology, edge_block)
  found = jax.jit(lambda x, e: [by_blocks(x, e, s) for s in edge_sets])(
    x, split
  )
  values, _ = expected
  assert_close(found, values)


def test_several_features_of_edges_in_and_out(x64, some, edge_block):
  topology = topology_of(some)
  _, e = features(topology)
  every = NetworkConnectivity(topology, edge_block).all_edges

  @jax.jit
  def results(*edges):
    both = every.map(
      lambda _, edges, __: {"sum": edges[0] + edges[1], "first": edges[0]},
      None, edges, None,
    )  # fmt: skip
    return joined(both["first"]), joined(both["sum"])

  types = topology.edge_type[:, None]
  first, both = results(e, types)
  np.testing.assert_array_equal(first, e)
  np.testing.assert_array_equal(both, e + types)


@pytest.mark.parametrize(
  "rows, most, expected",
  [(784, 4, 4), (1500, 32, 30), (7, 100, 7), (13, 5, 5), (3, 0, 1)],
)
def test_rows_are_divided_evenly_where_it_costs_little(rows, most, expected):
  assert connectivity._rows_at_a_time(rows, most) == expected


def test_only_large_graphs_are_computed_in_blocks(monkeypatch):
  default = connectivity.default_edge_block
  assert default(688, 128) is None and default(2**17, 32) is None
  assert default(2**17 + 1, 32) == 2**13
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert default(2**17 + 1, 32) is None and default(2**22, 32) == 2**21


def test_edge_blocks_save_temporary_memory():
  topology = topology_of(mlp((30, 40, 40, 30)))
  x, e = features(topology, 64)

  def temporary(edge_block):
    def loss(x, e):
      return NetworkConnectivity(topology, edge_block).all_edges.sum(
        lambda s, e, r: jnp.sin(jnp.cos(s["x"] * e) * jnp.cos(r["x"])),
        {"x": x}, e, {"x": x},
      ).sum()  # fmt: skip

    compiled = jax.jit(jax.grad(loss)).lower(x, e).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary(100) < temporary(None) / 2


def test_sums_at_vertices_without_edges_are_zero(residual_mlp):
  topology = topology_of(residual_mlp)
  forward = NetworkConnectivity(topology)

  @jax.jit
  def degrees(ones):
    def count(edges):
      return edges.sum(lambda _, e, __: e, None, ones, None)

    return count(forward.all_edges), count(forward.reverse().all_edges)

  sums = jax.tree.map(np.asarray, degrees(jnp.ones((topology.edges, 1))))
  assert (sums[0][topology.spaces["input"]] == 0).all()
  assert (sums[1][topology.spaces["output"]] == 0).all()
  # 3 inputs and 9 inner neurons write to the stream, 9 and 2 outputs read it.
  assert (sums[0][topology.spaces["stream"]] == 12).all()
  assert (sums[1][topology.spaces["stream"]] == 11).all()


def test_ties_are_means_over_the_vertices_of_a_neuron(x64):
  topology = topology_of(network("fused_attention")[0])
  u, _ = features(topology)
  tied = jax.jit(NetworkConnectivity(topology).tied)(u)
  queries, keys, values = (
    u[rows].reshape(2, 3, -1)
    for stage, rows in topology.stages.items()
    if len(stage.spaces) == 2
    for rows in (rows,)
  )
  heads = (queries.mean(1) + keys.mean(1) + values.mean(1)) / 3
  found = [
    tied[rows].reshape(2, 3, -1)
    for stage, rows in topology.stages.items()
    if len(stage.spaces) == 2
  ]
  # Values come first; queries and keys share their dimensions as well.
  shared = (keys.mean(0) + values.mean(0)) / 2
  np.testing.assert_allclose(
    found[0], np.broadcast_to(heads[:, None], queries.shape), 1e-12
  )
  for part in found[1:]:
    np.testing.assert_allclose(part, heads[:, None] + shared[None], 1e-12)
  others = np.delete(np.asarray(tied), np.r_[7:25], axis=0)
  assert (others == 0).all()


def test_neurons_with_one_vertex_are_not_tied(residual_mlp):
  topology = topology_of(residual_mlp)
  u, _ = features(topology)
  assert NetworkConnectivity(topology).tied(u) is None
