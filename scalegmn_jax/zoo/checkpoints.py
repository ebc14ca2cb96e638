"""Checkpoint files of PyTorch: which they are, their order, their content."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from scalegmn_jax.base import InputError
from scalegmn_jax.data.formats import check_archive
from scalegmn_jax.io import input_errors
from scalegmn_jax.zoo.names import number_key
from scalegmn_jax.zoo.state_dict import StateDict

SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".pt", ".pth", ".pth.tar", ".ckpt", ".bin")
"""Ends of the names of checkpoints, in upper or lower case."""

PathLike = str | os.PathLike[str]

_LOG = logging.getLogger(__name__)
_DEPTH = 3  # of a state dict in the dictionaries of a checkpoint


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
    return _unwrap(_load_pickled(path), key, path)
  with input_errors(path, "a safetensors file of floats"):
    try:
      state = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, AttributeError) as error:
      raise ValueError(error) from error  # AttributeError: an unknown dtype
  if key is not None:
    raise InputError(
      f"{path}: a safetensors file has no {key!r}, expected a file of tensors "
      "and no key"
    )
  return state


def _load_pickled(path: Path) -> Any:
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise InputError(
      f"{path}: needs PyTorch to be read: pip install 'scalegmn-jax[torch]', "
      "or save the network as .safetensors"
    ) from None
  # Before 2.10 a file could run code in spite of `weights_only`.
  if [int(n) for n in torch.__version__.split(".")[:2]] < [2, 10]:
    raise InputError(
      f"{path}: PyTorch {torch.__version__} does not read it safely, expected "
      "2.10 or newer"
    )
  with input_errors(path, "a file of torch.save(model.state_dict())"):
    _check_zip(path)
    try:
      # Accuracies of a checkpoint are often scalars of numpy.
      with torch.serialization.safe_globals(_SCALARS):
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
      raise
    except Exception as error:  # damaged files raise errors of any kind
      raise ValueError(_reason(error)) from error


_DTYPES = (bool, *np.typecodes["AllInteger"], *"efd")
_SCALAR = np.float64(0).__reduce__()[0]
_SCALARS = [
  _SCALAR,
  (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before numpy 2
  np.dtype,
  *{type(np.dtype(dtype)) for dtype in _DTYPES},
]
"""What makes a scalar of numpy: no code, and no data but a number."""


def _check_zip(path: Path) -> None:
  """Raises ValueError for an archive of TorchScript, or one that expands."""
  with path.open("rb") as file:
    if file.read(4) != b"PK\x03\x04":
      return  # the format before PyTorch 1.6
  members = check_archive(path)
  if any(re.fullmatch("[^/]+/code/.*", name) for name in members):
    raise ValueError(
      "a TorchScript archive; torch.jit.load(path).state_dict() in PyTorch "
      "gives its state dict"
    )


def _reason(error: Exception) -> str:
  """A line for an exception of torch.load."""
  other = re.search("Unsupported global: GLOBAL ([^ ]+)", str(error))
  if other:
    return (
      f"it holds a {other[1]}, which would have to be unpickled; "
      "torch.save(model.state_dict(), path) saves the weights alone"
    )
  return str(error).partition(". ")[0] or type(error).__name__


def _unwrap(value: Any, key: str | None, path: Path) -> StateDict:
  """The state dict in the content of a file."""
  if not isinstance(value, Mapping):
    raise InputError(
      f"{path}: holds a {type(value).__name__}, expected a state dict"
    )
  found = dict(_state_dicts(value))
  if key is not None:
    for name in [key] if key in value else key.split("."):
      if not isinstance(value, Mapping) or name not in value:
        names = ", ".join(found) or "no state dict"
        raise InputError(f"{path}: has no {key!r}, expected one of: {names}")
      value = value[name]
    if not isinstance(value, Mapping):
      raise InputError(
        f"{path}: {key!r} is a {type(value).__name__}, expected a state dict"
      )
    return value
  if _is_state_dict(value) or not found:
    return value  # if it is none, its reader says which entry is wrong
  if len(found) > 1:
    raise InputError(
      f"{path}: holds several state dicts, expected a key: one of "
      f"{', '.join(found)}"
    )
  return next(iter(found.values()))


def _is_state_dict(value: Any) -> bool:
  return isinstance(value, Mapping) and all(
    isinstance(name, str) and hasattr(tensor, "shape")
    for name, tensor in value.items()
  )


def _state_dicts(
  value: Mapping[str, Any], prefix: str = "", depth: int = 1
) -> Iterator[tuple[str, StateDict]]:
  """The state dicts in nested dictionaries, by the key of each."""
  for name, inner in value.items():
    if not isinstance(inner, Mapping) or not isinstance(name, str):
      continue
    # Statistics of images are dictionaries of tensors as well, but no layers.
    if _is_state_dict(inner) and any(len(t.shape) > 1 for t in inner.values()):
      yield prefix + name, inner
    elif depth < _DEPTH and all(isinstance(key, str) for key in inner):
      yield from _state_dicts(inner, f"{prefix}{name}.", depth + 1)
