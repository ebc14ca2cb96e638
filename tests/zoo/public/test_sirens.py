"""INR trees of two programs become zoos of INRs that render their images."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import codec, inrs, store
from scalegmn_jax.zoo.public import recipes

SIDE = 6
ROWS = (3, 55_001, 60_002)  # of the official files, training then test
PLACES = (("train", 3), ("val", 1), ("test", 2))


def siren(seed, outputs=1):
  """A SIREN in the layout of PyTorch with outputs in [-0.3, 0.3]."""
  rng = np.random.default_rng(seed)
  sizes = (2, 5, 5, outputs)
  return [
    (rng.uniform(-0.05, 0.05, (n, m)), rng.uniform(-0.05, 0.05, n))
    for m, n in zip(sizes[:-1], sizes[1:], strict=True)
  ]


def render(layers, coordinates):
  """Its function, in the words of PyTorch."""
  x = coordinates
  for weight, bias in layers[:-1]:
    x = np.sin(30 * (x @ weight.T + bias))
  weight, bias = layers[-1]
  return x @ weight.T + bias


def grid(order):
  """Coordinates of pixels in order of rows: "xy" or "ij" (row, column)."""
  line = np.linspace(-1, 1, SIDE)
  first, second = np.meshgrid(line, line, indexing="ij")
  columns = (second, first) if order == "xy" else (first, second)
  return np.stack(columns, -1).reshape(-1, 2)


def image_set(pixels, labels):
  """Images with these pixels [H·W, 1] at `PLACES`, and zeros elsewhere."""
  arrays = {}
  for part, size in (("train", 55_000), ("val", 5_000), ("test", 10_000)):
    arrays[part] = np.zeros((size, SIDE, SIDE, 1), np.float32)
    arrays[f"{part}_y"] = np.zeros(size, np.int32)
  for (part, row), picture, label in zip(PLACES, pixels, labels, strict=True):
    arrays[part][row] = 2 * picture.reshape(SIDE, SIDE, 1) - 1
    arrays[f"{part}_y"][row] = label
  return Images(
    arrays["train"], arrays["train_y"], arrays["val"], arrays["val_y"],
    arrays["test"], arrays["test_y"], (10,),
  )  # fmt: skip


def save(path, layers, names, **more):
  path.parent.mkdir(parents=True, exist_ok=True)
  state = {}
  for name, (weight, bias) in zip(names, layers, strict=True):
    state[f"{name}.weight"] = np.ascontiguousarray(weight, np.float32)
    state[f"{name}.bias"] = np.ascontiguousarray(bias, np.float32)
  safetensors.numpy.save_file(state | more, path)


def dws_path(index, label):
  official, row = ("training", index), ("testing", index - 60_000)
  name, row = official if index < 60_000 else row
  return f"mnist_png_{name}_{label}_{row}/checkpoints/model_final.safetensors"


SEQ = ("seq.0", "seq.1", "seq.2")


@pytest.fixture
def dws(tmp_path):
  """(folder of three INRs, the image set that they render)."""
  networks = [siren(seed) for seed in range(3)]
  labels = (7, 0, 2)
  for layers, index, label in zip(networks, ROWS, labels, strict=True):
    save(tmp_path / "mnist-inrs" / dws_path(index, label), layers, SEQ)
  pixels = [render(layers, grid("xy")) + 0.5 for layers in networks]
  return tmp_path / "mnist-inrs", image_set(pixels, labels)


def convert(recipe, path, to, skip_bad=False, **options):
  source = recipes.open_zoo(recipe, path, **options)
  source.write(to, skip_bad, lambda: None)
  return store.read_zoo(to)


def check_renders(files, images):
  """All networks render their images, in our convention."""
  target = codec.read_target(files.path)
  for part, row in PLACES:
    loaded = inrs.load(target, files, images, part, inrs.Convention())
    assert loaded.pictures.image.tolist() == [row]
    assert loaded.psnr[0] > 80


def test_inrs_of_dws_render_their_images(dws, tmp_path):
  path, images = dws
  files = convert("dws_inr", path, tmp_path / "zoo")
  check_renders(files, images)
  assert files.metrics["label"].tolist() == [2, 0, 7]
  assert set(files.metrics["modeldir"]) == {
    dws_path(i, label) for i, label in zip(ROWS, (7, 0, 2), strict=True)
  }


def test_labels_among_the_tensors(tmp_path):
  """The tree of Fashion-MNIST."""
  networks, labels = [siren(seed) for seed in range(3)], (7, 0, 2)
  for layers, index, label in zip(networks, ROWS, labels, strict=True):
    name = f"train/model_{index}" if index < 60_000 else "test/model_2"
    path = tmp_path / "fmnist_inrs" / f"{name}.safetensors"
    save(path, layers, SEQ, label=np.array(label))
  files = convert("dws_inr", tmp_path / "fmnist_inrs", tmp_path / "zoo")
  pixels = [render(layers, grid("xy")) + 0.5 for layers in networks]
  check_renders(files, image_set(pixels, labels))
  save(path, networks[0], SEQ)
  with pytest.raises(InputError, match="model_2.* has no 'label', expected"):
    convert("dws_inr", tmp_path / "fmnist_inrs", tmp_path / "new")


def test_inrs_of_nfn_render_their_images(tmp_path, caplog):
  networks, labels = [siren(seed) for seed in range(3)], (7, 0, 2)
  names = ("net.0.linear", "net.1.linear", "net.2")
  root = tmp_path / "siren_mnist_wts"
  for layers, index, label in zip(networks, ROWS, labels, strict=True):
    folder = f"randinit_smaller_{label}s"
    save(root / folder / f"net{index}.safetensors", layers, names)
  save(root / "randinit_smaller_aug0_7s/net3.safetensors", networks[0], names)
  files = convert("nfn_inr", root, tmp_path / "zoo")
  pixels = [(render(n, grid("ij")) + 1) / 2 for n in networks]
  check_renders(files, image_set(pixels, labels))
  assert "1 folders are left out (randinit_smaller_aug0_7s)" in caplog.text
  with pytest.raises(InputError, match="no other_<label>s/net<row>.pth, but f"):
    recipes.open_zoo("nfn_inr", root, prefix="other")


def test_colour_inrs_of_nfn_are_of_cifar10(tmp_path):
  names = ("net.0.linear", "net.1.linear", "net.2")
  for index in (44_999, 45_000, 50_003):
    path = tmp_path / f"wts/randinit_smaller_1s/net{index}.safetensors"
    save(path, siren(index, outputs=3), names)
  files = convert("nfn_inr", tmp_path / "wts", tmp_path / "zoo")
  assert files.metrics["part"].tolist() == ["train", "val", "test"]
  assert files.metrics["image"].tolist() == [44_999, 0, 3]
  save(path.with_name("net60000.safetensors"), siren(0, outputs=3), names)
  with pytest.raises(
    InputError, match="net60000.*: expected a row below 60000"
  ):
    recipes.open_zoo("nfn_inr", tmp_path / "wts")


def test_trees_that_are_none(dws, tmp_path):
  path, _ = dws
  with pytest.raises(InputError, match="absent: no such folder"):
    recipes.open_zoo("dws_inr", tmp_path / "absent")
  other = path / "train" / "model_5.safetensors"
  save(other, siren(0), SEQ, label=np.array(1))
  with pytest.raises(
    InputError, match="model_5.*: no label in its name, which"
  ):
    recipes.open_zoo("dws_inr", path)
  other.unlink()
  save(path / dws_path(70_000, 3), siren(0), SEQ)
  with pytest.raises(
    InputError, match="row 10000 of the test images, expected"
  ):
    recipes.open_zoo("dws_inr", path)
  (path / dws_path(70_000, 3)).unlink()
  save(path / "elsewhere.safetensors", siren(0), SEQ)
  with pytest.raises(
    InputError, match="^elsewhere.*: expected mnist_png_<trai"
  ):
    recipes.open_zoo("dws_inr", path)


def test_bad_files_leave_nothing_and_can_be_skipped(dws, tmp_path, caplog):
  path, _ = dws
  (path / dws_path(ROWS[1], 0)).write_bytes(b"damaged")
  with pytest.raises(InputError, match="training_0_55001.*cannot be read"):
    convert("dws_inr", path, tmp_path / "zoo")
  assert not [p for p in tmp_path.iterdir() if "zoo" in p.name]
  files = convert("dws_inr", path, tmp_path / "zoo", skip_bad=True)
  assert files.metrics["image"].tolist() == [2, 3]
  assert "1 of 3 files are skipped, they cannot be read" in caplog.text


def test_an_interruption_leaves_nothing(dws, tmp_path):
  path, _ = dws
  calls = iter([None, None])
  source = recipes.open_zoo("dws_inr", path)
  with pytest.raises(StopIteration):
    source.write(tmp_path / "zoo", False, lambda: next(calls))
  assert not [p for p in tmp_path.iterdir() if "zoo" in p.name]


def test_networks_are_as_given_but_for_the_convention(dws, tmp_path):
  """The hidden layers keep their numbers."""
  path, _ = dws
  files = convert("dws_inr", path, tmp_path / "zoo")
  target = codec.read_target(files.path)
  assert target.description["sizes"] == [2, 5, 5, 1]
  weights = codec.load_networks(target, files, np.arange(3)).weights
  first = siren(2)  # testing comes first by name
  np.testing.assert_allclose(weights[1]["kernel"][0], first[1][0].T, rtol=1e-6)
  np.testing.assert_allclose(
    weights[0]["kernel"][0], first[0][0].T[::-1], rtol=1e-6
  )
  assert jax.tree.structure(weights) == jax.tree.structure(
    jax.eval_shape(target.init, jax.random.key(0))
  )
