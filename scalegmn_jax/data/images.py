"""Image sets for classification, split into train, validation and test.

    images.load("digits")
    images.load("mnist")                      # downloaded once
    images.load("cifar10_gs", "/some/folder") # read from there, no network
    images.load("npz", "/some/file.npz")      # a file with any images
    images.load("mnist+fashion_mnist", side=14)
    images.load("mnist:rotated")              # see `transforms`

Letters: N images, H rows, W columns, C channels, K classes.
"""

import importlib.util
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalegmn_jax import base, devices
from scalegmn_jax.data import download, formats
from scalegmn_jax.data.transforms import TRANSFORMS


class Images(NamedTuple):
  """Images and labels in three parts; images are scaled to about [-1, 1].

  Attributes:
    train_x: [N, H, W, C] float32. All sets but `npz` have C = 1.
    train_y: [N] int32, classes 0..K-1.
    val_x: like `train_x`: for model selection.
    val_y: like `train_y`.
    test_x: like `train_x`: for final results only.
    test_y: like `train_y`.
    sets: the number of classes of each image set; they add up to K.
  """

  train_x: np.ndarray
  train_y: np.ndarray
  val_x: np.ndarray
  val_y: np.ndarray
  test_x: np.ndarray
  test_y: np.ndarray
  sets: tuple[int, ...]

  @property
  def num_classes(self) -> int:
    """K, the classes of all image sets together."""
    return sum(self.sets)

  @property
  def splits(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(images, labels) of training, validation and test."""
    return (
      (self.train_x, self.train_y),
      (self.val_x, self.val_y),
      (self.test_x, self.test_y),
    )

  @property
  def arrays(self) -> tuple[np.ndarray, ...]:
    """Images and labels of all parts, in the order in which they are hashed."""
    return tuple(itertools.chain(*self.splits))

  def device_splits(self) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """(images, labels) of training, validation and test, on the device."""
    return devices.replicate(self.splits)


_BYTES = "x/127.5 - 1"

_SCALING = {
  "digits": "x/8 - 1",
  "mnist": _BYTES,
  "fashion_mnist": _BYTES,
  "cifar10_gs": _BYTES,
  "npz": f"{_BYTES} of uint8, floats as they are",
}
"""How `load` scales the pixels x of a file."""


def scaling(name: str) -> str:
  """How `load` scales the pixels of an image set, such as "x/127.5 - 1".

  Args:
    name: see `load`.
  """
  return "; ".join(dict.fromkeys(_SCALING[one] for one, *_ in parse(name)))


def parse(name: str) -> list[list[str]]:
  """[[image set, transformation, ...], ...] of a name that `load` accepts.

  Raises:
    InputError: an unknown image set or transformation.
  """
  sets = [one.split(":") for one in name.split("+")]
  for one, *changes in sets:
    if one not in _LOADERS:
      raise base.InputError(
        f"images {one!r}: unknown, expected one of {', '.join(NAMES)}"
      )
    for change in changes:
      if change not in TRANSFORMS:
        raise base.InputError(
          f"images {name!r}: transformation {change!r} is unknown, expected "
          f"one of {', '.join(TRANSFORMS)}"
        )
  return sets


_MNIST_VAL = 5_000
_CIFAR10_ENDS = (35_000, 40_000, 50_000)
_CIFAR10_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR10_FOLDER = "cifar-10-batches-bin"
_CIFAR10_TAR = "cifar-10-binary.tar.gz"
_CIFAR10_NPZ = "cifar10_gs.npz"


def load(
  name: str, path: str = "", *, side: int = 0, limit: Sequence[int] = ()
) -> Images:
  """Loads an image set, or several image sets as one.

  - `digits`: the 1,797 8x8 digits of scikit-learn, x/8 - 1. Needs neither file
    nor network.
  - `mnist`, `fashion_mnist`: the four official idx files, gzipped or not,
    x/127.5 - 1. The last 5,000 training images are the validation set.
  - `cifar10_gs`: grayscale CIFAR-10, x/127.5 - 1: rows 0-34,999 of the 50,000
    training images train, 35,000-39,999 validate and 40,000-49,999, the fifth
    batch, test. The official test batch is never read, so that all of the
    following files give the same images. Read from the first file found:
    `cifar10_gs.npz` (`x_train` [50000, 32, 32] uint8, `y_train` [50000]); the
    folder `cifar-10-batches-bin`, or `cifar-10-binary.tar.gz`, of the official
    binary version (see `grayscale`).
  - `npz`: a file with `x_train`, `y_train`, `x_test`, `y_test` and optionally
    `x_val`, `y_val` (default: the last tenth of the training images). Images
    are [N, H, W] or [N, H, W, C]: uint8 become x/127.5 - 1, floats stay as they
    are. Labels are integers from 0 to the largest of `y_train`.

  Several sets of the same image size are concatenated. Classes of the second
  set are numbered after the classes of the first, and so on.

  Args:
    name: one of `NAMES`, or several with "+" between them. Transformations of
      a set, see `transforms`, follow it after ":", and are applied in order.
    path: the folder with the files, or the parent of a folder `name`; for
      `cifar10_gs` also one of the files, for `npz` the file. Nothing is
      downloaded then. `digits` has no files. If empty, files are read from
      $XDG_CACHE_HOME/scalegmn_jax/images/<name> (default ~/.cache), and missing
      files are downloaded to this folder.
    side: images are scaled to side x side (linear, antialiased); 0: no scaling.
    limit: the first (train, validation, test) images of each set, at most these
      numbers; empty: all.

  Returns:
    The `Images`; the same on every call.

  Raises:
    InputError: unknown names, missing or broken files, labels out of range,
      images that are not finite, sets of different sizes, no network for a
      download, or no scikit-learn for `digits`.
  """
  if limit and (len(limit) != 3 or min(limit) < 1):
    raise base.InputError(
      f"images {name!r}: limit {tuple(limit)}, expected three numbers from 1"
    )
  path = os.path.expanduser(path)
  names = parse(name)
  sets = dict.fromkeys(one for one, *_ in names)
  # The path of several sets is that of the ones which have files.
  read = {
    one: _LOADERS[one](one, "" if one == "digits" and len(sets) > 1 else path)
    for one in sets
  }
  plain = {one: _resize(found, side, limit) for one, found in read.items()}
  return _concatenate(
    name, [_transform(plain[one], changes) for one, *changes in names]
  )


def _joined(
  splits: Iterable[tuple[np.ndarray, np.ndarray]], sets: tuple[int, ...]
) -> Images:
  """The image set whose `splits` these are."""
  train, val, test = splits
  return Images(*train, *val, *test, sets)


def _transform(images: Images, changes: Sequence[str]) -> Images:
  """The same images after some of `TRANSFORMS`."""
  splits = []
  for x, y in images.splits:
    for change in changes:
      x = TRANSFORMS[change](x, y, images.num_classes)
      x = np.ascontiguousarray(x, np.float32)
    splits.append((x, y))
  return _joined(splits, images.sets)


def _resize(images: Images, side: int, limit: Sequence[int]) -> Images:
  """The first `limit` images of each part, scaled to side x side."""
  splits = []
  for (x, y), n in zip(images.splits, limit or (None,) * 3, strict=True):
    x, y = x[:n], y[:n]
    if side:
      shape = (len(x), side, side, x.shape[-1])
      x = np.asarray(jax.image.resize(x, shape, "linear"))
    splits.append((x, y))
  return _joined(splits, images.sets)


def _concatenate(name: str, sets: list[Images]) -> Images:
  """Image sets as one, with the classes of all."""
  if len(sets) == 1:
    return sets[0]
  shapes = [images.train_x.shape[1:] for images in sets]
  if len(set(shapes)) > 1:
    raise base.InputError(
      f"images {name!r}: sizes {', '.join(map(str, shapes))}, expected one;"
      " scale them to one side"
    )
  counts = [images.num_classes for images in sets]
  starts = np.cumsum([0, *counts[:-1]])
  splits = []
  for parts in zip(*(images.splits for images in sets), strict=True):
    xs, ys = zip(*parts, strict=True)
    ys = [y + start for y, start in zip(ys, starts, strict=True)]
    splits.append((np.concatenate(xs), np.concatenate(ys).astype(np.int32)))
  return _joined(splits, tuple(counts))


def grayscale(rgb: np.ndarray) -> np.ndarray:
  """Converts RGB to gray like `tf.image.rgb_to_grayscale` for uint8.

  In float32: rgb/255 · (0.2989, 0.5870, 0.1140), then times 255.5 and
  truncated. The images of the published zoos were made by this function.

  Args:
    rgb: [..., 3] uint8.

  Returns:
    [...] uint8.
  """
  # The weights add up to 0.9999, so that 255.5 does not exceed 255.
  weights = np.array((0.2989, 0.5870, 0.1140), np.float32)
  unit = rgb.astype(np.float32)
  unit *= np.float32(1 / 255)
  return (unit @ weights * np.float32(255.5)).astype(np.uint8)


def _digits(name: str, path: str) -> Images:
  if path:
    raise base.InputError(
      f"images {name!r}: path is {path!r}, expected '': scikit-learn has them"
    )
  # The file of `sklearn.datasets.load_digits`, without the second or more that
  # importing scikit-learn takes.
  package = importlib.util.find_spec("sklearn")
  if package is None or package.origin is None:
    raise base.InputError(
      f"images {name!r}: scikit-learn, which has them, is not installed: pip "
      "install 'scalegmn-jax[zoo]'"
    )
  file = pathlib.Path(package.origin).parent / "datasets/data/digits.csv.gz"
  table = np.loadtxt(file, np.float32, delimiter=",")  # 64 pixels and a label
  # RandomState: numpy guarantees its stream, not the stream of default_rng.
  table = table[np.random.RandomState(0).permutation(len(table))]
  x = table[:, :-1].reshape(-1, 8, 8, 1) / 8 - 1
  y = table[:, -1].astype(np.int32)
  return _cut(x, y, (len(x) * 7 // 10, len(x) * 8 // 10, len(x)), 10)


def _mnist(name: str, path: str) -> Images:
  folders = _folders(name, path)
  parts = {}
  for part in ("train", "t10k"):
    image_file, label_file = (
      _idx_file(name, path, folders, f"{part}-{kind}-ubyte.gz")
      for kind in ("images-idx3", "labels-idx1")
    )
    x = formats.read_idx(image_file, ndim=3)
    y = formats.read_idx(label_file, ndim=1)
    parts[part] = (
      _pixels(x, str(image_file)),
      _labels(y, str(label_file), len(x), 10),
    )
  x, y = parts["train"]
  test_x, test_y = parts["t10k"]
  train = len(x) - _MNIST_VAL
  if train <= 0:
    raise base.InputError(
      f"{image_file.parent}: {len(x)} training images, expected more than"
      f" {_MNIST_VAL}, the size of the validation set"
    )
  if test_x.shape[1:] != x.shape[1:]:
    raise base.InputError(
      f"{image_file}: images of shape {list(test_x.shape[1:3])}, expected"
      f" {list(x.shape[1:3])} as in training"
    )
  return Images(
    x[:train], y[:train], x[train:], y[train:], test_x, test_y, (10,)
  )


def _idx_file(
  name: str, path: str, folders: list[pathlib.Path], file: str
) -> pathlib.Path:
  for folder in folders:
    for candidate in (folder / file, folder / file.removesuffix(".gz")):
      if candidate.is_file():
        return candidate
  if not path:
    return download.published(name, file)
  raise _missing(folders, f"{file} (or without .gz)")


def _cifar10_gs(name: str, path: str) -> Images:
  file = pathlib.Path(path)
  if path and file.is_file():
    if file.suffix == ".npz":
      return _cifar10_npz(file)
    return _cifar10_tar(file)
  folders = _folders(name, path)
  for folder in folders:
    if (folder / _CIFAR10_NPZ).is_file():
      return _cifar10_npz(folder / _CIFAR10_NPZ)
    for batches in (folder / _CIFAR10_FOLDER, folder):
      if (batches / _CIFAR10_BATCHES[0]).is_file():
        return _cifar10_folder(batches)
    if (folder / _CIFAR10_TAR).is_file():
      return _cifar10_tar(folder / _CIFAR10_TAR)
  if not path:
    return _cifar10_tar(download.published(name, _CIFAR10_TAR))
  raise _missing(
    folders, f"{_CIFAR10_NPZ}, {_CIFAR10_FOLDER}/ or {_CIFAR10_TAR}"
  )


def _cifar10_npz(file: pathlib.Path) -> Images:
  arrays = formats.read_npz(file, ("x_train", "y_train"))
  x, y = arrays["x_train"], arrays["y_train"]
  shape = (_CIFAR10_ENDS[-1], 32, 32)
  if x.shape != shape or x.dtype != np.uint8:
    raise base.InputError(
      f"{file}: x_train: {x.dtype} {list(x.shape)}, expected uint8"
      f" {list(shape)}"
    )
  y = _labels(y, f"{file}: y_train", len(x), 10)
  return _cut(_pixels(x, str(file)), y, _CIFAR10_ENDS, 10)


def _cifar10_tar(archive: pathlib.Path) -> Images:
  # Unpacked anew each time: the folder of the archive may be read-only.
  with tempfile.TemporaryDirectory() as folder:
    formats.unpack(archive, folder)
    batches = pathlib.Path(folder, _CIFAR10_FOLDER)
    return _cifar10_folder(batches, f"{archive}:{_CIFAR10_FOLDER}")


def _cifar10_folder(folder: pathlib.Path, source: str = "") -> Images:
  """Reads the five training batches; errors call the folder `source`."""
  source = source or str(folder)
  xs, ys = [], []
  for batch in _CIFAR10_BATCHES:
    if not (folder / batch).is_file():
      raise base.InputError(f"{source}: has no file {batch}, expected it")
    x, y = formats.read_cifar10_batch(folder / batch)
    ys.append(_labels(y, f"{source}/{batch}", len(x), 10))
    xs.append(grayscale(x))
  x, y = np.concatenate(xs), np.concatenate(ys)
  if len(x) != _CIFAR10_ENDS[-1]:
    raise base.InputError(
      f"{source}: {len(x)} training images, expected {_CIFAR10_ENDS[-1]}"
    )
  return _cut(_pixels(x, source), y, _CIFAR10_ENDS, 10)


def _npz(name: str, path: str) -> Images:
  if not path:
    raise base.InputError(f"images {name!r}: expected the path of an npz file")
  arrays = formats.read_npz(
    path, ("x_train", "y_train", "x_test", "y_test"), ("x_val", "y_val")
  )
  if ("x_val" in arrays) != ("y_val" in arrays):
    raise base.InputError(f"{path}: expected both x_val and y_val, or neither")
  xs, ys, num_classes = {}, {}, None
  for part in ("train", "val", "test"):
    if f"x_{part}" not in arrays:
      continue
    x_key, y_key = f"{path}: x_{part}", f"{path}: y_{part}"
    xs[part] = _pixels(arrays[f"x_{part}"], x_key)
    y = arrays[f"y_{part}"]
    ys[part] = _labels(y, y_key, len(xs[part]), num_classes)
    num_classes = num_classes or int(ys[part].max()) + 1
    if xs[part].shape[1:] != xs["train"].shape[1:]:
      raise base.InputError(
        f"{x_key}: images of shape {list(xs[part].shape[1:])}, expected"
        f" {list(xs['train'].shape[1:])} as in x_train"
      )
  if "val" not in xs:
    train = len(xs["train"]) - max(1, len(xs["train"]) // 10)
    if not train:
      raise base.InputError(f"{path}: x_train: 1 image, expected 2 or more")
    for values in (xs, ys):
      values["train"], values["val"] = np.split(values["train"], [train])
  assert num_classes is not None
  return Images(
    xs["train"], ys["train"], xs["val"], ys["val"], xs["test"], ys["test"],
    (num_classes,),
  )  # fmt: skip


def _folders(name: str, path: str) -> list[pathlib.Path]:
  """The folders that may have the files of an image set, in order."""
  if not path:
    return [download.cache(name)]
  folder = pathlib.Path(path)
  if not folder.is_dir():
    raise base.InputError(
      f"{path}: no such folder, expected a folder with the files of {name!r}"
    )
  return [folder, folder / name]


def _missing(folders: list[pathlib.Path], file: str) -> base.InputError:
  return base.InputError(
    f"{folders[0]}: expected {file} in this folder, or in {folders[-1]}"
  )


def _cut(
  x: np.ndarray, y: np.ndarray, ends: tuple[int, int, int], num_classes: int
) -> Images:
  """Cuts rows into train, val and test that end (exclusive) at `ends`."""
  a, b, c = ends
  return Images(x[:a], y[:a], x[a:b], y[a:b], x[b:c], y[b:c], (num_classes,))


def _pixels(x: np.ndarray, source: str) -> np.ndarray:
  """Images [N, H, W(, C)] as [N, H, W, C] float32; uint8 become x/127.5 - 1."""
  if x.ndim not in (3, 4) or not x.size:
    raise base.InputError(
      f"{source}: shape {list(x.shape)}, expected [N, H, W] or [N, H, W, C],"
      " none 0"
    )
  if x.ndim == 3:
    x = x[..., None]
  if x.dtype == np.uint8:
    scaled = x.astype(np.float32)
    scaled /= 127.5  # in place: the peak of memory is here
    scaled -= 1
    return scaled
  if not np.issubdtype(x.dtype, np.floating):
    raise base.InputError(f"{source}: {x.dtype}, expected uint8 or floats")
  with np.errstate(over="ignore"):  # reported below
    x = x.astype(np.float32)
  finite = np.isfinite(x).all(axis=(1, 2, 3))
  if not finite.all():
    raise base.InputError(
      f"{source}: row {int(np.argmin(finite))} ({int((~finite).sum())} rows in"
      " all) holds NaN or infinity, expected finite float32"
    )
  return x


def _labels(
  y: np.ndarray, source: str, count: int, num_classes: int | None
) -> np.ndarray:
  """Checked labels [count] int32; num_classes None: any number from 0."""
  if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
    raise base.InputError(
      f"{source}: {y.dtype} {list(y.shape)}, expected integer labels [N]"
    )
  if len(y) != count:
    raise base.InputError(
      f"{source}: {len(y)} labels, expected {count}, one per image"
    )
  # Without a number of classes the bound prevents overflow of int32.
  top = np.iinfo(np.int32).max if num_classes is None else num_classes
  wrong = (y < 0) | (y >= top)
  if wrong.any():
    row = int(np.argmax(wrong))
    expected = f"0..{num_classes - 1}" if num_classes else "0 or more"
    raise base.InputError(
      f"{source}: row {row}: label {y[row]}, expected {expected}"
    )
  return y.astype(np.int32)


_LOADERS: dict[str, Callable[[str, str], Images]] = {
  "digits": _digits,
  "mnist": _mnist,
  "fashion_mnist": _mnist,
  "cifar10_gs": _cifar10_gs,
  "npz": _npz,
}

NAMES = tuple(_LOADERS)
"""Names of the image sets that `load` accepts."""
