"""Readers of file formats: npy, npz, idx, CIFAR-10 batches, gzip and tar.

Nothing is unpickled, a broken file raises `base.InputError` only, and no reader
takes more memory than the header of a file or `size_limit` says.
"""

import gzip
import io
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
_ZIP_MAGIC = b"PK\x03\x04"
_NPY_MAGIC = b"\x93NUMPY"
_IDX_UINT8 = 0x08
_EXPANSION = 100  # images and tables of numbers are packed 2 to 20 times
_SMALL = 64 << 20  # bytes that any archive may expand to
_CHUNK = 1 << 20  # bytes read at a time


def size_limit(path: str | os.PathLike[str]) -> int:
  """The bytes that a file may expand to: 64 MiB, or 100 times its size."""
  return max(_SMALL, _EXPANSION * os.path.getsize(path))


def check_archive(path: str | os.PathLike[str]) -> list[str]:
  """Checks the sizes in the directory of a zip file, see `size_limit`.

  Returns:
    The names of its members.

  Raises:
    zipfile.BadZipFile: no zip file.
    ValueError: its members are larger than the limit.
  """
  with zipfile.ZipFile(path) as archive:
    members = archive.infolist()
  _check_size(sum(member.file_size for member in members), size_limit(path))
  return [member.filename for member in members]


def read_at_most(file: io.BufferedIOBase, limit: int) -> bytes:
  """Reads a file to its end.

  Raises:
    ValueError: it is longer than `limit` bytes; nothing beyond is read.
  """
  chunks, size = [], 0
  # In chunks: a reader of gzip allocates as many bytes as it is asked for.
  while chunk := file.read(min(_CHUNK, limit - size + 1)):
    chunks.append(chunk)
    size += len(chunk)
    _check_size(size, limit)
  return b"".join(chunks)


def read_gzip(path: str | os.PathLike[str], limit: int) -> bytes:
  """Reads a gzip file within its `size_limit`.

  Args:
    path: the file.
    limit: another limit in bytes.

  Raises:
    ValueError: it expands to more.
  """
  with gzip.open(path, "rb") as file:
    return read_at_most(file, min(limit, size_limit(path)))


def _check_size(size: int, limit: int) -> None:
  if size > limit:
    raise ValueError(f"it expands to more than {limit} bytes")


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
  """Opens an npy file: a read-only array that is mapped from the file.

  Nothing is read but the header, so that callers can check type and shape.

  Raises:
    InputError: another format, Python objects, or another length than the
      header says.
  """
  with input_errors(path, "a .npy file of numbers"):
    with open(path, "rb") as file:
      magic = file.read(len(_NPY_MAGIC))
    if magic.startswith(_ZIP_MAGIC):
      raise ValueError("an npz file, or another zip file")
    if magic != _NPY_MAGIC:
      raise ValueError(f"starts with 0x{magic.hex()}")
    array = np.lib.format.open_memmap(path, mode="r")
    size, expected = os.path.getsize(path), array.offset + array.nbytes
    if size != expected:
      raise ValueError(
        f"{size} bytes, {expected} for the {array.dtype} {list(array.shape)} "
        "in its header"
      )
  return array


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
    with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
      header = file.read(4 + 4 * ndim)
      magic = bytes((0, 0, _IDX_UINT8, ndim))
      if header[:4] != magic:
        raise base.InputError(
          f"{path}: starts with 0x{header[:4].hex()}, expected 0x{magic.hex()},"
          f" {expected}"
        )
      shape = struct.unpack(f">{ndim}I", header[4:])
      size = math.prod(shape)
      if size > size_limit(path):
        raise ValueError(f"a header of the shape {list(shape)}")
      try:
        body = read_at_most(file, size)
        length = f"{len(body)} bytes"
      except ValueError:
        body, length = b"", f"{size + 1} bytes or more"
    if len(body) != size:
      raise base.InputError(
        f"{path}: {length} after the header, expected {size} for the"
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
    InputError: not an npz file, a needed key is missing, an array holds pickled
      objects, or the file expands beyond `size_limit`.
  """
  expected = f"an npz file with the arrays {', '.join(needed)}"
  with input_errors(path, expected):
    # Opened as a zip first: numpy takes any other file for a pickle.
    present = {name.removesuffix(".npy") for name in check_archive(path)}
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
    InputError: a broken file, a member that would leave the folder, or a file
      that expands beyond `size_limit`.
  """
  with input_errors(archive, "a tar file whose members stay inside its folder"):
    size, limit = 0, size_limit(archive)
    with tarfile.open(archive) as tar:
      for member in tar:
        size += member.size
        _check_size(size, limit)  # before any byte of the member is read
        tar.extract(member, folder, filter="data")
