"""Image sets: splits, scaling, places of files, broken content."""

import gzip
import hashlib
import importlib.util
import io
import os
import pathlib
import struct
import tarfile
import urllib.request
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from scalegmn_jax import base
from scalegmn_jax.data import download, images

SHARED = os.environ.get("SCALEGMN_SHARED", "")
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (10, 4, 5), np.uint8)
LABELS = RANDOM.integers(0, 10, 10).astype(np.uint8)
RGB = RANDOM.integers(0, 256, (10, 32, 32, 3), np.uint8)
GRAY = images.grayscale(RGB)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path_factory):
  """Sets of ten images, an empty cache and no network."""
  monkeypatch.setattr(images, "_MNIST_VAL", 3)
  monkeypatch.setattr(images, "_CIFAR10_ENDS", (7, 8, 10))
  cache = tmp_path_factory.mktemp("cache")
  monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

  def refuse(address, **_):
    raise OSError("no network")

  monkeypatch.setattr(urllib.request, "urlopen", refuse)


def write_idx(path: pathlib.Path, array: np.ndarray) -> None:
  body = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
  body += array.tobytes()
  path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


def write_mnist(folder: pathlib.Path, suffix: str = ".gz") -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for part, rows in (("train", slice(0, 8)), ("t10k", slice(8, 10))):
    for kind, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
      write_idx(folder / f"{part}-{kind}-ubyte{suffix}", array[rows])


def write_cifar10(folder: pathlib.Path) -> None:
  folder.mkdir(parents=True)
  planes = RGB.transpose(0, 3, 1, 2).reshape(10, -1)
  records = np.concatenate([LABELS[:, None], planes], axis=1)
  for i in range(5):
    path = folder / f"data_batch_{i + 1}.bin"
    path.write_bytes(records[2 * i : 2 * i + 2].tobytes())


def tar_of(folder: pathlib.Path, path: pathlib.Path) -> None:
  with tarfile.open(path, "w:gz") as tar:
    tar.add(folder, "cifar-10-batches-bin")


def parts_of(got: images.Images) -> list[tuple[np.ndarray, np.ndarray]]:
  return [
    (got.train_x, got.train_y),
    (got.val_x, got.val_y),
    (got.test_x, got.test_y),
  ]


def check(got: images.Images, sizes, x: np.ndarray, y: np.ndarray) -> None:
  parts = parts_of(got)
  assert [len(part[0]) for part in parts] == list(sizes)
  for part_x, part_y in parts:
    assert part_x.dtype == np.float32 and part_x.ndim == 4
    assert part_y.dtype == np.int32 and part_y.ndim == 1
    assert part_y.min() >= 0 and part_y.max() < got.num_classes
  all_x = np.concatenate([part[0] for part in parts])
  np.testing.assert_allclose(all_x, x[..., None] / 127.5 - 1, atol=1e-6)
  np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), y)


def test_digits():
  got = images.load("digits")
  assert [len(x) for x, _ in parts_of(got)] == [1257, 180, 360]
  assert [len(y) for _, y in parts_of(got)] == [1257, 180, 360]
  assert got.train_x.shape[1:] == (8, 8, 1) and got.train_x.dtype == np.float32
  assert got.train_x.min() == -1 and got.train_x.max() == 1
  assert set(got.test_y) == set(range(10)) and got.num_classes == 10
  again = images.load("digits")
  for a, b in zip(got, again, strict=True):
    np.testing.assert_array_equal(a, b)
  # Frozen: later versions give the same split.
  assert got.test_y[:12].tolist() == DIGITS_TEST_START
  with pytest.raises(base.InputError, match="expected ''"):
    images.load("digits", "/somewhere")


def test_digits_are_those_of_scikit_learn(monkeypatch):
  got = images.load("digits")
  x, y = datasets.load_digits(return_X_y=True)
  order = np.random.RandomState(0).permutation(1797)
  for values, part, dtype in (
    (x[order].reshape(-1, 8, 8, 1) / 8 - 1, 0, np.float32),
    (y[order], 1, np.int32),
  ):
    ours = np.concatenate([arrays[part] for arrays in parts_of(got)])
    np.testing.assert_array_equal(ours, values.astype(dtype), strict=True)

  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(base.InputError, match="is not installed: pip install"):
    images.load("digits")


DIGITS_TEST_START = [7, 9, 4, 7, 0, 2, 6, 1, 3, 1, 3, 7]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("where", ["folder", "parent", "cache"])
def test_mnist(tmp_path, name, suffix, where):
  folder = {
    "folder": tmp_path,
    "parent": tmp_path / name,
    "cache": download.cache(name),
  }[where]
  write_mnist(folder, suffix)
  path = "" if where == "cache" else str(tmp_path)
  check(images.load(name, path), (5, 3, 2), PIXELS, LABELS)


def test_mnist_is_downloaded_once(tmp_path, monkeypatch):
  write_mnist(tmp_path)
  md5 = {
    path.name: hashlib.md5(path.read_bytes()).hexdigest()
    for path in tmp_path.iterdir()
  }
  source = download.Published("https://nowhere.invalid/", md5)
  monkeypatch.setitem(download.PUBLISHED, "mnist", source)
  asked = []

  def answer(address, **_):
    asked.append(address)
    return io.BytesIO((tmp_path / address.rpartition("/")[2]).read_bytes())

  monkeypatch.setattr(urllib.request, "urlopen", answer)
  for _ in range(2):
    check(images.load("mnist"), (5, 3, 2), PIXELS, LABELS)
  assert len(asked) == 4


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10_gs"])
def test_no_network(name):
  with pytest.raises(base.InputError) as error:
    images.load(name)
  message = str(error.value)
  assert message.startswith(download.PUBLISHED[name].address)
  assert "\n" not in message and message.endswith(str(download.cache(name)))


@pytest.mark.parametrize(
  "name, file",
  [
    ("mnist", "train-images-idx3-ubyte.gz"),
    ("cifar10_gs", "cifar10_gs.npz, cifar-10-batches-bin/ or cifar-10-bin"),
  ],
)
def test_a_path_is_never_downloaded_to(tmp_path, name, file):
  with pytest.raises(base.InputError) as error:
    images.load(name, str(tmp_path))
  assert str(error.value).startswith(f"{tmp_path}: expected {file}")
  with pytest.raises(base.InputError, match="no such folder, expected"):
    images.load(name, str(tmp_path / "absent"))


def _labels_out_of_range(folder):
  write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.array([3, 10], np.uint8))


def _labels_too_few(folder):
  write_idx(folder / "train-labels-idx1-ubyte.gz", LABELS[:7])


def _images_too_few(folder):
  write_idx(folder / "train-images-idx3-ubyte.gz", PIXELS[:3])
  write_idx(folder / "train-labels-idx1-ubyte.gz", LABELS[:3])


def _images_none(folder):
  write_idx(folder / "train-images-idx3-ubyte.gz", PIXELS[:0])


def _images_other_size(folder):
  write_idx(folder / "t10k-images-idx3-ubyte.gz", PIXELS[:2, 1:])


def _labels_absent(folder):
  (folder / "t10k-labels-idx1-ubyte.gz").unlink()


@pytest.mark.parametrize(
  "spoil, message",
  [
    (_labels_out_of_range, "t10k-labels-idx1-ubyte.gz: row 1: label 10, exp"),
    (_labels_too_few, "train-labels-idx1-ubyte.gz: 7 labels, expected 8"),
    (_images_too_few, ": 3 training images, expected more than 3"),
    (_images_none, "train-images-idx3-ubyte.gz: shape [0, 4, 5], expected"),
    (_images_other_size, "t10k-images-idx3-ubyte.gz: images of shape [3, 5]"),
    (_labels_absent, ": expected t10k-labels-idx1-ubyte.gz"),
  ],
)
def test_bad_mnist(tmp_path, spoil, message):
  write_mnist(tmp_path)
  spoil(tmp_path)
  with pytest.raises(base.InputError) as error:
    images.load("mnist", str(tmp_path))
  assert str(error.value).startswith(str(tmp_path))
  assert message in str(error.value)


@pytest.mark.parametrize(
  "where",
  ["npz", "its folder", "batches", "their folder", "tar", "its folder too"],
)
def test_cifar10_gs(tmp_path, where):
  if where in ("npz", "its folder"):
    path = tmp_path / "cifar10_gs.npz"
    np.savez(path, x_train=GRAY, y_train=LABELS)
  else:
    path = tmp_path / "cifar-10-batches-bin"
    write_cifar10(path)
    if where.startswith("tar") or where == "its folder too":
      aside = path.rename(tmp_path / "aside")
      path = tmp_path / "cifar-10-binary.tar.gz"
      tar_of(aside, path)
  path = path.parent if "folder" in where else path
  check(images.load("cifar10_gs", str(path)), (7, 1, 2), GRAY, LABELS)


def test_cifar10_gs_is_downloaded(tmp_path, monkeypatch):
  write_cifar10(tmp_path / "batches")
  tar_of(tmp_path / "batches", tmp_path / "tar")
  body = (tmp_path / "tar").read_bytes()
  source = download.Published(
    "https://nowhere.invalid/",
    {"cifar-10-binary.tar.gz": hashlib.md5(body).hexdigest()},
  )
  monkeypatch.setitem(download.PUBLISHED, "cifar10_gs", source)
  monkeypatch.setattr(
    urllib.request, "urlopen", lambda *_, **__: io.BytesIO(body)
  )
  check(images.load("cifar10_gs"), (7, 1, 2), GRAY, LABELS)
  monkeypatch.setattr(urllib.request, "urlopen", None)
  check(images.load("cifar10_gs"), (7, 1, 2), GRAY, LABELS)


def _batch_absent(folder):
  (folder / "data_batch_4.bin").unlink()


def _batch_too_long(folder):
  path = folder / "data_batch_4.bin"
  path.write_bytes(path.read_bytes() + bytes(3073))


def _batch_bad_label(folder):
  path = folder / "data_batch_4.bin"
  path.write_bytes(path.read_bytes()[:3073] + b"\xff" + bytes(3072))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
  "spoil, message",
  [
    (_batch_absent, ": has no file data_batch_4.bin"),
    (_batch_too_long, ": 11 training images, expected 10"),
    (_batch_bad_label, "/data_batch_4.bin: row 1: label 255, expected 0..9"),
  ],
)
def test_bad_cifar10_batches(tmp_path, packed, spoil, message):
  path = tmp_path / "cifar-10-batches-bin"
  write_cifar10(path)
  spoil(path)
  if packed:
    tar_of(path, tmp_path / "file.tar.gz")
    path = tmp_path / "file.tar.gz"
  with pytest.raises(base.InputError) as error:
    images.load("cifar10_gs", str(path))
  assert str(error.value).startswith(str(path))  # not the temporary folder
  assert message in str(error.value)


@pytest.mark.parametrize(
  "arrays, message",
  [
    (dict(x_train=GRAY), "no array 'y_train'"),
    (dict(x_train=GRAY[:9], y_train=LABELS), "uint8 [9, 32, 32], expected"),
    (dict(x_train=GRAY / 255, y_train=LABELS), "float64 [10, 32, 32], expect"),
    (dict(x_train=GRAY, y_train=LABELS[1:]), "y_train: 9 labels, expected 10"),
    (dict(x_train=GRAY, y_train=LABELS + 1.0), "expected integer labels"),
  ],
)
def test_bad_cifar10_npz(tmp_path, arrays, message):
  path = tmp_path / "cifar10_gs.npz"
  np.savez(path, **arrays)
  with pytest.raises(base.InputError) as error:
    images.load("cifar10_gs", str(tmp_path))
  assert str(error.value).startswith(str(path))
  assert message in str(error.value)


def test_grayscale():
  # By hand: 0.2989 · 255.5 = 76.37, 0.5870 · 255.5 = 149.98 and so on.
  rgb = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]],
    np.uint8,
  )
  assert images.grayscale(rgb).tolist() == [76, 149, 29, 255, 0]
  exact = RGB.astype(np.float64) @ (0.2989, 0.5870, 0.1140) * 255.5 / 255
  safe = abs(exact - np.round(exact)) > 1e-3  # float32 may differ elsewhere
  np.testing.assert_array_equal(GRAY[safe], np.floor(exact[safe]))
  assert GRAY.dtype == np.uint8 and safe.mean() > 0.99
  # A gray pixel stays as it is.
  levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
  np.testing.assert_array_equal(images.grayscale(levels), np.arange(256))


def npz(tmp_path, **changes) -> str:
  arrays: dict[str, Any] = dict(
    x_train=PIXELS, y_train=LABELS % 3, x_test=PIXELS[:4], y_test=LABELS[:4] % 3
  )
  arrays["y_train"][0] = 2  # three classes in any draw
  arrays.update(changes)
  path = tmp_path / "own.npz"
  arrays = {k: array for k, array in arrays.items() if array is not None}
  np.savez(path, **arrays)
  return str(path)


def test_npz(tmp_path):
  got = images.load("npz", npz(tmp_path))
  x, y = np.concatenate([PIXELS, PIXELS[:4]]), LABELS % 3
  y[0] = 2
  check(got, (9, 1, 4), x, np.concatenate([y, LABELS[:4] % 3]))
  assert got.num_classes == 3


def test_npz_of_floats_in_colour_with_validation(tmp_path):
  x = np.random.default_rng(1).normal(size=(10, 4, 5, 3))
  path = npz(
    tmp_path, x_train=x, x_val=x[:2], y_val=np.array([0, 1]), x_test=x[:4]
  )
  got = images.load("npz", path)
  assert got.train_x.dtype == np.float32 and len(got.train_x) == 10
  np.testing.assert_array_equal(got.train_x, x.astype(np.float32))
  np.testing.assert_array_equal(got.val_y, [0, 1])


NAN = np.where(np.arange(10)[:, None, None] == 6, np.nan, PIXELS)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(y_test=None), "has no array 'y_test'"),
    (dict(x_val=PIXELS), "expected both x_val and y_val, or neither"),
    (dict(x_train=NAN), "x_train: row 6 (1 rows in all) holds NaN"),
    (dict(x_train=PIXELS * 1e300), "x_train: row 0 (10 rows in all) holds"),
    (dict(x_train=PIXELS.astype(int)), "int64, expected uint8 or floats"),
    (dict(x_train=PIXELS[:, 0]), "x_train: shape [10, 5], expected [N, H, W]"),
    (dict(x_train=PIXELS[:, :0]), "x_train: shape [10, 0, 5]"),
    (dict(x_test=PIXELS[:4, 1:]), "x_test: images of shape [3, 5, 1], exp"),
    (dict(y_train=LABELS[:9]), "y_train: 9 labels, expected 10"),
    (dict(y_train=LABELS[:, None]), "y_train: uint8 [10, 1], expected integer"),
    (dict(y_train=LABELS.astype(int) - 99), "y_train: row 0: label -"),
    (dict(y_train=LABELS.astype(int) + 2**40), "expected 0 or more"),
    (dict(y_test=np.array([0, 3, 1, 4])), "y_test: row 1: label 3, exp"),
    (dict(x_train=PIXELS[:1], y_train=LABELS[:1] * 0 + 2), "1 image, exp"),
    (dict(x_test=np.array([[[None]]], object)), "x_test: cannot be read"),
  ],
)
def test_bad_npz(tmp_path, changes, message):
  path = npz(tmp_path, **changes)
  with pytest.raises(base.InputError) as error:
    images.load("npz", path)
  assert str(error.value).startswith(path) and message in str(error.value)
  assert "\n" not in str(error.value)


def test_arrays_are_all_but_the_sets():
  got = images.load("digits")
  assert [id(a) for a in got.arrays] == [id(a) for a in got[:-1]]


def test_names():
  with pytest.raises(base.InputError, match="'cifar': unknown, expected one"):
    images.load("cifar")
  with pytest.raises(base.InputError, match="expected the path of an npz"):
    images.load("npz")


def shared(name: str) -> str:
  path = os.path.join(SHARED, "data", name)
  if not SHARED or not os.path.exists(path):
    pytest.skip(f"SCALEGMN_SHARED is unset or without data/{name}")
  return path


@pytest.mark.parametrize(
  "name, mean, std",
  [("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)],
)
def test_real_mnist(monkeypatch, name, mean, std):
  path = shared(name)
  monkeypatch.setattr(images, "_MNIST_VAL", 5_000)
  got = images.load(name, os.path.dirname(path))
  assert got.train_x.shape == (55_000, 28, 28, 1)
  assert got.val_x.shape == (5_000, 28, 28, 1)
  assert got.test_x.shape == (10_000, 28, 28, 1)
  assert np.bincount(got.test_y).sum() == 10_000
  # Published mean and standard deviation of all 60,000 training images.
  moments = moments_of(got.train_x, got.val_x)
  np.testing.assert_allclose(moments, (mean, std), atol=1e-4)


def test_real_cifar10_gs(monkeypatch):
  path = shared("cifar10_gs.npz")
  monkeypatch.setattr(images, "_CIFAR10_ENDS", (35_000, 40_000, 50_000))
  got = images.load("cifar10_gs", path)
  assert got.train_x.shape == (35_000, 32, 32, 1)
  assert got.val_x.shape == (5_000, 32, 32, 1)
  assert got.test_x.shape == (10_000, 32, 32, 1)
  moments = moments_of(got.train_x, got.val_x, got.test_x)
  np.testing.assert_allclose(moments, (0.4799, 0.2396), atol=1e-4)


def moments_of(*parts: np.ndarray) -> tuple[float, float]:
  """Mean and standard deviation of x/255."""
  # float32 sums: numpy sums pairwise, with an error far below 1e-4.
  size = sum(part.size for part in parts)
  mean = sum(float(part.sum()) for part in parts) / size
  square = sum(float(np.square(part).sum()) for part in parts) / size
  return (mean + 1) / 2, float(np.sqrt(square - mean**2)) / 2


def write_npz(path, side, classes, seed):
  rng = np.random.default_rng(seed)
  arrays = {}
  for part, count in (("train", 40), ("val", 8), ("test", 9)):
    arrays[f"x_{part}"] = rng.normal(size=(count, side, side)) + seed
    arrays[f"y_{part}"] = np.arange(count) % classes
  np.savez(path, **arrays)


def test_several_sets(tmp_path, monkeypatch):
  """Classes of the second set come after classes of the first."""
  for i, (side, classes) in enumerate(((8, 3), (8, 4), (6, 2))):
    write_npz(tmp_path / f"{i}.npz", side, classes, i)
    monkeypatch.setitem(
      images._LOADERS,
      f"set{i}",
      lambda name, path, i=i: images._npz(name, str(tmp_path / f"{i}.npz")),
    )
  got = images.load("set0+set1")
  assert got.sets == (3, 4) and got.num_classes == 7
  assert [len(x) for x, _ in parts_of(got)] == [80, 16, 18]
  alone = [images.load(f"set{i}") for i in (0, 1)]
  for i, part in enumerate(parts_of(got)):
    xs, ys = zip(*(parts_of(one)[i] for one in alone), strict=True)
    np.testing.assert_array_equal(part[0], np.concatenate(xs))
    np.testing.assert_array_equal(part[1], np.concatenate([ys[0], ys[1] + 3]))
  few = images.load("set1+set0", limit=(5, 2, 1))
  assert [len(x) for x, _ in parts_of(few)] == [10, 4, 2]
  np.testing.assert_array_equal(few.train_x[:5], alone[1].train_x[:5])
  with pytest.raises(base.InputError, match="'set0.set2': sizes .8, 8, 1., .6"):
    images.load("set0+set2")
  scaled = images.load("set0+set2", side=4)
  assert scaled.train_x.shape == (80, 4, 4, 1)
  # Antialiased: every pixel counts, so the mean is kept.
  means = scaled.train_x[:40].mean((1, 2)), alone[0].train_x.mean((1, 2))
  np.testing.assert_allclose(*means, atol=0.25)
  with pytest.raises(base.InputError, match="unknown"):
    images.load("set0+nothing")
  with pytest.raises(base.InputError, match="three numbers from 1"):
    images.load("set0", limit=(5, 0, 1))
