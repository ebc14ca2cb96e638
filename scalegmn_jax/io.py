"""Files: errors of broken ones in one line, and JSON and text written whole."""

import contextlib
import json
import lzma
import os
import pathlib
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from scalegmn_jax.base import InputError

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


@contextlib.contextmanager
def input_errors(path: str | os.PathLike[str], expected: str) -> Iterator[None]:
  """Turns any exception that a broken file causes into a one-line `InputError`.

  Args:
    path: the file that is being read.
    expected: description of a valid file, the end of the message.
  """
  try:
    yield
  except InputError:
    raise
  except FileNotFoundError:
    raise InputError(f"{path}: no such file; expected {expected}") from None
  except _BROKEN_FILE_ERRORS as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(
      f"{path}: cannot be read ({reason}); expected {expected}"
    ) from error


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file.

  Raises:
    InputError: the file is missing or damaged.
  """
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: not a JSON file: {error}") from None


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file atomically: whole or not at all."""
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file atomically, indented by two spaces."""
  write_text(path, json.dumps(value, indent=2) + "\n")
