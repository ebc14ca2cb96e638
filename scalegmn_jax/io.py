"""Files: one-line errors, atomic and durable writes, digests, damaged files.

Of several processes that compute together (`scalegmn_jax.processes`), process 0
alone writes, renames and deletes; the functions have no effect in the others.

Files can also lie in a bucket of an object store, see `as_path`. There a file
appears at once when it is closed, and a folder exists while it holds a file.
"""

import contextlib
import hashlib
import io
import json
import logging
import lzma
import os
import pathlib
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import fsspec.config
import jax
import numpy as np
from etils import epath

from scalegmn_jax import processes
from scalegmn_jax.base import InputError

_LOG = logging.getLogger(__name__)

# Exceptions that truncated or altered files were seen to raise in gzip,
# tarfile, zipfile, numpy and pandas. RuntimeError is an encrypted zip,
# NotImplementedError an unknown compression, MemoryError a header that claims
# an absurd size, and SyntaxError and TokenError come from numpy's parser of
# array headers.
_BROKEN_FILE_ERRORS = (
  ArithmeticError,
  EOFError,
  KeyError,
  MemoryError,
  OSError,
  RuntimeError,
  SyntaxError,
  TypeError,
  ValueError,
  lzma.LZMAError,
  struct.error,
  tarfile.TarError,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_STORES = {"gs": "gcsfs", "s3": "s3fs"}
"""{kind of store: its package}. The kind is also the extra that installs it."""


def as_path(name: str | os.PathLike[str]) -> pathlib.Path:
  """The path of a local name, or of a name in a bucket.

  Args:
    name: a local name, gs://bucket/name or s3://bucket/name.

  Returns:
    A `pathlib.Path`; for a bucket an `epath.Path`, which has the same methods.

  Raises:
    InputError: a bucket that cannot be reached, or another kind of store.
  """
  name = os.fspath(name)
  scheme, separator, _ = name.partition("://")
  if not separator:
    return pathlib.Path(name)
  if scheme not in _STORES:
    raise InputError(f"{name}: expected a local name, gs://... or s3://...")
  # Without its cache of listings: orbax and other processes write there too.
  fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
  path: Any = epath.Path(name)
  try:
    path.exists()
  except ImportError:
    raise InputError(
      f"{name}: {_STORES[scheme]} is not installed; "
      f"pip install 'scalegmn-jax[{scheme}]'"
    ) from None
  except Exception as error:  # of many kinds, by store
    reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"{name}: cannot be reached: {reason}") from None
  return path


def in_bucket(path: pathlib.Path) -> bool:
  """Whether `as_path` made the path from the name of a bucket."""
  return not isinstance(path, pathlib.Path)


def make_folder(path: pathlib.Path) -> None:
  """Makes a folder and its parents; in a bucket, files make their folders."""
  if not in_bucket(path):
    path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def input_errors(path: str | os.PathLike[str], expected: str) -> Iterator[None]:
  """Turns any exception that a broken file causes into a one-line `InputError`.

  A Git LFS pointer is refused at once, whichever file is expected.

  Args:
    path: the file that is being read.
    expected: description of a valid file, the end of the message.
  """
  check_no_pointer(path)
  try:
    yield
  except InputError:
    raise
  except FileNotFoundError:
    raise InputError(f"{path}: no such file; expected {expected}") from None
  except _BROKEN_FILE_ERRORS as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    if "allow_pickle" in reason:  # the advice of numpy to trust the file
      reason = "not an array of numbers"
    raise InputError(
      f"{path}: cannot be read ({reason}); expected {expected}"
    ) from error


def check_no_pointer(path: str | os.PathLike[str]) -> None:
  """Raises InputError for a Git LFS pointer: text in place of a large file."""
  if not os.path.isfile(path):  # a pipe can be read only once
    return
  try:
    with open(path, "rb") as file:
      pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
  except OSError:  # whoever reads the file reports it
    return
  if pointer:
    raise InputError(
      f"{path}: a Git LFS pointer, expected the file itself, which "
      "`git lfs pull` downloads"
    )


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file.

  Raises:
    InputError: the file is missing or damaged.
  """
  check_no_pointer(path)
  try:
    return json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except (OSError, RecursionError, ValueError) as error:
    raise InputError(f"{path}: not a JSON file: {error}") from None


@contextlib.contextmanager
def replace_file(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Writes a file atomically and durably; yields the open binary file.

  After a kill or a power cut the path holds the old content or the new one. If
  the block raises, the old content stays. A file in a bucket is kept in memory
  until the block ends.

  Args:
    path: the file; its folder exists.
  """
  if in_bucket(path) or not processes.is_first():
    content = io.BytesIO()
    yield content
    if processes.is_first():
      path.write_bytes(content.getvalue())
    return
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  sync_folder(path.parent)


def sync_folder(path: pathlib.Path) -> None:
  """Makes renames in a folder durable (Windows has no such call)."""
  if os.name == "nt":
    return
  folder = os.open(path, os.O_RDONLY)
  try:
    os.fsync(folder)
  finally:
    os.close(folder)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file atomically and durably, see `replace_file`."""
  with replace_file(path) as file:
    file.write(text.encode())


def append_text(path: pathlib.Path, text: str) -> None:
  """Appends to a text file, durably; a file in a bucket is written again."""
  if not processes.is_first():
    return
  if in_bucket(path):
    old = b""
    with contextlib.suppress(FileNotFoundError):
      old = path.read_bytes()
    path.write_bytes(old + text.encode())
    return
  with path.open("a") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


def remove(path: pathlib.Path) -> None:
  """Deletes a file, or a folder with its content, if it exists."""
  if not processes.is_first():
    return
  if path.is_dir():
    epath.Path(path).rmtree()
  else:
    path.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file atomically and durably, indented by two spaces."""
  write_text(path, json.dumps(value, indent=2) + "\n")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
  """The leaves of a pytree by their paths, for `digest`."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): np.asarray(a) for path, a in leaves}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of named arrays: names, types, shapes and values, in any order."""
  sha = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    sha.update(array.tobytes())
  return sha.hexdigest()


_DIGEST, _VALUES = "digest", "values"  # names of arrays in a file


def write_arrays(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], values: Any = None
) -> None:
  """Writes named arrays and JSON values as an npz file with their digest.

  The write is atomic and durable, see `replace_file`.

  Args:
    path: the file; its folder exists.
    arrays: of numbers or strings.
    values: JSON values.

  Raises:
    ValueError: the name of an array is one of the file's own.
  """
  if taken := arrays.keys() & {_DIGEST, _VALUES}:
    raise ValueError(f"{path}: {min(taken)} is no name of an array")
  arrays = {name: np.asarray(array) for name, array in arrays.items()}
  if values is not None:
    arrays[_VALUES] = np.array(json.dumps(values))
  with replace_file(path) as file:
    np.savez(
      file, allow_pickle=False, **arrays, **{_DIGEST: np.array(digest(arrays))}
    )


def read_arrays(
  content: bytes, path: pathlib.Path
) -> tuple[dict[str, np.ndarray], Any]:
  """Reads what `write_arrays` wrote.

  Args:
    content: bytes of the file.
    path: the file, for the message.

  Returns:
    (arrays, values).

  Raises:
    InputError: the file is damaged.
  """
  with input_errors(path, "the file as it was written"):
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
    if str(arrays.pop(_DIGEST)) != digest(arrays):
      raise ValueError("other numbers than were written")
    values = arrays.pop(_VALUES, None)
    return arrays, None if values is None else json.loads(str(values))


def set_aside(path: pathlib.Path, reason: str, then: str) -> None:
  """Renames a damaged file or folder to `<name>.damaged`, with one line.

  An earlier one of that name is deleted.

  Args:
    path: the damaged file or folder.
    reason: the damage.
    then: what happens without it, the end of the line.
  """
  if not processes.is_first():
    return
  aside = path.with_name(f"{path.name}.damaged")
  if aside.is_dir() or in_bucket(path):
    remove(aside)
  if in_bucket(path):
    _copy(path, aside)
    remove(path)
  else:
    os.replace(path, aside)
    sync_folder(path.parent)
  reason = " ".join(reason.split())
  _LOG.warning(
    "%s: damaged (%s); set aside as %s, %s", path, reason, aside.name, then
  )


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a file or folder of a bucket, whose folders cannot be renamed."""
  if not source.is_dir():
    target.write_bytes(source.read_bytes())
    return
  for path in source.iterdir():
    _copy(path, target / path.name)
