"""Rows of zoo files as networks, and their metrics."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import scalegmn_jax as sg
from scalegmn_jax.base import Axes, Axis, InputError, Space, SymmetrySpec
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.layout import Layout


def zoo(column):
  """A zoo without weights, with one metric."""
  frame = pd.DataFrame({"step": [0, 1, 2], "test_accuracy": column})
  return store.ZooFiles(
    np.zeros((3, 1), np.float32), frame, None, pathlib.Path("zoo")
  )


def test_metrics_are_in_the_order_of_rows():
  values = codec.read_metric(zoo([0.1, 0.2, 0.3]), np.array([2, 0]))
  assert values.dtype == np.float32
  np.testing.assert_allclose(values, [0.3, 0.1], 1e-6)


@pytest.mark.parametrize("bad", (np.nan, 93.1, -0.1, "high"))
def test_metrics_outside_0_to_1(bad):
  files = zoo([0.1, bad, 0.3])
  with pytest.raises(InputError, match=r"test_accuracy: row 1 \(1 of 2 rows"):
    codec.read_metric(files, np.array([0, 1]))
  # Other rows are not checked.
  assert len(codec.read_metric(files, np.array([0, 2]))) == 2


def test_missing_metric():
  with pytest.raises(InputError, match="score: no such column"):
    codec.read_metric(zoo([0, 1, 1]), np.array([0]), "score")


def test_npy_row(tmp_path):
  target = mlp((4, 8, 3))
  weights = jax.tree.map(lambda w: w[None], target.init(jax.random.key(0)))
  rows = codec.to_rows(weights)
  file = tmp_path / "network.npy"
  for row in (rows, rows[0], rows.astype(float), rows.astype(">f4")):
    np.save(file, row)
    got = codec.read_npy_row(file, target)
    assert got.dtype.isnative and not isinstance(got, np.memmap)
    np.testing.assert_array_equal(got, rows)
  row = rows[0]
  for wrong in (row[:-1], np.where(row == row[0], np.nan, row), "text"):
    np.save(file, wrong)
    with pytest.raises(InputError, match="one network|finite weights"):
      codec.read_npy_row(file, target)
  with pytest.raises(InputError, match="no such file"):
    codec.read_npy_row(tmp_path / "nowhere.npy", target)


def test_npy_row_of_another_format(tmp_path):
  target, file = mlp((4, 8, 3)), tmp_path / "network.npy"
  with file.open("wb") as raw:
    np.savez(raw, np.zeros(67))
  with pytest.raises(InputError, match="network.npy: .*an npz file") as error:
    codec.read_npy_row(file, target)
  # A header of 4 GB, and nothing behind it.
  with file.open("wb") as raw:
    np.lib.format.write_array_header_1_0(
      raw, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)}
    )
  with pytest.raises(InputError, match="network.npy: cannot be read") as error:
    codec.read_npy_row(file, target)
  assert "\n" not in str(error.value)


def test_order_of_columns_is_found_by_name(tmp_path):
  """Kernels before biases, and the last layer before the first."""
  target = mlp((3, 3, 3))
  rows = np.arange(48, dtype=np.float32).reshape(2, 24)
  layout = Layout.from_shapes(
    ["fc2/kernel", "fc2/bias", "fc1/kernel", "fc1/bias"],
    [(3, 3), (3,), (3, 3), (3,)],
  )
  metrics = pd.DataFrame(
    {"modeldir": list("xy"), "step": 0, "config.activation": "relu"}
  )
  store.write_zoo(tmp_path / "zoo", rows, metrics, layout)
  files = store.read_zoo(tmp_path / "zoo")
  first, second = codec.load_networks(target, files, np.array([1, 0])).weights
  assert second["kernel"][1].ravel().tolist() == [*range(9)]
  assert second["bias"][1].tolist() == [9, 10, 11]
  assert first["kernel"][1].ravel().tolist() == [*range(12, 21)]
  assert first["bias"][0].tolist() == [45, 46, 47]


def test_chains_have_the_names_of_the_small_cnn_zoo():
  names = [e.name for e in codec.layout_of(cnn((8, 8, 1), (4, 4), 3)).entries]
  assert names == [
    f"sequential/{layer}/{weight}:0"
    for layer in ("conv2d", "conv2d_1", "dense")
    for weight in ("bias", "kernel")
  ]


def test_networks_of_any_pytree_round_trip(residual_mlp, tmp_path):
  names = [e.name for e in codec.layout_of(residual_mlp).entries]
  assert names == [
    f"{layer}/{w}" for layer in "abcd" for w in ("bias", "kernel")
  ]
  keys = jax.random.split(jax.random.key(0), 3)
  weights = jax.vmap(residual_mlp.init)(keys)
  metrics = pd.DataFrame(
    {"modeldir": list("xyz"), "step": 0, "config.activation": "relu"}
  )
  codec.write_networks(tmp_path / "zoo", residual_mlp, weights, metrics)
  files = store.read_zoo(tmp_path / "zoo")
  networks = codec.load_networks(residual_mlp, files, np.array([2, 0]))
  assert networks.size == 2
  expected = jax.tree.map(lambda w: w[jnp.array([2, 0])], weights)
  assert jax.tree.structure(networks.weights) == jax.tree.structure(weights)
  assert jax.tree.all(jax.tree.map(np.array_equal, networks.weights, expected))
  with pytest.raises(InputError, match="expected the weights of the target"):
    codec.load_networks(mlp((3, 8, 2)), files, np.array([0]))


def test_a_zoo_of_a_traced_target_says_its_symmetry(tmp_path):
  def apply(p, x):  # a channel has two multipliers, the kernel of v is split
    x = x[:, :, None] * p["w"][None, None]
    x = jax.nn.relu(x * p["scale"][None, None]).reshape(len(x), -1)
    return x @ p["v"]

  params = {"w": jnp.ones(4), "scale": jnp.ones(4), "v": jnp.ones((12, 2))}
  target = sg.trace(apply, params, jnp.ones((1, 3)), verify=False)
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 2))
  metrics = pd.DataFrame(
    {"modeldir": list("ab"), "step": 0, "config.activation": "traced"}
  )
  folder = tmp_path / "zoo"
  codec.write_networks(folder, target, weights, metrics)
  found = codec.read_target(folder)
  assert found.spec.axes == target.spec.axes
  assert found.spec.spaces == dict(target.spec.spaces)
  networks = codec.load_networks(found, store.read_zoo(folder), np.arange(2))
  jax.tree.map(np.testing.assert_array_equal, networks.weights, weights)
  (folder / store.TARGET).unlink()
  with pytest.raises(InputError, match="target.json: no such file"):
    codec.read_target(folder)


def test_one_array_is_a_pytree(residual_mlp):
  spec = SymmetrySpec(
    {"in": Space(3), "out": Space(2)}, Axes((Axis("in", -1), Axis("out", 1)))
  )
  target = residual_mlp._replace(init=lambda key: jnp.zeros((3, 2)), spec=spec)
  assert codec.layout_of(target).entries == (("weights", 0, 6, (3, 2)),)
