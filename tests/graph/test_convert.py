"""Conversion of weights to features and back."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from scalegmn_jax.graph import convert
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import actions
from tests.graph.traced import NAMES, at_edges, at_vertices, element, network


def test_weights_are_restored_exactly(target, random_weights):
  topology, weights = topology_of(target), random_weights(target, 0)

  @jax.jit
  def there_and_back(weights):
    return convert.to_weights(topology, convert.to_graph(topology, weights))

  jax.tree.map(np.testing.assert_array_equal, there_and_back(weights), weights)


def test_features_are_restored_where_weights_are(kind):
  topology = topology_of(kind)
  rng = np.random.default_rng(1)

  def back_and_there(nodes, edges):
    graph = jraph.GraphsTuple(nodes, edges, None, None, None, None, None)
    return convert.to_graph(topology, convert.to_weights(topology, graph))

  nodes = rng.normal(size=(topology.vertices, topology.vertex_width))
  edges = rng.normal(size=(topology.edges, topology.edge_width))
  nodes, edges = jnp.asarray(nodes), jnp.asarray(edges)
  graph = jax.jit(back_and_there)(nodes, edges)
  written = np.zeros(nodes.shape, bool)
  for bias in topology.biases:
    written[bias.vertices, bias.slots] = True
  np.testing.assert_array_equal(graph.nodes, np.where(written, nodes, 0))
  written = np.zeros(edges.shape, bool)
  for block in topology.blocks:
    written[block.edges, : block.width] = True
  np.testing.assert_array_equal(graph.edges, np.where(written, edges, 0))


def test_graph_has_each_weight_in_its_place(kind, random_weights):
  topology = topology_of(kind)
  weights = random_weights(kind, 2, dead=False)
  graph = jax.jit(lambda w: convert.to_graph(topology, w))(weights)
  nodes, edges = np.asarray(graph.nodes), np.asarray(graph.edges)
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(weights)]
  for bias in topology.biases:
    np.testing.assert_array_equal(
      nodes[bias.vertices, bias.slot], leaves[bias.leaf]
    )
  assert (nodes[topology.spaces["input"]] == 0).all()
  for block in topology.blocks:
    for e in range(block.edges.start, block.edges.stop):
      index = [slice(None)] * leaves[block.leaf].ndim
      (sender_axis,), (receiver_axis,) = (
        block.part.senders,
        block.part.receivers,
      )
      index[sender_axis] = topology.senders[e] - block.senders.start
      index[receiver_axis] = topology.receivers[e] - block.receivers.start
      weight = leaves[block.leaf][tuple(index)].ravel()
      np.testing.assert_array_equal(edges[e, : block.width], weight)
      assert (edges[e, block.width :] == 0).all()
  np.testing.assert_array_equal(graph.senders, topology.senders)
  np.testing.assert_array_equal(graph.receivers, topology.receivers)
  assert graph.n_node == topology.vertices and graph.n_edge == topology.edges


def assert_converted_with_symmetry(target, weights):
  """The graph of a transformed network is the transformed graph; from graphs
  weights are restored."""
  topology, g = topology_of(target), element(target.spec, 1)

  @jax.jit
  def there_and_back(weights):
    graph = convert.to_graph(topology, weights)
    return graph, convert.to_weights(topology, graph)

  weights = jax.tree.map(np.asarray, weights)
  before, restored = there_and_back(weights)
  jax.tree.map(np.testing.assert_array_equal, restored, weights)
  after, _ = there_and_back(actions.act(g, target.spec, weights))
  order, q = at_vertices(topology, g)
  nodes, edges = np.asarray(before.nodes), np.asarray(before.edges)
  np.testing.assert_allclose(after.nodes, q[:, None] * nodes[order], 1e-12)
  ratio = q[topology.receivers] / q[topology.senders]
  edges = edges[at_edges(topology, order)]
  np.testing.assert_allclose(after.edges, ratio[:, None] * edges, 1e-12)


def test_features_carry_the_multipliers_of_their_neurons(
  x64, kind, random_weights
):
  assert_converted_with_symmetry(kind, random_weights(kind, 3))


@pytest.mark.parametrize("name", NAMES)
def test_traced_networks_are_converted_with_their_symmetry(x64, name):
  assert_converted_with_symmetry(*network(name))


@pytest.mark.parametrize("name", ["resnet", "fused_attention", "lstm"])
def test_scaling_by_multipliers_is_the_action_of_the_group(x64, name):
  target, weights = network(name)
  topology = topology_of(target)
  g = {
    space: e._replace(permutation=np.arange(len(e.permutation)))
    for space, e in element(target.spec, 1).items()
  }
  q = at_vertices(topology, g)[1]
  receiving = {stage: q[rows] for stage, rows in topology.stages.items()}
  sending = {stage: 1 / x for stage, x in receiving.items()}
  scale = jax.jit(lambda w: convert.scale(topology, w, receiving, sending))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-12),
    scale(weights),
    actions.act(g, target.spec, weights),
  )


def test_networks_are_converted_under_vmap(residual_mlp, random_weights):
  topology = topology_of(residual_mlp)
  networks = [random_weights(residual_mlp, i) for i in range(2)]
  stacked = jax.tree.map(lambda *w: jnp.stack(w), *networks)

  @jax.jit
  def there_and_back(stacked):
    graphs = jax.vmap(lambda w: convert.to_graph(topology, w))(stacked)
    return jax.vmap(lambda g: convert.to_weights(topology, g))(graphs)

  jax.tree.map(np.testing.assert_array_equal, there_and_back(stacked), stacked)
