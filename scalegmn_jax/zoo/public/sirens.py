"""INRs of images, one file per network: two published trees.

Navon et al., "Equivariant Architectures for Learning in Deep Weight Spaces"
(2023, arXiv:2301.12780), MNIST and Fashion-MNIST; Zhou et al., "Permutation
Equivariant Neural Functionals" (2023, arXiv:2302.14040), MNIST, Fashion-MNIST
and CIFAR-10. Names of folders and files say which image a network renders.
"""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import checkpoints, pytorch
from scalegmn_jax.zoo.inrs import Convention
from scalegmn_jax.zoo.public.source import (
  ImageSet,
  Source,
  converted,
  existing_folder,
  first_readable,
  from_files,
  place,
  siren_like,
)

MNIST = ImageSet((55_000, 5_000, 10_000))
"""Of MNIST and of Fashion-MNIST."""

CIFAR10 = ImageSet((45_000, 5_000, 10_000))

_LABEL = "label"
_DWS = re.compile(r"mnist_png_([a-z]+)_([0-9])_([0-9]+)")
_DWS_ROW = re.compile(r"model_([0-9]+)\..+")
_NFN_FOLDER = re.compile(r"(.+)_([0-9])s")
_NFN_FILE = re.compile(r"net([0-9]+)\..+")
_LOG = logging.getLogger(__name__)


def dws_inr(path: Path, *, omega: float = 30.0) -> Source:
  """MNIST or Fashion-MNIST INRs of Navon et al.

  MNIST: `mnist_png_<training or testing>_<label>_<row>/**/*.pth`. Fashion-
  MNIST: `<train or test>/model_<row>.pth`, with the label among the tensors.
  The row is that of the official files. The networks read (x, y) and add 0.5 to
  their outputs, which becomes part of their last bias.

  Args:
    path: the folder, with others between it and these.
    omega: ω of the hidden layers.

  Raises:
    InputError: no such tree.
  """
  path = existing_folder(path)
  rows, files = [], []
  for file in checkpoints.list_files(path):
    files.append(file)
    rows.append(_dws_row(file.relative_to(path)))
  official, labels, row = zip(*rows, strict=True)
  index = np.array(row) + np.where(np.array(official) == "test", 60_000, 0)
  # Rows beyond the training set would be taken for test images.
  _check_rows(files, np.array(row), np.array(official))
  metrics = _metrics(path, files, place(index, MNIST))
  known = [label is not None for label in labels]
  if all(known):
    metrics[_LABEL] = np.array(labels, int)
  elif any(known):
    raise InputError(
      f"{files[known.index(False)]}: no label in its name, which "
      f"{files[known.index(True)]} has: expected one data set"
    )
  read = _read_plain if all(known) else _read_labelled
  target = first_readable(files, lambda file: siren_like(file, read, omega))
  convention = Convention(0.5, (1, 0))
  return from_files(
    files,
    target,
    metrics,
    read=read,
    transform=converted(target, convention),
  )


def _dws_row(file: Path) -> tuple[str, int | None, int]:
  """("train" or "test", label or None, row) of a file."""
  for name in reversed(file.parts[:-1]):
    if match := _DWS.fullmatch(name):
      official = "train" if "train" in match[1] else "test"
      return official, int(match[2]), int(match[3])
  match = _DWS_ROW.fullmatch(file.name)
  if match and len(file.parts) > 1 and file.parts[-2] in ("train", "test"):
    return file.parts[-2], None, int(match[1])
  raise InputError(
    f"{file}: expected mnist_png_<training or testing>_<label>_<row>/.../*.pth "
    "or <train or test>/model_<row>.pth"
  )


def _check_rows(
  files: list[Path], rows: np.ndarray, official: np.ndarray
) -> None:
  sizes = np.where(official == "test", 10_000, 60_000)
  if (rows >= sizes).any():
    i = int((rows >= sizes).argmax())
    raise InputError(
      f"{files[i]}: row {rows[i]} of the {official[i]} images, expected less "
      f"than {sizes[i]}"
    )


def _read_plain(file: Path) -> pytorch.Checkpoint:
  return pytorch.Checkpoint(checkpoints.load_state_dict(file))


def _read_labelled(file: Path) -> pytorch.Checkpoint:
  """A state dict with one more entry, the label."""
  state = dict(checkpoints.load_state_dict(file))
  try:
    label = int(state.pop(_LABEL))
  except (KeyError, TypeError, ValueError):
    raise InputError(
      f"{file}: has no {_LABEL!r}, expected the class of its image beside the "
      "weights"
    ) from None
  return pytorch.Checkpoint(state, {_LABEL: label})


def nfn_inr(
  path: Path, *, prefix: str = "randinit_smaller", omega: float = 30.0
) -> Source:
  """MNIST, Fashion-MNIST or CIFAR-10 INRs of Zhou et al.

  `<prefix>_<label>s/net<row>.pth`, where rows number the training images, then
  the test images. The networks render 2y - 1 for pixels y in [0, 1], which is
  undone in their last layer. Folders of augmented images,
  `<prefix>_aug<number>_<label>s`, are left out.

  Args:
    path: the folder, for example `siren_mnist_wts`.
    prefix: of the folders.
    omega: ω of the hidden layers.

  Raises:
    InputError: no such tree.
  """
  path = existing_folder(path)
  files, labels, index, others = [], [], [], set()
  for file in checkpoints.list_files(path):
    folder = _NFN_FOLDER.fullmatch(file.parent.name)
    row = _NFN_FILE.fullmatch(file.name)
    if folder and row and folder[1] == prefix:
      files.append(file)
      labels.append(int(folder[2]))
      index.append(int(row[1]))
    else:
      others.add(file.parent.name)
  if not files:
    raise InputError(
      f"{path}: no {prefix}_<label>s/net<row>.pth, but folders "
      f"{', '.join(sorted(others)[:5])}"
    )
  if others:
    _LOG.warning(
      "%s: %d folders are left out (%s), expected %s_<label>s",
      path, len(others), ", ".join(sorted(others)[:5]), prefix,
    )  # fmt: skip
  target = first_readable(
    files, lambda file: siren_like(file, _read_plain, omega)
  )
  channels = target.description["sizes"][-1]
  images = {1: MNIST, 3: CIFAR10}.get(channels)
  if images is None:
    raise InputError(f"{files[0]}: {channels} outputs, expected 1 or 3")
  row = np.array(index)
  if row.max() >= sum(images.sizes):
    raise InputError(
      f"{files[row.argmax()]}: expected a row below {sum(images.sizes)}"
    )
  metrics = _metrics(path, files, place(row, images))
  metrics[_LABEL] = labels
  return from_files(
    files,
    target,
    metrics,
    read=_read_plain,
    transform=converted(target, Convention(), 0.5, 0.5),
  )


def _metrics(
  path: Path, files: list[Path], columns: dict[str, np.ndarray]
) -> pd.DataFrame:
  names = [file.relative_to(path).as_posix() for file in files]
  return pd.DataFrame({"modeldir": names, **columns})
