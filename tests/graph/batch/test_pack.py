"""Batches of several architectures, against each network by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.graph.batch import batch_connectivity as packed_graphs
from scalegmn_jax.graph.batch import pack

pytestmark = pytest.mark.usefixtures("x64")


def on_edge(sender, edge, receiver):
  """Something of all three that does not commute."""
  return jnp.sin(sender + 2 * receiver) * edge + edge**2


def all_parts(wiring):
  for w in (wiring, wiring.reverse()):
    yield from (w.every, w.into_hidden, w.into_fixed)


@pytest.fixture
def packed(mixed_population):
  """(population, the numbers of its networks, a batch of them)."""
  _, networks = mixed_population
  numbers = np.array([11, 0, 6, 13, 2])
  rows = networks.rows(numbers) + np.array([3, 2, 1, 0, 4, 5])
  return (
    networks,
    numbers,
    networks.batch(numbers, pack.SectionSizes(*rows.tolist()), 7),
  )


def test_rows_are_those_of_the_networks(packed):
  networks, numbers, batch = packed
  graph, sections = jax.device_get(batch.graph), batch.sections
  assert graph.n_node.shape == (8,)
  assert graph.globals["real"].tolist() == [True] * 5 + [False] * 3
  assert graph.globals["value"][:5].tolist() == numbers.tolist()
  assert graph.senders.shape == (sections.edges,)
  hidden = graph.nodes["scale"] | graph.nodes["sign"]
  assert not hidden[sections.hidden :].any()
  assert hidden.sum() == networks.sections[numbers, 0].sum()
  for i, number in enumerate(numbers):
    one = networks.graph(number)
    for name in ("bias", "size", "type"):
      order = np.argsort(one.nodes["section"], kind="stable")
      own = graph.nodes[name][graph.nodes["graph"] == i]
      np.testing.assert_array_equal(own, one.nodes[name][order])
    order = np.argsort(one.edges["section"], kind="stable")
    at = graph.nodes["graph"][graph.senders] == i
    np.testing.assert_array_equal(
      at, graph.nodes["graph"][graph.receivers] == i
    )
    for name in ("kernel", "type"):
      np.testing.assert_array_equal(
        graph.edges[name][at], one.edges[name][order]
      )
  assert (graph.nodes["graph"] == 5).sum() == 1 + 3 + 2
  assert (graph.nodes["bias"][graph.nodes["graph"] == 5] == 0).all()


def test_wiring_is_that_of_each_network(packed):
  """map and sum of every kind of edges, both ways."""
  networks, numbers, batch = packed
  nodes, sections = batch.graph.nodes, batch.sections
  x, e = (
    jnp.asarray(np.random.default_rng(0).normal(size=(n, 1)))
    for n in (sections.vertices, sections.edges)
  )
  found = jax.jit(
    lambda batch: [
      (part.map(on_edge, x, e, x), part.sum(on_edge, x, e, x))
      for part in all_parts(packed_graphs.BatchConnectivity(batch))
    ]
  )(batch)
  hidden = np.arange(sections.vertices) < sections.hidden
  real = np.asarray(nodes["graph"]) < len(numbers)
  at = 0
  for ends in (
    (batch.graph.senders, batch.graph.receivers),
    (batch.graph.receivers, batch.graph.senders),
  ):
    s, r = map(np.asarray, ends)
    for chosen in (hidden[r] | ~hidden[r], hidden[r], ~hidden[r]):
      m, total = map(np.asarray, found[at])
      at += 1
      expected = np.asarray(on_edge(x[s], e, x[r]))
      # Padding edges are in every section, whatever they lead to.
      chosen = chosen & real[r]
      sums = np.zeros_like(x)
      np.add.at(sums, r[chosen], expected[chosen])
      np.testing.assert_allclose(total[real], sums[real], 1e-12, 1e-14)
      assert len(m) >= chosen.sum() and np.abs(total[real]).max() > 0.1
      counts = {round(float(v), 12) for v in m[:, 0]}
      assert {round(float(v), 12) for v in expected[chosen, 0]} <= counts


def test_means_and_positions_by_network(packed):
  networks, numbers, batch = packed
  nodes = jax.device_get(batch.graph.nodes)
  x = np.arange(batch.sections.vertices * 2.0).reshape(-1, 2) + 1

  @jax.jit
  def both(batch, x):
    wiring = packed_graphs.BatchConnectivity(batch)
    return wiring.mean_hidden(x[wiring.hidden]), wiring.by_position(x)

  means, placed = jax.device_get(both(batch, x))
  placed = placed.reshape(8, -1, 2)
  words = batch.vocabulary
  assert placed.shape[1] == words.inputs + words.outputs
  for i, number in enumerate(numbers):
    architecture = networks.architectures[networks.of[number]]
    own = x[nodes["graph"] == i]
    count = (architecture.kind == 1).sum()
    np.testing.assert_allclose(means[i], own[:count].mean(0), 1e-12)
    fixed = own[count:]
    inputs = (architecture.kind == 0).sum()
    expected = np.zeros(placed.shape[1:])
    expected[:inputs] = fixed[:inputs]
    outputs = fixed[inputs:]
    expected[words.inputs : words.inputs + len(outputs)] = outputs
    np.testing.assert_array_equal(placed[i], expected)


def test_graphs_that_do_not_fit(packed):
  networks, numbers, _ = packed
  rows = networks.rows(numbers)
  exact = pack.SectionSizes(*rows.tolist())
  networks.batch(numbers, exact, 5)
  for position in range(6):
    less = rows.copy()
    less[position] -= 1
    if less[position] >= 0:
      with pytest.raises((RuntimeError, ValueError)):
        networks.batch(numbers, pack.SectionSizes(*less.tolist()), 5)
