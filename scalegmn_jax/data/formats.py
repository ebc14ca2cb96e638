"""Readers of the file formats of image sets: idx, npz, CIFAR-10 batches.

Nothing is unpickled, and a broken file raises `base.InputError` only.
"""

import gzip
import math
import os
import pathlib
import struct
import tarfile
import zipfile

import numpy as np

from scalegmn_jax import base
from scalegmn_jax.io import input_errors

CIFAR10_RECORD = 1 + 3 * 32 * 32
"""Bytes of one image of the binary CIFAR-10: its label, then R, G, B planes."""

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_UINT8 = 0x08


def read_idx(path: str | os.PathLike[str], ndim: int) -> np.ndarray:
  """Reads an idx file of bytes, the format of MNIST.

  Args:
    path: the file, gzipped or not.
    ndim: the expected number of axes: 3 for images, 1 for labels.

  Returns:
    uint8 array with `ndim` axes.

  Raises:
    InputError: another format, or another length than its header says.
  """
  expected = f"an idx file of uint8 with {ndim} axes"
  with input_errors(path, expected):
    with open(path, "rb") as file:
      zipped = file.read(2) == _GZIP_MAGIC
    with (gzip.open if zipped else open)(path, "rb") as file:
      header, body = file.read(4 + 4 * ndim), file.read()
    magic = bytes((0, 0, _IDX_UINT8, ndim))
    if header[:4] != magic:
      raise base.InputError(
        f"{path}: starts with 0x{header[:4].hex()}, expected 0x{magic.hex()},"
        f" {expected}"
      )
    shape = struct.unpack(f">{ndim}I", header[4:])
    size = math.prod(shape)
    if len(body) != size:
      raise base.InputError(
        f"{path}: {len(body)} bytes after the header, expected {size} for the"
        f" shape {list(shape)} in it"
      )
  return np.frombuffer(body, np.uint8).reshape(shape)


def read_npz(
  path: str | os.PathLike[str],
  needed: tuple[str, ...],
  optional: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
  """Reads named arrays of an npz file; other arrays are ignored.

  Raises:
    InputError: not an npz file, a needed key is missing, or an array holds
      pickled objects.
  """
  expected = f"an npz file with the arrays {', '.join(needed)}"
  with input_errors(path, expected):
    # Opened as a zip first: numpy takes any other file for a pickle.
    with zipfile.ZipFile(path) as archive:
      present = {name.removesuffix(".npy") for name in archive.namelist()}
    for key in needed:
      if key not in present:
        raise base.InputError(
          f"{path}: has no array {key!r}, only {sorted(present)}; expected"
          f" {expected}"
        )
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
      for key in needed + tuple(key for key in optional if key in present):
        with input_errors(f"{path}: {key}", "an array without pickled objects"):
          array = file[key]
          if not isinstance(array, np.ndarray):  # a member of another type
            raise base.InputError(f"{path}: {key}: expected an array")
          arrays[key] = array
  return arrays


def read_cifar10_batch(
  path: str | os.PathLike[str],
) -> tuple[np.ndarray, np.ndarray]:
  """Reads one batch of the binary CIFAR-10, of any number of records.

  Returns:
    (images [N, 32, 32, 3] uint8, labels [N] uint8), both as in the file.

  Raises:
    InputError: empty, or not a whole number of records.
  """
  with input_errors(path, f"records of {CIFAR10_RECORD} bytes"):
    body = pathlib.Path(path).read_bytes()
  if not body or len(body) % CIFAR10_RECORD:
    raise base.InputError(
      f"{path}: {len(body)} bytes, expected a multiple of {CIFAR10_RECORD}: a"
      " byte of label and 3,072 of image per record"
    )
  records = np.frombuffer(body, np.uint8).reshape(-1, CIFAR10_RECORD)
  planes = records[:, 1:].reshape(-1, 3, 32, 32)
  return planes.transpose(0, 2, 3, 1), records[:, 0]


def unpack(
  archive: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> None:
  """Unpacks a tar file, compressed or not, into an existing folder.

  Raises:
    InputError: a broken file, or a member that would leave the folder.
  """
  with input_errors(archive, "a tar file whose members stay inside its folder"):
    with tarfile.open(archive) as tar:
      tar.extractall(folder, filter="data")
