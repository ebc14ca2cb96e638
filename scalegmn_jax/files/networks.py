"""Networks of any program: `load_network` and `save_network`."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import (
  InputError,
  TargetNetwork,
  Weights,
  leaf_name,
)
from scalegmn_jax.files import formats, pickled
from scalegmn_jax.files.content import (
  Content,
  Keys,
  Unreadable,
  dotted,
  flatten,
  unwrap,
)
from scalegmn_jax.files.formats import Format


def _read_folder(path: Path) -> Content:
  from scalegmn_jax.files import orbax  # takes a fifth of a second

  return orbax.read(path)


def _create_folder(path: Path, arrays: Mapping[Keys, np.ndarray]) -> None:
  from scalegmn_jax.files import orbax

  orbax.create(path, arrays)


_FOLDER = "no suffix (a folder of orbax)"

FORMATS = {
  formats.SAFETENSORS: Format(
    formats.read_safetensors, formats.create_safetensors
  ),
  ".npz": Format(formats.read_npz, formats.create_npz),
  ".msgpack": Format(formats.read_msgpack, formats.create_msgpack),
  **dict.fromkeys(pickled.SUFFIXES, Format(pickled.read, pickled.create)),
  _FOLDER: Format(_read_folder, _create_folder),
}
"""{end of a name: format}."""

_REAL = (jnp.floating, jnp.integer, jnp.bool_)

_SHOWN = 3  # names of entries in a message


def load_network(
  file: str | os.PathLike[str],
  like: Weights | TargetNetwork | None = None,
  *,
  key: str | None = None,
) -> Weights:
  """Reads a network that another program saved, with its own names.

  Formats, by the end of the name: `.safetensors`; `.npz` of numpy; `.msgpack`
  of `flax.serialization.to_bytes`; `.pt`, `.pth`, `.pth.tar`, `.ckpt` and
  `.bin` of `torch.save`, from which nothing but tensors is unpickled; and
  folders of orbax. Nothing is transposed. Chains of layers whose state dict is
  to become the weights of `sg.cnn` or `sg.mlp` are read by
  `zoo.pytorch.read_network`.

  Args:
    file: its name.
    like: the pytree to be filled, with arrays or `jax.ShapeDtypeStruct`, or a
      target. Its weights are found by their names: keys, attributes and
      positions joined by dots or slashes. Names in the file can have a prefix,
      such as "module." or "model_state_dict.", which all have. Other entries of
      the file are left out. None for all arrays of floats in the file: a flat
      dictionary by the names of PyTorch, safetensors and npz files, nested
      dictionaries from flax and orbax.
    key: the prefix, for a file with several networks of these names, such as
      "params" of a training state.

  Returns:
    The network, with the types of `like`; or the types in the file.

  Raises:
    InputError: no such file, another suffix, a damaged file or one with objects
      that would have to be unpickled; a weight that is missing, of another
      shape, of integers, or not finite; several networks and no key; or the
      package that reads the format is not installed.
  """
  path = _path(file)
  content = FORMATS[_suffix(path)].read(path)
  if like is None:
    state = unwrap(content.tree, key, path, nested=content.nested)
    network = _network_of(state, path, content.nested)
    if not network:
      raise InputError(f"{path}: no array of floats, expected a network")
    for keys, array in network.items():
      _check_finite(f"{path}: {dotted(keys)}", array)
    network = jax.device_put(network)
    if content.nested:
      named = {tuple(map(str, keys)): a for keys, a in network.items()}
      return flax.traverse_util.unflatten_dict(named)
    return {name: array for (name,), array in network.items()}
  if isinstance(like, TargetNetwork):
    like = jax.eval_shape(like.init, jax.random.key(0))
  leaves, structure = jax.tree.flatten(like)
  expected = {
    name: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf))
    for name, leaf in zip(_names(like), leaves, strict=True)
  }
  found = _find(path, content, expected, key)
  arrays = []
  for name, leaf in expected.items():
    keys, value = found[name]
    _check_finite(f"{path}: {dotted(keys)}", value)
    with np.errstate(over="ignore"):
      arrays.append(value.astype(leaf.dtype))
    _check_finite(f"{path}: {dotted(keys)} as {leaf.dtype}", arrays[-1])
  return jax.tree.unflatten(structure, jax.device_put(arrays))


def save_network(
  file: str | os.PathLike[str],
  weights: Weights,
  source: str | os.PathLike[str] | None = None,
  *,
  key: str | None = None,
) -> None:
  """Writes a network so that the program which it came from can load it.

  The file is a copy of `source` with the values of these weights. Names,
  shapes, types, metadata, running statistics, counters and everything else are
  kept; a weight that is as `load_network` gave it keeps its bytes. In orbax
  folders values and types are kept. Tensors of PyTorch that share memory still
  do.

  Args:
    file: its name; a file of this name is replaced, at once when all is
      written. The end of the name says the format, see `load_network`; a name
      without a suffix is a new folder of orbax.
    weights: a pytree whose weights have names in `source`, such as the result
      of `load_network`, edited.
    source: the file that the network was read from, of the same format. None
      for a new file with these weights alone: dots join the names of its
      entries, dictionaries of flax and orbax are nested.
    key: see `load_network`.

  Raises:
    InputError: see `load_network`; a weight that is missing in the source, has
      another shape there, or is too large for its type; tied tensors with
      different values; a source of another format; or a file that cannot be
      written.
  """
  path = _path(file)
  names = _names(weights)
  new = dict(zip(names, map(np.asarray, jax.tree.leaves(weights)), strict=True))
  if not new:
    raise InputError(f"{path}: no weights, expected a pytree with arrays")
  for name, array in new.items():
    if not any(jnp.issubdtype(array.dtype, kind) for kind in _REAL):
      raise InputError(
        f"{path}: weight {name} is of {array.dtype}, expected real numbers"
      )
    _check_finite(f"{path}: weight {name}", array)
  if source is None:
    arrays = dict(zip(names.values(), new.values(), strict=True))
    with _write_errors(path):
      FORMATS[_suffix(path)].create(path, arrays)
    return
  origin = _path(source)
  suffix = _suffix(origin)
  if FORMATS[_suffix(path)] != FORMATS[suffix]:
    raise InputError(f"{path}: expected {suffix} as in the source {origin}")
  content = FORMATS[suffix].read(origin)
  found = _find(origin, content, new, key)
  arrays = {
    found[name].keys: _in_type_of(f"{path}: {name}", found[name].value, array)
    for name, array in new.items()
  }
  with _write_errors(path):
    content.rewrite(path, arrays)


class _Entry(NamedTuple):
  """An array in a file, and where it is."""

  keys: Keys
  value: Any


def _path(name: str | os.PathLike[str]) -> Path:
  text = os.fspath(name)
  if "://" in text:
    raise InputError(f"{text}: expected a file or folder of a file system")
  return Path(text).expanduser()


def _suffix(path: Path) -> str:
  """The key of the format of a file in `FORMATS`."""
  if path.is_dir() or not path.suffix:
    return _FOLDER
  name = path.name.lower()
  for suffix in FORMATS:
    if name.endswith(suffix):
      return suffix
  raise InputError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")


def _names(tree: Any) -> dict[str, Keys]:
  """{name of a leaf: its keys}, in the order of leaves."""
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
  return {
    leaf_name(path): tuple(leaf_name((key,)) for key in path) for path in paths
  }


def _alike(name: str) -> str:
  """A name with slashes, by which it is compared."""
  return name.replace(".", "/")


def _find(
  path: Path, content: Content, expected: Mapping[str, Any], key: str | None
) -> dict[str, _Entry]:
  """The entries of a file with these names and shapes, behind one prefix.

  Args:
    path: the file.
    content: its content.
    expected: {name: array or shape with type}.
    key: the prefix, None to find it.

  Raises:
    InputError: a name is missing, or its entry is another array.
  """
  entries: dict[str, _Entry] = {}
  for keys, value in flatten(content.tree):
    name = _alike(dotted(keys))
    if name in entries:
      value = Unreadable("one of two entries that differ in dots and slashes")
    entries[name] = _Entry(keys, value)
  prefix = _prefix(path, entries, list(map(_alike, expected)), key)
  found = {}
  for name, array in expected.items():
    entry = entries.get(prefix + _alike(name))
    if entry is None:
      raise InputError(
        f"{path}: has no {_alike(prefix)}{name}, expected the weights of one "
        f"network; it has {_list(dotted(e.keys) for e in entries.values())}"
      )
    where = f"{path}: {dotted(entry.keys)}"
    value = _array(where, entry.value)
    if value.shape != array.shape:
      raise InputError(
        f"{where} has shape {list(value.shape)}, expected {list(array.shape)}"
      )
    floats = [jnp.issubdtype(a.dtype, jnp.floating) for a in (value, array)]
    if value.dtype != array.dtype and not all(floats):
      raise InputError(f"{where} is of {value.dtype}, expected {array.dtype}")
    found[name] = _Entry(entry.keys, value)
  return found


def _prefix(
  path: Path,
  entries: Mapping[str, _Entry],
  names: Sequence[str],
  key: str | None,
) -> str:
  """What comes before all names in a file; "" if nothing fits."""
  if key is not None:
    prefix = f"{_alike(key)}/"
    if not any(name.startswith(prefix) for name in entries):
      first = dict.fromkeys(name.partition("/")[0] for name in entries)
      raise InputError(f"{path}: has no {key!r}, it has {_list(first)}")
    return prefix
  if all(name in entries for name in names):
    return ""
  ends = [n for n in entries if n.endswith(f"/{names[0]}")]
  prefixes = [
    prefix
    for prefix in (n.removesuffix(names[0]) for n in ends)
    if all(prefix + name in entries for name in names)
  ]
  if len(prefixes) > 1:
    keys = ", ".join(p.strip("/").replace("/", ".") for p in prefixes)
    raise InputError(
      f"{path}: holds several such networks, expected a key: one of {keys}"
    )
  return prefixes[0] if prefixes else ""


def _list(names: Iterable[str]) -> str:
  names = list(names)
  return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)


def _array(where: str, value: Any) -> np.ndarray:
  """An entry that is an array of plain numbers; InputError for others."""
  if not isinstance(value, np.ndarray | np.generic):
    kind = value if isinstance(value, Unreadable) else type(value).__name__
    raise InputError(f"{where} is {kind}, expected an array of numbers")
  if re.match("float[468]_", value.dtype.name):
    raise InputError(
      f"{where} is of {value.dtype}, which needs a scale that a file does not "
      "define, expected the network in bfloat16 or float32"
    )
  return np.asarray(value)


def _check_finite(where: str, array: np.ndarray) -> None:
  if not jnp.issubdtype(array.dtype, jnp.inexact):
    return
  bad = int((~np.isfinite(array)).sum())
  if bad:
    raise InputError(
      f"{where} holds {bad} NaN or infinity, expected finite numbers"
    )


def _in_type_of(where: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
  """The new values in the type of the old ones; a copy of these if equal."""
  if np.array_equal(old.astype(new.dtype), new):
    return old.copy()
  with np.errstate(over="ignore"):
    cast = new.astype(old.dtype)
  if not np.isfinite(cast).all():
    raise InputError(
      f"{where} is too large for {old.dtype}, its type in the source"
    )
  return cast


def _network_of(state: Any, path: Path, nested: bool) -> dict[Keys, np.ndarray]:
  """The arrays of floats in a dictionary, by their keys."""
  network = {}
  for keys, value in flatten(state) if nested else _items(state):
    dtype = getattr(value, "dtype", None)
    is_float = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if is_float or isinstance(value, Unreadable):
      array = _array(f"{path}: {dotted(keys)}", value)
      native = array.dtype.newbyteorder("=")
      network[keys] = array.astype(native, copy=False)
  return network


def _items(state: Mapping[str, Any]) -> Iterator[tuple[Keys, Any]]:
  return (((name,), value) for name, value in state.items())


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
  """Turns refusals of the system into a one-line `InputError`."""
  try:
    yield
  except OSError as error:
    raise InputError(f"{path}: cannot be written: {error.strerror}") from None
