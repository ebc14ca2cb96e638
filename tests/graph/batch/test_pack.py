"""Batches of several architectures, compared with each network alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.connectivity import BatchConnectivity

pytestmark = pytest.mark.usefixtures("x64")


def on_edge(sender, edge, receiver):
  """A function of all three arguments that does not commute."""
  return jnp.sin(sender + 2 * receiver) * edge + edge**2


def edge_sets(connectivity):
  for c in (connectivity, connectivity.reverse()):
    yield from (c.all_edges, c.into_hidden, c.into_fixed)


@pytest.fixture
def example(mixed_dataset):
  """(dataset, numbers of networks, the batch of these networks)."""
  _, dataset = mixed_dataset
  numbers = np.array([11, 0, 6, 13, 2])
  rows = dataset.rows(numbers) + np.array([3, 2, 1, 0, 4, 5])
  return (
    dataset,
    numbers,
    dataset.batch(numbers, pack.SectionSizes(*rows.tolist()), 7),
  )


def test_rows_are_the_rows_of_the_networks(example):
  dataset, numbers, batch = example
  graph, sections = jax.device_get(batch.graph), batch.sections
  assert graph.n_node.shape == (8,)
  assert graph.globals["real"].tolist() == [True] * 5 + [False] * 3
  assert graph.globals["value"][:5].tolist() == numbers.tolist()
  assert graph.senders.shape == (sections.edges,)
  hidden = graph.nodes["scale"] | graph.nodes["sign"]
  assert not hidden[sections.hidden :].any()
  assert hidden.sum() == dataset.sections[numbers, 0].sum()
  for i, number in enumerate(numbers):
    one = dataset.graph(number)
    for name in ("bias", "size", "type"):
      order = np.argsort(one.nodes["section"], kind="stable")
      rows = graph.nodes[name][graph.nodes["graph"] == i]
      np.testing.assert_array_equal(rows, one.nodes[name][order])
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


def test_maps_and_sums_of_a_batch_are_those_of_its_networks(example):
  """All edge sets, in both directions."""
  _, numbers, batch = example
  nodes, sections = batch.graph.nodes, batch.sections
  x, e = (
    jnp.asarray(np.random.default_rng(0).normal(size=(n, 1)))
    for n in (sections.vertices, sections.edges)
  )
  results = jax.jit(
    lambda batch: [
      (part.map(on_edge, x, e, x), part.sum(on_edge, x, e, x))
      for part in edge_sets(BatchConnectivity(batch))
    ]
  )(batch)
  hidden = np.arange(sections.vertices) < sections.hidden
  real = np.asarray(nodes["graph"]) < len(numbers)
  results = iter(results)
  for ends in (
    (batch.graph.senders, batch.graph.receivers),
    (batch.graph.receivers, batch.graph.senders),
  ):
    s, r = map(np.asarray, ends)
    for selected in (hidden[r] | ~hidden[r], hidden[r], ~hidden[r]):
      m, total = map(np.asarray, next(results))
      expected = np.asarray(on_edge(x[s], e, x[r]))
      # Padding edges are in all sections, whatever their ends.
      selected = selected & real[r]
      sums = np.zeros_like(x)
      np.add.at(sums, r[selected], expected[selected])
      np.testing.assert_allclose(total[real], sums[real], 1e-12, 1e-14)
      assert len(m) >= selected.sum() and np.abs(total[real]).max() > 0.1
      counts = {round(float(v), 12) for v in m[:, 0]}
      assert {round(float(v), 12) for v in expected[selected, 0]} <= counts


def test_means_and_positions_by_network(example):
  dataset, numbers, batch = example
  nodes = jax.device_get(batch.graph.nodes)
  x = np.arange(batch.sections.vertices * 2.0).reshape(-1, 2) + 1

  @jax.jit
  def both(batch, x):
    connectivity = BatchConnectivity(batch)
    hidden = x[connectivity.hidden]
    return connectivity.mean_hidden(hidden), connectivity.by_position(x)

  means, placed = jax.device_get(both(batch, x))
  placed = placed.reshape(8, -1, 2)
  schema = batch.schema
  assert placed.shape[1] == schema.inputs + schema.outputs
  for i, number in enumerate(numbers):
    architecture = dataset.architectures[dataset.architecture_index[number]]
    rows = x[nodes["graph"] == i]
    count = (architecture.kind == 1).sum()
    np.testing.assert_allclose(means[i], rows[:count].mean(0), 1e-12)
    fixed = rows[count:]
    inputs = (architecture.kind == 0).sum()
    expected = np.zeros(placed.shape[1:])
    expected[:inputs] = fixed[:inputs]
    outputs = fixed[inputs:]
    expected[schema.inputs : schema.inputs + len(outputs)] = outputs
    np.testing.assert_array_equal(placed[i], expected)


def test_sections_that_are_too_small_are_refused(example):
  dataset, numbers, _ = example
  rows = dataset.rows(numbers)
  exact = pack.SectionSizes(*rows.tolist())
  dataset.batch(numbers, exact, 5)
  for position in range(6):
    less = rows.copy()
    less[position] -= 1
    if less[position] >= 0:
      with pytest.raises((RuntimeError, ValueError)):
        dataset.batch(numbers, pack.SectionSizes(*less.tolist()), 5)
