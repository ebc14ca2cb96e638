"""Formats of one file: safetensors, npz, and the msgpack of flax."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError
from scalegmn_jax.data.formats import check_archive
from scalegmn_jax.files.content import (
  Content,
  Keys,
  Unreadable,
  joined,
  replace,
)
from scalegmn_jax.io import input_errors, replace_file

SAFETENSORS = ".safetensors"

_NPY = ".npy"


class Format(NamedTuple):
  """A format of files.

  Attributes:
    read: path -> its content.
    create: (path, {keys: array}) -> None, writes a new file.
  """

  read: Callable[[Path], Content]
  create: Callable[[Path, Mapping[Keys, np.ndarray]], None]


_TYPES = {
  "F64": "float64",
  "F32": "float32",
  "F16": "float16",
  "BF16": "bfloat16",
  "F8_E4M3": "float8_e4m3fn",
  "F8_E5M2": "float8_e5m2",
  "I64": "int64",
  "I32": "int32",
  "I16": "int16",
  "I8": "int8",
  "U64": "uint64",
  "U32": "uint32",
  "U16": "uint16",
  "U8": "uint8",
  "BOOL": "bool",
}
"""{type in a safetensors file: name of a type of numpy}."""


def read_safetensors(path: Path) -> Content:
  """The tensors of a safetensors file by name.

  Raises:
    InputError: no such file, a damaged one, or safetensors is not installed.
  """
  try:
    import safetensors
  except ImportError:
    raise InputError(
      f"{path}: needs safetensors: pip install 'scalegmn-jax[zoo]'"
    ) from None
  with input_errors(path, "a safetensors file"):
    content = path.read_bytes()
    try:
      tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
      raise ValueError(error) from error
    tree = {}
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
      if tensor["dtype"] not in _TYPES:
        raise ValueError(f"{name} is of {tensor['dtype']}")
      dtype = jnp.dtype(_TYPES[tensor["dtype"]])
      data = np.frombuffer(tensor["data"], dtype)
      tree[name] = data.reshape(tensor["shape"])

  def rewrite(file: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    data = bytearray(content)
    for (name,), array in arrays.items():
      begin, end = header[name]["data_offsets"]
      data[start + begin : start + end] = array.tobytes()
    with replace_file(file) as opened:
      opened.write(data)

  return Content(tree, rewrite)


def create_safetensors(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  """Writes a safetensors file."""
  named = joined(arrays)
  types = {name: kind for kind, name in _TYPES.items()}
  header, end = {}, 0
  # The widest numbers first, so that all are aligned.
  order = sorted(named, key=lambda name: (-named[name].itemsize, name))
  for name in order:
    array = named[name]
    begin, end = end, end + array.nbytes
    header[name] = {
      "dtype": types[array.dtype.name],
      "shape": list(array.shape),
      "data_offsets": [begin, end],
    }
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  with replace_file(path) as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
      file.write(named[name].tobytes())


def read_npz(path: Path) -> Content:
  """The arrays of an npz file by name.

  Raises:
    InputError: no such file, or a damaged one.
  """
  with input_errors(path, "an npz file"):
    check_archive(path)
    tree = {}
    with np.load(path, allow_pickle=False) as file:
      for name in file.files:
        tree[name] = _member(file, name)

  def rewrite(file: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
    named = {f"{name}{_NPY}": array for (name,), array in arrays.items()}
    with (
      zipfile.ZipFile(path) as old,
      replace_file(file) as opened,
      zipfile.ZipFile(opened, "w") as new,
    ):
      for member in old.infolist():
        data = old.read(member)
        if member.filename in named:
          data = _npy(named[member.filename], tree[member.filename[:-4]])
        new.writestr(member, data)

  return Content(tree, rewrite)


def _member(file: Any, name: str) -> np.ndarray | Unreadable:
  try:
    return file[name]
  except ValueError as error:
    if "allow_pickle" not in str(error):
      raise
    return Unreadable("an object, which would have to be unpickled")


def _npy(array: np.ndarray, old: np.ndarray) -> bytes:
  """An array as an npy file, in the order of axes of the old one."""
  order = "F" if np.isfortran(old) else "C"
  buffer = io.BytesIO()
  np.save(buffer, np.asarray(array, old.dtype, order=order), allow_pickle=False)
  return buffer.getvalue()


def create_npz(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  """Writes an npz file.

  Raises:
    InputError: a type that npy files do not have.
  """
  named = joined(arrays)
  for name, array in named.items():
    if array.dtype.isbuiltin != 1:  # added to numpy by another package
      raise InputError(
        f"{path}: {name} is of {array.dtype}, which npz files do not have, "
        "expected float32 or float64"
      )
  with replace_file(path) as file, zipfile.ZipFile(file, "w") as archive:
    for name, array in named.items():
      archive.writestr(f"{name}{_NPY}", _npy(array, array))


def read_msgpack(path: Path) -> Content:
  """The arrays of a file of `flax.serialization.to_bytes`.

  Raises:
    InputError: no such file, or a damaged one.
  """
  with input_errors(path, "a file of flax.serialization.to_bytes"):
    content = path.read_bytes()
    try:
      tree = flax.serialization.msgpack_restore(content)
    except Exception as error:  # damaged files raise errors of any kind
      raise ValueError(error) from error

  def rewrite(file: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
    with replace_file(file) as opened:
      replaced = replace(tree, arrays)
      opened.write(
        flax.serialization.msgpack_serialize(replaced, in_place=True)
      )

  return Content(tree, rewrite, nested=True)


def create_msgpack(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  """Writes nested dictionaries as `flax.serialization.to_bytes`."""
  tree = flax.traverse_util.unflatten_dict(dict(arrays))
  with replace_file(path) as file:
    file.write(flax.serialization.msgpack_serialize(tree, in_place=True))
