"""Rows of a zoo's files, and measures of its networks."""

import pathlib

import jax
import numpy as np
import pandas as pd
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, store


def zoo(column):
  """Only what `values` looks at."""
  frame = pd.DataFrame({"step": [0, 1, 2], "test_accuracy": column})
  return store.ZooFiles(
    np.zeros((3, 1), np.float32), frame, None, pathlib.Path("zoo")
  )


def test_values_come_in_the_order_of_rows():
  found = codec.read_metric(zoo([0.1, 0.2, 0.3]), np.array([2, 0]))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, [0.3, 0.1], 1e-6)


@pytest.mark.parametrize("bad", (np.nan, 93.1, -0.1, "high"))
def test_values_that_are_no_share(bad):
  files = zoo([0.1, bad, 0.3])
  with pytest.raises(InputError, match=r"test_accuracy: row 1 \(1 of 2 rows"):
    codec.read_metric(files, np.array([0, 1]))
  # Rows that are not asked for may be anything.
  assert len(codec.read_metric(files, np.array([0, 2]))) == 2


def test_measures_that_a_zoo_does_not_have():
  with pytest.raises(InputError, match="score: no such column"):
    codec.read_metric(zoo([0, 1, 1]), np.array([0]), "score")


def test_a_row_from_a_file(tmp_path):
  target = mlp((4, 8, 3))
  weights = jax.tree.map(lambda w: w[None], target.init(jax.random.key(0)))
  rows = codec.to_rows(weights)
  file = tmp_path / "network.npy"
  for row in (rows, rows[0], rows.astype(float)):
    np.save(file, row)
    np.testing.assert_array_equal(codec.read_npy_row(file, target), rows)
  row = rows[0]
  for wrong in (row[:-1], np.where(row == row[0], np.nan, row), "text"):
    np.save(file, wrong)
    with pytest.raises(InputError, match="of 67 numbers, one network"):
      codec.read_npy_row(file, target)
  with pytest.raises(InputError, match="no such file"):
    codec.read_npy_row(tmp_path / "nowhere.npy", target)
