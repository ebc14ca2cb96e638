"""What a file of a network holds: arrays by name, in nested containers."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scalegmn_jax.base import InputError

Keys = tuple[Any, ...]
"""Keys and positions of an entry in nested containers, outermost first."""

_DEPTH = 3  # of a state dict in the dictionaries of a checkpoint


@dataclasses.dataclass(frozen=True)
class Content:
  """The content of a file.

  Attributes:
    tree: dictionaries and sequences of numpy arrays, of `Unreadable` entries,
      and of anything else.
    rewrite: (file, {keys: array}) -> None: writes the whole content to another
      file, with these arrays, of the same shapes and types, in their places.
      Everything else keeps its bytes.
    nested: whether the dictionaries are the structure of the network; otherwise
      a network is one dictionary.
  """

  tree: Any
  rewrite: Callable[[Path, Mapping[Keys, np.ndarray]], None]
  nested: bool = False


class Unreadable(str):
  """An entry without plain numbers; the text says what it is."""


def flatten(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
  """(keys, entry) of all entries of nested dictionaries and sequences."""
  if isinstance(tree, Mapping):
    for key, value in tree.items():
      yield from flatten(value, (*keys, key))
  elif isinstance(tree, list | tuple):
    for i, value in enumerate(tree):
      yield from flatten(value, (*keys, i))
  elif tree is not None:
    yield keys, tree


def replace(
  tree: Any, arrays: Mapping[Keys, np.ndarray], keys: Keys = ()
) -> Any:
  """Nested dictionaries and lists with other arrays at some keys."""
  if isinstance(tree, Mapping):
    return {k: replace(v, arrays, (*keys, k)) for k, v in tree.items()}
  if isinstance(tree, list | tuple):
    return [replace(v, arrays, (*keys, i)) for i, v in enumerate(tree)]
  return arrays.get(keys, tree)


def dotted(keys: Keys) -> str:
  """The name of an entry, with dots between keys as in PyTorch."""
  return ".".join(map(str, keys))


def joined(arrays: Mapping[Keys, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays by one name each."""
  return {dotted(keys): array for keys, array in arrays.items()}


def unwrap(
  tree: Any, key: str | None, path: Path, *, nested: bool = False
) -> Mapping[str, Any]:
  """The dictionary of one network in the content of a file.

  Args:
    tree: the content.
    key: the name of the dictionary, "model.weights" for a name in a name. None
      if the file holds only one.
    path: the file, for messages.
    nested: see `Content`; the whole content is then the network of key None.

  Raises:
    InputError: no such dictionary, or several without a key.
  """
  if not isinstance(tree, Mapping):
    raise InputError(
      f"{path}: holds a {type(tree).__name__}, expected a state dict"
    )
  if nested and key is None:
    return tree
  found = dict(_state_dicts(tree))
  if key is not None:
    value = tree
    for name in [key] if key in tree else key.split("."):
      if not isinstance(value, Mapping) or name not in value:
        names = ", ".join(map(str, tree) if nested else found)
        raise InputError(
          f"{path}: has no {key!r}, expected one of: {names or 'no state dict'}"
        )
      value = value[name]
    if not isinstance(value, Mapping):
      raise InputError(
        f"{path}: {key!r} is a {type(value).__name__}, expected a state dict"
      )
    return value
  if _is_state_dict(tree) or not found:
    return tree  # if it is none, its reader says which entry is wrong
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
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """The state dicts in nested dictionaries, by the key of each."""
  for name, inner in value.items():
    if not isinstance(inner, Mapping) or not isinstance(name, str):
      continue
    # Statistics of images are dictionaries of tensors as well, but no layers.
    if _is_state_dict(inner) and any(len(t.shape) > 1 for t in inner.values()):
      yield prefix + name, inner
    elif depth < _DEPTH and all(isinstance(key, str) for key in inner):
      yield from _state_dicts(inner, f"{prefix}{name}.", depth + 1)
