"""Rows with names and shapes of weights become a zoo of INRs."""

import json
import sys

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.public import recipes, vectorized

SIZES = (2, 4, 4, 1)
OMEGA = 9.0
CONFIG = [
  [f"{layer}.{part}", shape]
  for layer, (n_in, n_out) in zip(
    ("kernel_net_0.linear", "kernel_net_1.linear", "output_linear"),
    zip(SIZES[:-1], SIZES[1:], strict=True),
    strict=True,
  )
  for part, shape in (("bias", [n_out]), ("kernel", [n_in, n_out]))
]
WIDTH = sum(int(np.prod(shape)) for _, shape in CONFIG)


def arrays(count, seed=0, **changes):
  rng = np.random.default_rng(seed)
  return {
    "params": rng.normal(scale=0.1, size=(count, WIDTH)).astype(np.float32),
    "labels": np.arange(count) % 10,
    "param_config": np.array([json.dumps(CONFIG)]),
  } | changes


@pytest.fixture
def folder(tmp_path):
  folder = tmp_path / "MNIST" / "SIREN"
  folder.mkdir(parents=True)
  (folder / "nef.json").write_text(
    json.dumps({"name": "SIREN", "params": {"omega_0": OMEGA}})
  )
  return folder


def convert(path, to, skip_bad=False, **options):
  source = recipes.open_zoo("field_arena", path, **options)
  source.write(to, skip_bad, lambda: None)
  return store.read_zoo(to)


def test_networks_render_pixels_that_are_not_normalized(folder, tmp_path):
  """Two files, of which "9-11" is the first in the order of rows."""
  first, second = arrays(2), arrays(2, seed=1)
  np.savez(folder / "nefs_9-11.npz", **first)
  np.savez(folder / "nefs_54999-55001.npz", **second)
  files = convert(folder, tmp_path / "zoo")
  metrics = files.metrics
  assert metrics["part"].tolist() == ["train", "train", "train", "val"]
  assert metrics["image"].tolist() == [9, 10, 54_999, 0]
  assert metrics["label"].tolist() == [0, 1, 0, 1]
  target = codec.read_target(files.path)
  assert target.description["omega"] == OMEGA
  networks = codec.load_networks(target, files, np.arange(4))
  x = np.random.default_rng(2).uniform(-1, 1, (5, 2)).astype(np.float32)
  for row, params in enumerate([*first["params"], *second["params"]]):
    parts = np.split(
      params, np.cumsum([int(np.prod(shape)) for _, shape in CONFIG])[:-1]
    )
    y = x[:, ::-1]  # (x, y) from (row, column)
    for i in range(3):
      bias, kernel = (
        parts[2 * i],
        parts[2 * i + 1].reshape(CONFIG[2 * i + 1][1]),
      )
      y = y @ kernel + bias
      y = np.sin(OMEGA * y) if i < 2 else y
    images = vectorized.SETS["mnist"]
    expected = y * images.std[0] + images.mean[0]
    weights = [
      {name: w[row] for name, w in layer.items()} for layer in networks.weights
    ]
    np.testing.assert_allclose(target.apply(weights, x), expected, atol=1e-5)


def test_sets_that_are_fitted_several_times(folder, tmp_path):
  np.savez(folder / "nefs_70000-70002.npz", **arrays(2))
  files = convert(folder, tmp_path / "zoo", omega=30.0)
  assert files.metrics["image"].tolist() == [0, 1]
  assert files.metrics["modeldir"].tolist() == ["00070000", "00070001"]
  assert codec.read_target(files.path).description["omega"] == 30.0


def test_shapes_have_no_pixels(tmp_path):
  (tmp_path / "ShapeNet").mkdir()
  path = tmp_path / "ShapeNet" / "nefs.npz"
  np.savez(path, **arrays(2))
  files = convert(path, tmp_path / "zoo", omega=1.0)
  np.testing.assert_array_equal(files.weights, arrays(2)["params"])


def test_bad_files(folder, tmp_path):
  def refused(message, **changes):
    content = {k: v for k, v in arrays(2, **changes).items() if v is not None}
    np.savez(folder / "nefs_0-2.npz", **content)
    with pytest.raises(InputError, match=message) as error:
      convert(folder, tmp_path / "zoo")
    assert "\n" not in str(error.value)

  refused("has no array param_config, expected params", param_config=None)
  refused("nefs_0-2.npz: cannot be read", param_config=np.array(["{"]))
  refused("params is float32 .2, 3., expected floats .N, 37.",
          params=np.zeros((2, 3), np.float32))  # fmt: skip
  refused("labels .3., expected one for each of 2", labels=np.arange(3))
  other = json.dumps([["filters_0.linear.bias", [WIDTH]]])
  refused("weights filters_0.linear.bias, ...: expected those of a SIREN",
          param_config=np.array([other]))  # fmt: skip
  swapped = [CONFIG[1], *CONFIG[1:]]
  swapped[0] = ["kernel_net_0.linear.bias", [1, 4]]
  refused("networks of weights", param_config=np.array([json.dumps(swapped)]))
  refused("holds NaN or infinity", params=np.full((2, WIDTH), np.nan, "f4"))
  np.savez(folder / "nefs_0-2.npz", **arrays(3))
  with pytest.raises(InputError, match="3 networks, expected 2, as its name"):
    convert(folder, tmp_path / "zoo")
  assert not (tmp_path / "zoo").exists()


def test_networks_that_are_not_finite_are_skipped(folder, tmp_path, caplog):
  content = arrays(3)
  content["params"][1, 0] = np.inf
  np.savez(folder / "nefs_0-3.npz", **content)
  files = convert(folder, tmp_path / "zoo", skip_bad=True)
  assert files.metrics["image"].tolist() == [0, 2]
  assert "1 of 3 networks are skipped" in caplog.text


def test_what_is_not_known(folder, tmp_path):
  with pytest.raises(
    InputError, match="expected a file, or a folder with files"
  ):
    recipes.open_zoo("field_arena", tmp_path)
  np.savez(tmp_path / "nefs.npz", **arrays(1))
  with pytest.raises(InputError, match="the set of images is not known"):
    recipes.open_zoo("field_arena", tmp_path)
  with pytest.raises(
    InputError, match="images 'x': expected one of mnist, cif"
  ):
    recipes.open_zoo("field_arena", tmp_path, images="x")
  with pytest.raises(
    InputError, match="nef.json: no such file, expected it or"
  ):
    recipes.open_zoo("field_arena", tmp_path, images="mnist")
  np.savez(folder / "nefs.npz", **arrays(1))
  (folder / "nef.json").write_text("{}")
  with pytest.raises(InputError, match="nef.json: has no params.omega_0"):
    recipes.open_zoo("field_arena", folder)


def test_hdf5_without_h5py(folder, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "h5py", None)
  (folder / "nefs_0-2.hdf5").touch()
  with pytest.raises(InputError, match=r"needs h5py: .*scalegmn-jax\[hdf5\]"):
    convert(folder, tmp_path / "zoo")


def test_hdf5(folder, tmp_path):
  h5py = pytest.importorskip(
    "h5py", reason="h5py (the extra `hdf5`) is not installed"
  )
  content = arrays(2)
  with h5py.File(folder / "nefs_0-2.hdf5", "w") as file:
    file["params"], file["labels"] = content["params"], content["labels"]
    kind = h5py.special_dtype(vlen=str)
    file.create_dataset("param_config", (1,), dtype=kind)[0] = json.dumps(
      CONFIG
    )
  files = convert(folder, tmp_path / "zoo")
  np.savez(tmp_path / "nefs_0-2.npz", **content)
  expected = convert(
    tmp_path / "nefs_0-2.npz", tmp_path / "other", images="mnist", omega=OMEGA
  )
  np.testing.assert_array_equal(files.weights, expected.weights)
  (folder / "nefs_0-2.hdf5").write_bytes(b"damaged")
  with pytest.raises(InputError, match="nefs_0-2.hdf5: cannot be read"):
    convert(folder, tmp_path / "new")
