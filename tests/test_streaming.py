"""Whole zoos are edited and read block by block, and resumed."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from scalegmn_jax import batched, streaming, trained
from scalegmn_jax.base import Functional, InputError, Operator
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, store

TARGET = mlp((2, 3, 2))
COUNT = 8


class Stop(Exception):
  """An interruption."""


def write_zoo(folder, bad=(), huge=()):
  weights = np.random.default_rng(0).normal(size=(COUNT, 17))
  weights = weights.astype(np.float32)
  weights[list(bad), 3] = np.nan
  weights[list(huge), 5] = 3e38
  metrics = pd.DataFrame(
    {
      "modeldir": [f"run{i}" for i in range(COUNT)],
      "step": range(COUNT),
      "config.activation": "relu",
      "test_accuracy": np.linspace(0, 1, COUNT),
    }
  )
  store.write_zoo(folder, weights, metrics, codec.layout_of(TARGET))
  return weights


def doubling(factor=2.0):
  """An operator that needs no compilation."""

  def apply(params, weights, activation=0):
    return jax.tree.map(lambda w: w * params["factor"], weights)

  metanetwork = Operator(lambda key: {}, apply)
  return trained.TrainedOperator(
    TARGET, metanetwork, {"factor": jnp.float32(factor)}, {}
  )


def summing():
  """A functional that needs no compilation."""

  def apply(params, weights, activation=0):
    return jnp.stack([weights[0]["kernel"].sum(), weights[1]["bias"].sum()])

  metanetwork = Functional(lambda key: {}, apply)
  return trained.TrainedFunctional(TARGET, metanetwork, {}, {}, "sigmoid")


@pytest.fixture
def small_blocks(monkeypatch):
  monkeypatch.setattr(streaming, "BLOCK", 3)


def test_rows_that_fail_are_kept_and_named(tmp_path, small_blocks):
  weights = write_zoo(tmp_path / "zoo", bad=[1, 7], huge=[4])
  result = streaming.edit_zoo(doubling(), tmp_path / "zoo", tmp_path / "out")
  assert result.count == COUNT and result.failed.tolist() == [1, 4, 7]
  after = store.read_zoo(tmp_path / "out")
  good = [0, 2, 3, 5, 6]
  np.testing.assert_array_equal(after.weights[good], 2 * weights[good])
  np.testing.assert_array_equal(
    after.weights[result.failed], weights[result.failed]
  )
  # Metrics of networks that are as they were hold.
  accuracy = np.asarray(after.metrics.test_accuracy)
  assert np.isnan(accuracy[good]).all()
  assert np.isfinite(accuracy[result.failed]).all()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "zoo"]
  assert codec.read_target(tmp_path / "out").description == TARGET.description


def test_an_interrupted_call_goes_on_with_the_same_bits(tmp_path, small_blocks):
  write_zoo(tmp_path / "zoo", bad=[2])
  zoo, out, whole = (tmp_path / name for name in ("zoo", "out", "whole"))
  streaming.edit_zoo(doubling(), zoo, whole)
  finished = []

  def stop(count):
    finished.append(count)
    if sum(finished) == 6:
      raise Stop

  with pytest.raises(Stop):
    streaming.edit_zoo(doubling(), zoo, out, on_rows=stop)
  assert finished == [0, 3, 3] and not out.exists()
  # A kill in the middle of a write leaves rows that are not in the record.
  with (tmp_path / ".out.unfinished" / "zoo" / store.WEIGHTS).open(
    "r+b"
  ) as file:
    file.seek(-17 * 4, 2)  # the last row
    file.write(b"half a row")
  with pytest.raises(InputError, match="begun with another metanetwork or zoo"):
    streaming.edit_zoo(doubling(3.0), zoo, out)
  finished.clear()
  result = streaming.edit_zoo(doubling(), zoo, out, on_rows=finished.append)
  assert finished == [6, 2] and result.failed.tolist() == [2]
  for file in (store.WEIGHTS, store.METRICS, store.LAYOUT):
    assert (out / file).read_bytes() == (whole / file).read_bytes()
  with pytest.raises(InputError, match="exists already"):
    streaming.edit_zoo(doubling(), zoo, out)


def test_blocks_of_one_size_need_one_program(tmp_path, monkeypatch):
  monkeypatch.setattr(streaming, "BLOCK", 5)
  monkeypatch.setattr(batched, "CPU_BATCH", 1)
  weights = write_zoo(tmp_path / "zoo", bad=[1])
  traced = []

  def apply(params, weights, activation=0):
    traced.append(weights)
    return weights

  operator = trained.TrainedOperator(
    TARGET, Operator(lambda _: {}, apply), {}, {}
  )
  finished = []
  streaming.edit_zoo(
    operator, tmp_path / "zoo", tmp_path / "out", on_rows=finished.append
  )
  # 8 rows in blocks of at most 5, of which none computes a row in vain.
  assert finished == [0, 4, 4] and len(traced) == 1
  after = store.read_zoo(tmp_path / "out")
  np.testing.assert_array_equal(after.weights, weights)


def test_weights_bound_a_block(tmp_path, monkeypatch):
  monkeypatch.setattr(streaming, "_BLOCK_WEIGHTS", 40)  # of two networks
  write_zoo(tmp_path / "zoo")
  finished = []
  streaming.edit_zoo(
    doubling(), tmp_path / "zoo", tmp_path / "out", on_rows=finished.append
  )
  assert finished == [0, 2, 2, 2, 2]


def test_the_zoo_is_the_one_that_write_zoo_writes(tmp_path):
  weights = write_zoo(tmp_path / "zoo", bad=[3])
  streaming.edit_zoo(doubling(), tmp_path / "zoo", tmp_path / "out")
  weights[[0, 1, 2, 4, 5, 6, 7]] *= 2
  after = store.read_zoo(tmp_path / "out")
  store.write_zoo(tmp_path / "same", weights, after.metrics, after.layout)
  for file in (store.WEIGHTS, store.METRICS, store.LAYOUT):
    same = (tmp_path / "same" / file).read_bytes()
    assert (tmp_path / "out" / file).read_bytes() == same


def test_one_process_at_a_time(tmp_path):
  write_zoo(tmp_path / "zoo")

  def another(_):
    with pytest.raises(InputError, match="another process is writing there"):
      streaming.edit_zoo(doubling(), tmp_path / "zoo", tmp_path / "out")

  streaming.edit_zoo(
    doubling(), tmp_path / "zoo", tmp_path / "out", on_rows=another
  )


def test_predictions_are_a_table(tmp_path, small_blocks):
  weights = write_zoo(tmp_path / "zoo", bad=[5])
  result = streaming.predict_zoo(
    summing(), tmp_path / "zoo", tmp_path / "out.csv"
  )
  assert result.failed.tolist() == [5]
  table = pd.read_csv(tmp_path / "out.csv")
  assert table.columns.tolist() == [
    "row", *streaming.IDENTIFYING, "prediction_0", "prediction_1",
  ]  # fmt: skip
  assert table.row.tolist() == list(range(COUNT))
  assert table.modeldir.tolist() == [f"run{i}" for i in range(COUNT)]
  predictions = np.asarray(table[["prediction_0", "prediction_1"]])
  assert np.isnan(predictions[5]).all()
  for row in (0, 7):
    (network,) = codec.to_weights(TARGET, weights[row : row + 1])[:1]
    expected = jax.nn.sigmoid(network["kernel"].sum())
    np.testing.assert_allclose(predictions[row, 0], expected, 1e-5)


def test_another_architecture_is_refused_before_the_work(tmp_path):
  write_zoo(tmp_path / "zoo")
  operator = doubling()
  other = trained.TrainedOperator(
    mlp((2, 4, 2)), operator.metanetwork, operator.params, {}
  )
  with pytest.raises(InputError, match="layout.csv: "):
    streaming.edit_zoo(other, tmp_path / "zoo", tmp_path / "out")
  tanh = trained.TrainedOperator(
    mlp((2, 3, 2), "tanh"), operator.metanetwork, operator.params, {}
  )
  with pytest.raises(InputError, match="row 0 has activation 'relu'"):
    streaming.edit_zoo(tanh, tmp_path / "zoo", tmp_path / "out")
  assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
  write_zoo(tmp_path / "zoo")
  (tmp_path / "file").touch()
  with pytest.raises(InputError, match="file.*cannot be written"):
    streaming.edit_zoo(doubling(), tmp_path / "zoo", tmp_path / "file" / "out")
