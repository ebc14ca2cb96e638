"""The published split, against an independent account of it."""

import numpy as np
import pandas as pd
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import published, store
from scalegmn_jax.zoo.layout import Layout

RUNS, STEPS = 40, (0, 20, 86)
N = RUNS * len(STEPS)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
  path = tmp_path_factory.mktemp("published") / "zoo"
  frame = pd.DataFrame(
    {
      "modeldir": np.repeat([f"run{i}" for i in range(RUNS)], len(STEPS)),
      "step": np.tile(STEPS, RUNS),
      "config.activation": np.repeat(
        ["relu", "tanh"] * (RUNS // 2), len(STEPS)
      ),
    }
  )
  weights = np.arange(N, dtype=np.float32)[:, None]
  store.write_zoo(path, weights, frame, Layout.from_shapes(["w"], [(1,)]))
  return store.read_zoo(path)


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


def test_sides(zoo, order):
  path, rows = order
  last = [row for row in rows if row % 3 == 2]  # the third step of each run
  assert len(last) == RUNS
  train, val, test = published.published_split(zoo, path)
  np.testing.assert_array_equal(test, last[20:])
  assert train.tolist() == [last[i] for i in SHUFFLED[:16]]
  assert val.tolist() == [last[i] for i in SHUFFLED[16:]]
  for side, again in zip(
    (train, val, test),
    published.published_split(zoo, path, "last"),
    strict=True,
  ):
    np.testing.assert_array_equal(side, again)


def test_one_activation_is_a_part_of_the_split_of_all(zoo, order):
  whole = published.published_split(zoo, order[0])
  for name in ("relu", "tanh"):
    part = published.published_split(zoo, order[0], activations=(name,))
    for some, every in zip(part, whole, strict=True):
      kept = zoo.metrics["config.activation"].to_numpy()[every] == name
      np.testing.assert_array_equal(some, every[kept])
      assert 0 < len(some) < len(every)


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
def test_files_that_are_no_order(zoo, tmp_path, content, message):
  path = tmp_path / "order.csv"
  if content is not None:
    path.write_text(content)
  with pytest.raises(InputError, match=message) as error:
    published.published_split(zoo, path)
  assert "order.csv" in str(error.value) and "\n" not in str(error.value)


def test_steps_and_activations_that_are_not_there(zoo, order):
  with pytest.raises(InputError, match="no row with step 5"):
    published.published_split(zoo, order[0], 5)
  with pytest.raises(InputError, match="no row with step 86 and activ"):
    published.published_split(zoo, order[0], activations=("gelu",))
