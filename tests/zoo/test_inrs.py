"""Zoos of implicit neural representations: fits, files, resumption."""

import jax
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images, pictures
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, inrs, store

SETTINGS = {
  "epochs": 40,
  "batch_size": 0,
  "learning_rate": 1e-2,
  "seed": 0,
  "save_every": 8,
}
TARGET = mlp((2, 12, 12, 1), "sine", omega=8.0)


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


@pytest.fixture(scope="module")
def digit_pictures(digits):
  counts = {"train": 4, "val": 2, "test": 3}
  return pictures.first(digits, counts, {"train": 2, "val": 1, "test": 1})


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, digit_pictures):
  folder = tmp_path_factory.mktemp("zoos")
  return inrs.cached_inrs(folder, TARGET, digit_pictures, **SETTINGS)


def test_networks_render_their_pictures(zoo, digits):
  xy = pictures.coordinates(8, 8)
  for part, count in (("train", 8), ("val", 2), ("test", 3)):
    loaded = inrs.load(TARGET, zoo, digits, part)
    assert len(loaded.psnr) == count
    pixels = loaded.pictures.pixels.reshape(count, 64, 1)
    rendered = jax.vmap(TARGET.apply, (0, None))(loaded.networks.weights, xy)
    error = ((np.asarray(rendered) - pixels) ** 2).mean((1, 2))
    np.testing.assert_allclose(pictures.psnr(error), loaded.psnr, 1e-3)
    assert (loaded.psnr > 18).all()
    # Other pictures are not rendered.
    others = np.roll(pixels, count // 2, axis=0)
    error = ((np.asarray(rendered) - others) ** 2).mean((1, 2))
    assert (pictures.psnr(error) < 16).all()


def test_copies_of_a_picture_are_different_networks(zoo):
  assert list(zoo.metrics["image"][:4]) == [0, 0, 1, 1]
  rows = np.asarray(zoo.weights)
  assert len(np.unique(rows, axis=0)) == len(rows) == 13
  assert set(zoo.metrics["config.activation"]) == {"sine"}
  assert list(zoo.metrics["part"]) == ["train"] * 8 + ["val"] * 2 + ["test"] * 3


def test_an_interrupted_zoo_is_resumed_and_fitted_once(
  zoo, digit_pictures, tmp_path
):
  epochs = []

  def interrupted():
    epochs.append(1)
    if len(epochs) == 50:  # in the second part
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    inrs.cached_inrs(
      tmp_path, TARGET, digit_pictures, on_epoch=interrupted, **SETTINGS
    )
  resumed = inrs.cached_inrs(
    tmp_path,
    TARGET,
    digit_pictures,
    on_epoch=lambda: epochs.append(1),
    **SETTINGS,
  )
  assert len(epochs) == 50 + 80
  np.testing.assert_array_equal(resumed.weights, zoo.weights)
  assert resumed.metrics.equals(zoo.metrics)
  left = {p.name for p in tmp_path.iterdir()}
  assert left - {f".{resumed.path.name}.lock"} == {resumed.path.name}

  def never():
    raise AssertionError("fitted again")

  inrs.cached_inrs(
    resumed.path.parent, TARGET, digit_pictures, on_epoch=never, **SETTINGS
  )
  other = digit_pictures._replace(pixels=1 - digit_pictures.pixels)
  with pytest.raises(AssertionError, match="fitted again"):
    inrs.cached_inrs(tmp_path, TARGET, other, on_epoch=never, **SETTINGS)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"epochs": 0}, "^epochs is 0"),
    ({"batch_size": 65}, "batch_size 65"),
    ({"learning_rate": 0.0}, "learning_rate 0"),
    ({"save_every": 0}, "save_every is 0"),
  ],
)
def test_bad_settings(change, message, digit_pictures, tmp_path):
  with pytest.raises(InputError, match=message):
    inrs.cached_inrs(tmp_path, TARGET, digit_pictures, **(SETTINGS | change))


def test_files_of_another_zoo_are_refused(zoo, digits, tmp_path):
  def written(name, metrics):
    codec.write_networks(
      tmp_path / name, TARGET,
      codec.to_weights(TARGET, np.asarray(zoo.weights)), metrics,
    )  # fmt: skip
    return store.read_zoo(tmp_path / name)

  files = written("plain", zoo.metrics.drop(columns="part"))
  with pytest.raises(InputError, match="no column part"):
    inrs.load(TARGET, files, digits, "test")
  metrics = zoo.metrics.assign(label=9 - zoo.metrics["label"])
  with pytest.raises(InputError, match="another image set"):
    inrs.load(TARGET, written("labels", metrics), digits, "test")
  with pytest.raises(InputError, match="no networks of other images"):
    inrs.load(TARGET, zoo, digits, "other")


def test_folder_is_frozen(zoo):
  """Zoos cached by other versions are found again."""
  assert zoo.path.name == "zoo-d5451a00caf78f05"
