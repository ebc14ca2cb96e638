"""Splits of a zoo, also the published one against an independent account."""

import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import split, store
from scalegmn_jax.zoo.layout import Layout

THIRDS = (0.5, 0.25, 0.25)


def write(path, metrics) -> store.ZooFiles:
  weights = np.arange(len(metrics), dtype=np.float32)[:, None]
  store.write_zoo(path, weights, metrics, Layout.from_shapes(["w"], [(1,)]))
  return store.read_zoo(path)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> store.ZooFiles:
  """Four runs of three checkpoints."""
  return write(
    tmp_path_factory.mktemp("split") / "zoo",
    pd.DataFrame(
      {
        "modeldir": np.repeat(["NA", "b/00", "b/01", "c,1"], 3),
        "step": [0, 4, 9, 0, 4, 9, 9, 4, 0, 0, 1, 2],
        "config.activation": np.repeat(["relu", "tanh"], 6),
      }
    ),
  )


def test_select_rows(zoo):
  assert split.select_rows(zoo).tolist() == list(range(12))
  assert split.select_rows(zoo, step=4).tolist() == [1, 4, 7]
  # Greatest, not lowest in the file: the third run goes backwards.
  assert split.select_rows(zoo, "last").tolist() == [2, 5, 6, 11]
  assert split.select_rows(zoo, "last", ("tanh",)).tolist() == [6, 11]
  assert split.select_rows(zoo, 9, ("relu", "tanh")).tolist() == [2, 5, 6]


@pytest.mark.parametrize(
  "step, activations, message",
  [
    (3, None, "no row with step 3 and activations None, expected steps of 0, "),
    (2, ("relu",), "expected steps of 0, 1, 2, 4, 9 and activations of 'relu'"),
    (None, (), "no row with"),
    (None, "relu", "activations 'relu': expected a tuple"),
    ("first", None, "step 'first': expected None, an integer or 'last'"),
  ],
)
def test_select_rows_refuses(zoo, step, activations, message):
  for select in (
    lambda: split.select_rows(zoo, step, activations),
    lambda: split.split_zoo(zoo, train_step=step, activations=activations),
  ):
    with pytest.raises(InputError) as error:
      select()
    assert message in str(error.value)


def test_sides_have_whole_runs(zoo):
  def sides(**arguments):
    return split.split_zoo(zoo, fractions=THIRDS, **arguments)

  whole = sides(eval_step=None)
  assert [len(side) for side in whole] == [6, 3, 3]
  assert sorted(np.concatenate(whole)) == list(range(12))
  split.check_disjoint(zoo, *whole)
  # The steps do not change the side of a run.
  last = split.select_rows(zoo, "last")
  for steps in ({}, {"train_step": "last"}):
    train, val, test = sides(**steps)
    for subset, side in (
      (train, whole.train),
      (val, whole.val),
      (test, whole.test),
    ):
      assert side[np.isin(side, subset)].tolist() == subset.tolist()
    assert len(train) == (2 if steps else 6)
    assert set(val) | set(test) <= set(last) and len(val) == len(test) == 1
  assert len({str(sides(seed=seed).val) for seed in range(20)}) == 4
  train, val, test = split.split_zoo(zoo, fractions=(1, 0, 0))
  assert len(train) == 12 and not len(val) and not len(test)


def test_random_sides_are_frozen(zoo):
  """Later versions give the same split."""
  sides = split.split_zoo(zoo, fractions=THIRDS, seed=3, eval_step=None)
  assert [side[0] for side in sides] == [3, 0, 9]


@pytest.mark.parametrize(
  "fractions, message",
  [
    ((0.8, 0.1, 0.1), "4 runs split by"),
    ((0.5, 0.5, 0.5), "expected three of 0 or more that add up to 1"),
    ((1.5, -0.25, -0.25), "expected three of 0 or more"),
    ((0.5, 0.5), "expected three"),
    ((float("nan"), 0.5, 0.5), "expected three"),
  ],
)
def test_bad_fractions(zoo, fractions, message):
  with pytest.raises(InputError) as error:
    split.split_zoo(zoo, fractions=fractions)
  assert message in str(error.value)


def test_a_side_without_rows(zoo):
  # Only the last run has a step 1.
  with pytest.raises(InputError, match="0, 1, 1 networks"):
    split.split_zoo(zoo, fractions=THIRDS, seed=3, train_step=1)


def test_overlapping_sides(zoo):
  with pytest.raises(InputError, match="modeldir 'b/00' is on sides 0 and 1"):
    split.check_disjoint(zoo, np.arange(4), np.array([4, 8]))


def test_runs_with_the_same_labels_are_on_one_side(tmp_path):
  count = 20
  labels = [f"{i % 10} 0 -1" for i in range(count)]
  files = write(
    tmp_path / "zoo",
    pd.DataFrame(
      {
        "modeldir": [str(i) for i in range(count)],
        "step": 0,
        "config.activation": "relu",
        store.CLASS_TO_OUTPUT: labels,
      }
    ),
  )
  sides = split.split_zoo(files, fractions=(0.6, 0.2, 0.2))
  assert [len(side) for side in sides] == [12, 4, 4]
  labels_of = [{labels[row] for row in side} for side in sides]
  assert len(set.union(*labels_of)) == sum(map(len, labels_of))


@pytest.fixture
def of_sets(tmp_path) -> store.ZooFiles:
  """Networks of six image sets of two classes, in orders of their own."""
  labels = []
  for i in range(24):
    outputs = [-1] * 12
    outputs[2 * (i % 6) : 2 * (i % 6) + 2] = [0, 1] if i < 12 else [1, 0]
    labels.append(" ".join(map(str, outputs)))
  return write(
    tmp_path / "sets",
    pd.DataFrame(
      {
        "modeldir": [str(i) for i in range(24)],
        "step": 0,
        "config.activation": "relu",
        store.CLASS_TO_OUTPUT: labels,
      }
    ),
  )


def test_image_sets_are_on_one_side(of_sets):
  sides = split.split_zoo(
    of_sets, fractions=(0.5, 1 / 3, 1 / 6), image_sets=(2,) * 6
  )
  found = [set((side % 6).tolist()) for side in sides]
  assert [len(one) for one in found] == [3, 2, 1]
  assert len(set.union(*found)) == 6
  assert [len(side) for side in sides] == [12, 8, 4]


def test_networks_of_other_image_sets(of_sets, zoo):
  for files, sizes, message in (
    (of_sets, (2,) * 5, "is of 12 classes, expected the 10 classes of 5 image"),
    (of_sets, (3, 1, 2, 2, 2, 2), "row 1 has outputs for classes of several"),
    (zoo, (2,), "is missing, expected the 2 classes of 1 image sets"),
  ):
    with pytest.raises(InputError, match=message):
      split.split_zoo(files, image_sets=sizes)


def test_real_zoo():
  path = pathlib.Path(os.environ.get("SCALEGMN_SHARED", ""), "data")
  path = path / "mini_zoo_cifar10_gs"
  if not path.exists():
    pytest.skip("SCALEGMN_SHARED is unset or without mini_zoo_cifar10_gs")
  files = store.read_zoo(path)
  last = split.select_rows(files, "last")
  assert len(last) == 288
  assert set(store.column(files, "step")[last]) == {10}
  assert len(split.select_rows(files, 10, ("relu",))) == 142
  assert len(split.select_rows(files, 10, ("tanh",))) == 146
  sides = split.split_zoo(files)
  assert [len(side) for side in sides] == [230 * 6, 29, 29]
  names = store.column(files, "modeldir")
  assert len(set.union(*(set(names[side]) for side in sides))) == 288
  assert sum(len(set(names[side])) for side in sides) == 288


RUNS, STEPS = 40, (0, 20, 86)
N = RUNS * len(STEPS)


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> store.ZooFiles:
  """A zoo with the steps of the public one."""
  return write(
    tmp_path_factory.mktemp("published") / "zoo",
    pd.DataFrame(
      {
        "modeldir": np.repeat([f"run{i}" for i in range(RUNS)], len(STEPS)),
        "step": np.tile(STEPS, RUNS),
        "config.activation": np.repeat(
          ["relu", "tanh"] * (RUNS // 2), len(STEPS)
        ),
      }
    ),
  )


@pytest.fixture
def order(tmp_path):
  path = tmp_path / "order.csv"
  rows = np.random.default_rng(0).permutation(N)
  pd.DataFrame(rows).to_csv(path, index=False)
  assert path.read_text().startswith("0\n")
  return path, rows


SHUFFLED = [
  10, 18, 16, 14, 0, 17, 11, 2, 3, 9, 5, 7, 4, 19, 6, 15, 8, 1, 13, 12,
]  # fmt: skip
"""random.Random(0).shuffle of 0..19."""


def published(files, path, step=86, **arguments):
  return split.split_zoo(
    files, order_file=path, train_step=step, eval_step=step, **arguments
  )


def test_published_sides(public, order):
  path, rows = order
  last = [row for row in rows if row % 3 == 2]  # the third step of each run
  assert len(last) == RUNS
  sides = published(public, path)
  np.testing.assert_array_equal(sides.test, last[20:])
  assert sides.train.tolist() == [last[i] for i in SHUFFLED[:16]]
  assert sides.val.tolist() == [last[i] for i in SHUFFLED[16:]]
  for side, again in zip(sides, published(public, path, "last"), strict=True):
    np.testing.assert_array_equal(side, again)
  # All checkpoints of the same runs.
  train, val, test = split.split_zoo(public, order_file=path)
  assert sorted(set(train // 3)) == sorted(sides.train // 3)
  assert len(train) == 48
  np.testing.assert_array_equal(val, sides.val)
  np.testing.assert_array_equal(test, sides.test)


def test_one_activation_is_a_part_of_the_published_split(public, order):
  whole = published(public, order[0])
  for name in ("relu", "tanh"):
    part = published(public, order[0], activations=(name,))
    for subset, side in zip(part, whole, strict=True):
      kept = store.column(public, "config.activation")[side] == name
      np.testing.assert_array_equal(subset, side[kept])
      assert 0 < len(subset) < len(side)


def text(rows, header="0"):
  return "\n".join([header, *map(str, rows)]) + "\n"


@pytest.mark.parametrize(
  ("content", "message"),
  (
    (text(range(N), "row"), "header is 'row'"),
    (text(range(N - 1)), f"{N - 1} rows for a zoo of {N}"),
    (text([0, *range(N - 1)]), "in it twice"),
    (text([*range(N - 1), N]), "in it twice"),
    (text(["one", *range(1, N)]), "invalid literal"),
    ("", "cannot be read"),
    (None, "no such file"),
  ),
)
def test_broken_order_files(public, tmp_path, content, message):
  path = tmp_path / "order.csv"
  if content is not None:
    path.write_text(content)
  with pytest.raises(InputError, match=message) as error:
    published(public, path)
  assert "order.csv" in str(error.value) and "\n" not in str(error.value)


def test_published_steps_and_activations_that_are_not_there(public, order):
  with pytest.raises(InputError, match="no row with step 5"):
    published(public, order[0], 5)
  with pytest.raises(InputError, match="no row with step 86 and activ"):
    published(public, order[0], activations=("gelu",))


def test_skipped_rows(zoo, tmp_path, caplog):
  weights = np.array(zoo.weights)
  weights[[1, 5]] = np.array([[np.nan], [np.inf]])
  store.write_zoo(tmp_path / "zoo", weights, zoo.metrics, zoo.layout)
  bad = store.read_zoo(tmp_path / "zoo")
  got = split.select_rows(bad, "last", skip_bad=True)
  assert got.tolist() == [2, 6, 11]
  expected = split.split_zoo(zoo, fractions=THIRDS, seed=3)
  assert [5 in side for side in expected] == [True, False, False]
  sides = split.split_zoo(bad, fractions=THIRDS, seed=3, skip_bad=True)
  for side, before in zip(sides, expected, strict=True):
    assert side.tolist() == [row for row in before if row not in (1, 5)]
  file = bad.path / store.WEIGHTS
  skipped = "rows are skipped, they hold NaN or infinity"
  counts = "2 of 8" if 1 in expected.train else "1 of 8"
  assert caplog.messages == [
    f"{file}: 1 of 4 {skipped}", f"{file}: {counts} {skipped}"
  ]  # fmt: skip
  with pytest.raises(InputError, match="all 3 rows hold NaN or infinity"):
    weights[:] = np.nan
    store.write_zoo(tmp_path / "new", weights, zoo.metrics, zoo.layout)
    split.select_rows(store.read_zoo(tmp_path / "new"), 9, skip_bad=True)
