"""Batches of a training loop: draws, shapes and padding."""

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.graph.batch import dataset as datasets
from scalegmn_jax.targets.cnn import cnn


@pytest.fixture(scope="module")
def dataset(dataset_of):
  """Networks of 88 to 1,408 edges, 6 of each architecture."""
  targets = [
    cnn((8, 8, 1), channels, kernel, 2, "SAME", classes=3)
    for channels, kernel in (
      ((8,), 5), ((8, 16), 3), ((16, 8), 1), ((24, 8), 3), ((8, 24, 8), 3),
      ((32, 32), 3), ((24, 24, 24), 1), ((4, 4, 4, 4), 3),
    )
  ]  # fmt: skip
  # The tests do not use vertex sizes, which take time to compile.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      datasets,
      "_vertex_sizes",
      lambda a: lambda _: np.zeros((6, a.topology.vertices)),
    )
    return dataset_of(targets, 6)[1]


def test_a_batch_is_a_function_of_the_step(dataset):
  numbers = np.arange(40)
  load = datasets.batch_loader(dataset, numbers, size=8, seed=3)
  again = datasets.batch_loader(dataset, numbers, size=8, seed=3)
  other = datasets.batch_loader(dataset, numbers, size=8, seed=4)
  drawn = [load.numbers(step) for step in range(20)]
  for step in reversed(range(20)):
    np.testing.assert_array_equal(again.numbers(step), drawn[step])
  assert any((other.numbers(s) != drawn[s]).any() for s in range(20))
  assert len({tuple(d) for d in drawn}) == 20
  batch = load(7)
  assert batch.graph.globals["value"][:8].tolist() == drawn[7].tolist()


def test_all_given_networks_are_drawn_and_no_others(dataset):
  numbers = np.arange(3, 41)
  load = datasets.batch_loader(dataset, numbers, size=8, seed=0)
  drawn = np.concatenate([load.numbers(step) for step in range(400)])
  unique, counts = np.unique(drawn, return_counts=True)
  np.testing.assert_array_equal(unique, numbers)
  # 3,200 draws of 38 networks in strata of 4 or 5: 80 or 100 on average.
  assert 40 < counts.min() and counts.max() < 160
  # A batch mixes architectures.
  drawn = [dataset.architecture_index[load.numbers(s)] for s in range(50)]
  assert min(len(set(architectures)) for architectures in drawn) >= 5


def test_shapes_are_few_and_padding_is_little(dataset):
  numbers = np.arange(48)
  load = datasets.batch_loader(dataset, numbers, size=8, seed=0, buckets=4)
  assert 1 <= len(load.buckets) <= 4
  used = {load.bucket(load.numbers(step)) for step in range(2000)}
  assert used <= set(load.buckets)
  assert load.padding(500) < 0.2
  # The padding without strata and with one bucket, the worst case.
  edges = dataset.sections[:, 2:].sum(1)
  assert 1 - edges.mean() / edges.max() > 0.6
  # The last bucket holds any batch that can be drawn.
  largest = np.array([s[dataset.sections[s, 4].argmax()] for s in load.strata])
  assert (dataset.rows(largest) <= load.buckets[-1]).all()
  (only,) = datasets.batch_loader(
    dataset, numbers, size=8, seed=0, buckets=1
  ).buckets
  assert only == load.buckets[-1]


def test_fixed_batches_contain_each_network_once(dataset):
  parts = {"val": np.arange(0, 48, 3), "test": np.arange(1, 48, 3)[:-1]}
  batches = datasets.fixed_batches(dataset, parts, 6)
  shapes = set()
  for name, numbers in parts.items():
    seen = np.concatenate([n for n, _ in batches[name]])
    assert sorted(seen) == numbers.tolist()
    for n, batch in batches[name]:
      assert len(n) <= 6
      values = batch.graph.globals["value"]
      assert values[: len(n)].tolist() == n.tolist()
      shapes.add((batch.sections, batch.graph.n_node.shape))
  assert len(shapes) == 1


@pytest.mark.parametrize(
  "wrong", ({"size": 0}, {"size": 49}, {"size": 8, "buckets": 0})
)
def test_bad_numbers(dataset, wrong):
  with pytest.raises(InputError, match="batches of"):
    datasets.batch_loader(dataset, np.arange(48), seed=0, **wrong)
