"""Files of `torch.save`, read by PyTorch without running code."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError
from scalegmn_jax.data.formats import check_archive
from scalegmn_jax.files.content import Content, Keys, Unreadable, joined
from scalegmn_jax.io import input_errors, replace_file

SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".bin")


class StandIn:
  """In place of an object of a class that a file names.

  No code of the class is found, imported or run.

  Attributes:
    args: what the object would be made of.
    state: its attributes, as the file has them.
  """

  def __init__(self, *args: Any):
    self.args, self.state = args, {}

  def __setstate__(self, state: Any) -> None:
    self.state = state


def load(path: Path, *, stand_ins: bool = False) -> Any:
  """The content of a file: tensors, numbers and texts in containers.

  Args:
    path: the file.
    stand_ins: whether objects of other classes, such as the config of a
      training, become a `StandIn`; otherwise they are refused.

  Raises:
    InputError: no such file, a damaged one or one with other objects, or
      PyTorch absent or older than 2.10.
  """
  torch = _torch(path)
  with input_errors(path, "a file of torch.save(model.state_dict())"):
    _check_zip(path)
    try:
      known = [*_SCALARS, *(_stand_ins(torch, path) if stand_ins else ())]
      # Accuracies of a checkpoint are often scalars of numpy.
      with torch.serialization.safe_globals(known):
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
      raise
    except Exception as error:  # damaged files raise errors of any kind
      raise ValueError(_reason(error)) from error


def read(path: Path) -> Content:
  """The content of a file, with numpy arrays for tensors.

  Raises:
    InputError: see `load`.
  """
  loaded = load(path)

  def rewrite(file: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
    torch = _torch(path)
    tensors = {}
    for keys, array in arrays.items():
      tensor = loaded
      for key in keys:
        tensor = tensor[key]
      tensors[keys] = tensor.detach()
      try:
        tensors[keys].copy_(_tensor(torch, array))
      except RuntimeError as error:  # elements that share a place in memory
        raise InputError(
          f"{file}: {'.'.join(map(str, keys))} cannot be replaced in {path}: "
          f"{' '.join(str(error).split())}"
        ) from None
    for keys, tensor in tensors.items():  # tensors can share memory
      if not np.array_equal(_array(torch, tensor), arrays[keys]):
        raise InputError(
          f"{file}: {'.'.join(map(str, keys))} is tied to another weight in "
          f"{path}, expected equal values of both"
        )
    with replace_file(file) as opened:
      torch.save(loaded, opened)

  return Content(_arrays(_torch(path), loaded), rewrite)


def create(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  """Writes a state dict of these arrays.

  Raises:
    InputError: PyTorch is absent or older than 2.10.
  """
  torch = _torch(path)
  state = {name: _tensor(torch, a) for name, a in joined(arrays).items()}
  with replace_file(path) as file:
    torch.save(state, file)


def _torch(path: Path) -> Any:
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise InputError(
      f"{path}: needs PyTorch to be read or written: pip install "
      "'scalegmn-jax[torch]', or save the network as .safetensors"
    ) from None
  # Before 2.10 a file could run code in spite of `weights_only`.
  if [int(n) for n in torch.__version__.split(".")[:2]] < [2, 10]:
    raise InputError(
      f"{path}: PyTorch {torch.__version__} does not read it safely, expected "
      "2.10 or newer"
    )
  return torch


_DTYPES = (bool, *np.typecodes["AllInteger"], *"efd")
_SCALAR = np.float64(0).__reduce__()[0]
_SCALARS = [
  _SCALAR,
  (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before numpy 2
  np.dtype,
  *{type(np.dtype(dtype)) for dtype in _DTYPES},
]
"""What makes a scalar of numpy: no code, and no data but a number."""

_SCALAR_NAMES = {
  entry[1]
  if isinstance(entry, tuple)
  else f"{entry.__module__}.{entry.__name__}"
  for entry in _SCALARS
}


def _stand_ins(torch: Any, path: Path) -> list[tuple[type, str]]:
  """(stand-in, name) of each class and function that a file names."""
  # PyTorch maps a class to one name, so that each name has a class of its own.
  return [
    (type("StandIn", (StandIn,), {}), name)
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if name not in _SCALAR_NAMES
  ]


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


def _arrays(torch: Any, tree: Any) -> Any:
  """The same containers with numpy arrays that share the tensors' memory."""
  if isinstance(tree, Mapping):
    return {key: _arrays(torch, value) for key, value in tree.items()}
  if isinstance(tree, list | tuple):
    return [_arrays(torch, value) for value in tree]
  return _array(torch, tree) if torch.is_tensor(tree) else tree


def _array(torch: Any, tensor: Any) -> np.ndarray | Unreadable:
  name = str(tensor.dtype).removeprefix("torch.")
  layout = str(tensor.layout).removeprefix("torch.")
  if tensor.is_meta:
    return Unreadable("a tensor on the device meta, which has no values")
  if layout != "strided":
    return Unreadable(f"a tensor of the layout {layout}")
  try:
    dtype = jnp.dtype(name)
  except TypeError:  # quantized types and packed numbers
    return Unreadable(f"a tensor of {name}")
  # Bytes: numpy has fewer types than PyTorch.
  data = tensor.detach().resolve_conj().resolve_neg().contiguous()
  flat = data.reshape(-1).view(torch.uint8).numpy()
  return flat.view(dtype).reshape(tuple(tensor.shape))


def _tensor(torch: Any, array: np.ndarray) -> Any:
  data = torch.from_numpy(np.array(array, order="C").reshape(-1).view(np.uint8))
  return data.view(getattr(torch, array.dtype.name)).reshape(array.shape)
