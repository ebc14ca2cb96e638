"""Kinds of config values: their types, bounds and description.

A config is checked against a table {key: `Key`}: the shared keys are in
`build.keys`, and an experiment has a table of its own. The checks before a run,
`--help` and docs/config_reference.md are made from the same tables.
"""

import fnmatch
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from scalegmn_jax.base import InputError

MOST = 10**9
"""The largest whole number that a key has without a bound of its own."""


class Kind(NamedTuple):
  """The values that a key can have.

  Attributes:
    good: whether a value is one of them; any object is a possible argument.
    expected: description of the values, the end of an error message.
  """

  good: Callable[[Any], bool]
  expected: str


class Key(NamedTuple):
  """A key of a config.

  Attributes:
    kind: its values.
    doc: its meaning in one line, without a capital and a final full stop.
  """

  kind: Kind
  doc: str


Keys = Mapping[str, Key]
"""{dotted name: key}. A part of a name can be "*": any name of one section."""


def _number(value: Any, kind: type) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def whole(low: int, high: int = MOST) -> Kind:
  """Whole numbers in [low, high]."""
  return Kind(
    lambda v: _number(v, numbers.Integral) and low <= v <= high,
    f"a whole number from {low:,} to {high:,}",
  )


def real(low: float, high: float, *, above: bool = False) -> Kind:
  """Numbers in [low, high].

  Args:
    low: least number.
    high: greatest number.
    above: `low` itself is excluded.
  """
  bounds = f"above {low:g}, at most" if above else f"from {low:g} to"
  return Kind(
    lambda v: (
      _number(v, numbers.Real) and low <= v <= high and not (above and v == low)
    ),
    f"a number {bounds} {high:g}",
  )


def one_of(*names: str) -> Kind:
  """One of several names."""
  return Kind(
    lambda v: isinstance(v, str) and v in names,
    f"one of {', '.join(name or repr(name) for name in names)}",
  )


def text(
  good: Callable[[str], bool] = lambda v: v != "" and v.isprintable(),
  expected: str = "a name",
) -> Kind:
  """Strings with a property."""
  return Kind(lambda v: isinstance(v, str) and good(v), expected)


def path(empty: str) -> Kind:
  """A path of a file system, or "" with the meaning `empty`.

  Zoos and images are memory-mapped: they cannot lie in a bucket.
  """
  return Kind(
    lambda v: isinstance(v, str) and "\0" not in v and "://" not in v,
    f"a path of a file system, or '': {empty}",
  )


FLAG = Kind(lambda v: isinstance(v, bool), "True or False")


def several(kind: Kind, least: int = 1, most: int | None = None) -> Kind:
  """Sequences of values of one kind.

  Args:
    kind: of each value.
    least: least number of values.
    most: greatest number of values; None for any number.
  """
  if most == least:
    count = f"{least} values"
  elif most is not None:
    count = f"{least} to {most} values"
  else:
    count = f"{least} or more values" if least else "() or values"
  return Kind(
    lambda v: (
      _is_sequence(v)
      and least <= len(v) <= (len(v) if most is None else most)
      and all(map(kind.good, v))
    ),
    f"{count}, each {kind.expected}",
  )


def some_of(
  known: Collection[str], least: int = 1, most: int | None = None
) -> Kind:
  """Sequences of names, see `several`."""
  names = ", ".join(known)
  return Kind(
    several(one_of(*known), least, most).good,
    f"some of {names}" if least else f"() or some of {names}",
  )


def where(kind: Kind, good: Callable[[Any], bool], expected: str) -> Kind:
  """The values of a kind with one more property."""
  return Kind(
    lambda v: kind.good(v) and good(v), f"{kind.expected}, {expected}"
  )


def interval(number: Kind) -> Kind:
  """Two numbers low <= high."""
  pair = several(number, 2, 2)
  return Kind(
    lambda v: pair.good(v) and v[0] <= v[1],
    f"low <= high, each {number.expected}",
  )


def either(*kinds: Kind) -> Kind:
  """The values of several kinds."""
  return Kind(
    lambda v: any(kind.good(v) for kind in kinds),
    ", or ".join(kind.expected for kind in kinds),
  )


NONE = Kind(lambda v: v is None, "None")
SECTION = Kind(lambda v: isinstance(v, Mapping), "a section of keys")
EMPTY = Kind(lambda v: _is_sequence(v) and len(v) == 0, "()")


def _is_sequence(value: Any) -> bool:
  return isinstance(value, (tuple, list))


def find(keys: Keys, name: str) -> Key | None:
  """The entry of a key, None without one.

  Args:
    keys: the table; an exact name goes before a pattern.
    name: dotted name of the key.
  """
  if name in keys:
    return keys[name]
  parts = name.count(".")
  for pattern, key in keys.items():
    same_depth = pattern.count(".") == parts
    if "*" in pattern and same_depth and fnmatch.fnmatchcase(name, pattern):
      return key
  return None


def check(config: ConfigDict, keys: Keys) -> None:
  """Raises InputError for the first value that is not of its kind.

  A key without an entry, of an experiment outside this package, can have any
  value whose numbers are finite.
  """
  _check(config.to_dict(), keys, "")


def _check(values: Mapping[str, Any], keys: Keys, prefix: str) -> None:
  for name, value in values.items():
    name = f"{prefix}{name}"
    key = find(keys, name)
    if key is not None:
      kind = key.kind
    elif any(other.startswith(f"{name}.") for other in keys):
      kind = SECTION
    else:
      kind = Kind(_is_finite, "finite numbers")
    if isinstance(value, Mapping) and (key is None or kind is SECTION):
      _check(value, keys, f"{name}.")
    elif not kind.good(value):
      raise InputError(
        f"config.{name} is {shown(value)}, expected {kind.expected}"
      )


def _is_finite(value: Any) -> bool:
  """Whether all numbers in a value are finite."""
  if _is_sequence(value):
    return all(map(_is_finite, value))
  return not isinstance(value, numbers.Real) or math.isfinite(value)


def shown(value: Any, most: int = 80) -> str:
  """The value as source text, cut to a length."""
  result = repr(value)
  return result if len(result) <= most else f"{result[: most - 3]}..."


def need(
  config: ConfigDict, key: str, good: Callable[[Any], bool], expected: str
) -> None:
  """Raises InputError unless the value of a key is good.

  For conditions that involve other keys or data; the type and the bounds of a
  value are in a table of keys.

  Args:
    config: config of the experiment.
    key: dotted name of the key.
    good: condition of its value.
    expected: description of good values.
  """
  value: Any = config
  for part in key.split("."):
    value = value[part]
  if not good(value):
    raise InputError(f"config.{key} is {shown(value)}, expected {expected}")
