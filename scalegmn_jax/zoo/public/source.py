"""What recipes have in common: sources, places of images, outputs of INRs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.data.formats import read_at_most
from scalegmn_jax.io import input_errors
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import checkpoints, pytorch, state_dict
from scalegmn_jax.zoo.inrs import Convention

_LIMIT = 1 << 30  # bytes of a JSON file


class Source(NamedTuple):
  """Networks of another program that can be written as a zoo.

  Attributes:
    count: number of files that will be read.
    write: (folder, skip_bad, on_file) -> None: writes them as
      `pytorch.convert` does.
  """

  count: int
  write: Callable[[Path, bool, Callable[[], Any]], None]


def from_files(
  files: Sequence[Path],
  target: TargetNetwork,
  metrics: pd.DataFrame,
  *,
  key: str | None = None,
  read: pytorch.Read | None = None,
  transform: Callable[[Weights], Weights] = lambda weights: weights,
) -> Source:
  """Checkpoints of one architecture, see `pytorch.convert`."""

  def write(folder: Path, skip_bad: bool, on_file: Callable[[], Any]) -> None:
    pytorch.convert(
      files,
      target,
      folder,
      metrics=metrics,
      key=key,
      skip_bad=skip_bad,
      read=read,
      transform=transform,
      on_file=on_file,
    )

  return Source(len(files), write)


def read_json(path: Path, expected: str) -> Any:
  """The values of a JSON file.

  Args:
    path: the file.
    expected: description of a valid file, for messages.

  Raises:
    InputError: no such file, or a damaged one.
  """
  with input_errors(path, expected), path.open("rb") as file:
    return json.loads(read_at_most(file, _LIMIT))


def existing_folder(path: Path) -> Path:
  """A folder that exists.

  Raises:
    InputError: it does not.
  """
  path = path.expanduser()
  if not path.is_dir():
    raise InputError(f"{path}: no such folder")
  return path


def siren_like(file: Path, read: pytorch.Read, omega: float) -> TargetNetwork:
  """The SIREN whose weights a file holds.

  Args:
    file: a checkpoint.
    read: see `pytorch.Read`.
    omega: of the hidden layers.

  Raises:
    InputError: a file that cannot be read, or other weights than of a chain of
      linear layers.
  """
  state = read(file).state
  names = state_dict.layers(state, file, checkpoints.keeps_order(file))
  shapes = [tuple(state[f"{name}.weight"].shape) for name in names]
  if any(len(shape) != 2 for shape in shapes):
    raise InputError(f"{file}: weights {shapes}, expected linear layers alone")
  sizes = [shapes[0][1], *(shape[0] for shape in shapes)]
  return mlp(sizes, "sine", omega)


def first_readable(
  files: Sequence[Path], make: Callable[[Path], TargetNetwork]
) -> TargetNetwork:
  """The architecture of the first file that can be read.

  Raises:
    InputError: that of the first file, if none of the first hundred can.
  """
  first = None
  for file in files[:100]:
    try:
      return make(file)
    except InputError as error:
      first = first or error
  assert first is not None, "no files"
  raise first


class ImageSet(NamedTuple):
  """An image set whose parts are rows of its official files, one after another.

  Attributes:
    sizes: number of images for training, validation and test: the validation
      images are the last ones of the official training set.
    mean, std: of its pixels, by channel.
  """

  sizes: tuple[int, int, int]
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()


def place(index: np.ndarray, images: ImageSet) -> dict[str, np.ndarray]:
  """The columns `part` and `image` of networks, see `inrs`.

  Args:
    index: [N], rows of the training images followed by the test images.
    images: the image set.
  """
  starts = np.cumsum([0, *images.sizes[:-1]])
  side = np.searchsorted(starts, index, side="right") - 1
  parts = np.array(["train", "val", "test"])
  return {"part": parts[side], "image": index - starts[side]}


def converted(
  target: TargetNetwork,
  convention: Convention,
  scale: float | np.ndarray = 1.0,
  shift: float | np.ndarray = 0.0,
) -> Callable[[Weights], Weights]:
  """Weights of INRs of another program -> weights of a target.

  Args:
    target: the architecture.
    convention: of the program.
    scale: by which outputs are multiplied, a number or one per output.
    shift: added to them then, likewise; the offset of `convention` comes last.
  """

  def transform(weights: Weights) -> Weights:
    *layers, last = weights
    bias, kernel = np.asarray(last["bias"]), np.asarray(last["kernel"])
    last = {"bias": bias * scale + shift, "kernel": kernel * scale}
    return convention.to_target(target, (*layers, last))

  return transform
