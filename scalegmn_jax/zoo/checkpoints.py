"""Checkpoint files of PyTorch: which they are, their order, their content."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from scalegmn_jax.base import InputError
from scalegmn_jax.files import pickled
from scalegmn_jax.files.content import unwrap
from scalegmn_jax.files.formats import SAFETENSORS, read_safetensors
from scalegmn_jax.zoo.names import number_key
from scalegmn_jax.zoo.state_dict import StateDict

SUFFIXES = (SAFETENSORS, *pickled.SUFFIXES)
"""Ends of the names of checkpoints, in upper or lower case."""

PathLike = str | os.PathLike[str]

_LOG = logging.getLogger(__name__)


def list_files(paths: PathLike | Sequence[PathLike]) -> list[Path]:
  """The checkpoints of a folder, or the given files.

  Numbers in names sort as numbers: "net2.pt" comes before "net10.pt". Folders
  in the folder are searched as well. A line on the log names the files with
  other suffixes, which are left out; hidden files are left out silently.

  Args:
    paths: a folder; or files, whose order is kept.

  Raises:
    InputError: no such folder, or no files.
  """
  if not isinstance(paths, str | os.PathLike):
    source, files = "paths", [Path(path).expanduser() for path in paths]
  else:
    source = Path(paths).expanduser()
    if not source.is_dir():
      raise InputError(f"{source}: no such folder")
    found = {
      path.relative_to(source).as_posix(): path
      for path in source.rglob("*")
      # A link to a folder is not followed, and is named with the other files.
      if path.is_symlink() or not path.is_dir()
    }
    names = sorted((n for n in found if not _is_hidden(n)), key=number_key)
    kept = [n for n in names if n.lower().endswith(SUFFIXES)]
    _tell_others(source, [n for n in names if n not in set(kept)])
    files = [found[name] for name in kept]
  if not files:
    raise InputError(f"{source}: no file that ends in {', '.join(SUFFIXES)}")
  return files


def rows_of_files(
  names: Sequence[object],
  matches: Callable[[str], set[Path]],
  what: object,
  among: str,
) -> dict[Path, int]:
  """{file: the row of its name}, in the order of the names.

  Args:
    names: of files, a row each.
    matches: a name -> the files that it may mean.
    what: the source of the names, for messages.
    among: the files, for messages.

  Raises:
    InputError: a name of no file or of several, or two names of one.
  """
  rows: dict[Path, int] = {}
  for row, name in enumerate(map(str, names)):
    found = matches(name)
    if len(found) != 1 or rows.setdefault(next(iter(found)), row) != row:
      reason = "none" if not found else "several, or one that has a row"
      raise InputError(f"{what}: row {row}: {name!r} names {reason} of {among}")
  return rows


def _is_hidden(name: str) -> bool:
  return any(part.startswith(".") for part in name.split("/"))


def _tell_others(folder: Path, names: Sequence[str]) -> None:
  if names:
    more = ", ..." * (len(names) > 5)
    _LOG.warning(
      "%s: %d other files are left out (%s%s), checkpoints end in %s",
      folder, len(names), ", ".join(names[:5]), more, ", ".join(SUFFIXES),
    )  # fmt: skip


def keeps_order(path: PathLike) -> bool:
  """Whether a file keeps the order of tensors; safetensors files do not."""
  return not Path(path).name.lower().endswith(SAFETENSORS)


def load_state_dict(path: PathLike, key: str | None = None) -> StateDict:
  """Reads the state dict in a file, for `state_dict.to_weights`.

  Files other than `.safetensors` are read by PyTorch (the extra `torch`), which
  unpickles nothing but tensors.

  Args:
    path: the file.
    key: the name of the state dict in a checkpoint that holds more, such as
      "model_state_dict", or "model.weights" for a name in a name; None if the
      file holds only one.

  Raises:
    InputError: no such file, another suffix, a damaged file, PyTorch absent or
      older than 2.10, no state dict in the file, or several.
  """
  path = Path(path).expanduser()
  if not path.name.lower().endswith(SUFFIXES):
    raise InputError(
      f"{path}: expected a file that ends in {', '.join(SUFFIXES)}"
    )
  if keeps_order(path):
    return unwrap(pickled.load(path), key, path)
  if key is not None:
    raise InputError(
      f"{path}: a safetensors file has no {key!r}, expected a file of tensors "
      "and no key"
    )
  return read_safetensors(path).tree
