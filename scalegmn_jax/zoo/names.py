"""Order of names: numbers in names sort as numbers."""

import re
from collections.abc import Sequence


def number_key(path: str) -> tuple[object, ...]:
  """A key that sorts "net2" before "net10", folder by folder."""
  keys = []
  for name in path.split("/"):
    parts = re.split("([0-9]+)", name)
    keys.append([int(p) if i % 2 else p for i, p in enumerate(parts)])
  return keys, path  # "net01" and "net1" differ in the text alone


def order_layers(names: Sequence[str]) -> list[str] | None:
  """Sorts names of layers by their numbers.

  No number at the end comes before all numbers: "dense", "dense_1". Names that
  differ in more than their numbers are in order if they begin alike and their
  first numbers are all different: "net.0.linear", "net.1.linear", "net.2".

  Returns:
    The names in order; None if nothing is known about their order.
  """
  patterns, numbers = set(), {}
  for name in names:
    pattern, key = [], []
    for part in re.split("[/.]", name):
      match = re.fullmatch("(.*?)[_-]?([0-9]*)", part, re.DOTALL)
      assert match is not None  # both groups may be empty
      stem, last = match.groups()
      pattern.append(re.sub("[0-9]+", "0", stem))
      key += map(int, re.findall("[0-9]+", stem))
      key.append(int(last) if last else -1)
    patterns.add(tuple(pattern))
    numbers[name] = tuple(key)
  if len(patterns) > 1:
    first = {n: re.match("([^0-9]*)([0-9]+)(?![^/.])", n) for n in names}
    if len({m and m[1] for m in first.values()}) > 1:
      return None
    numbers = {n: int(m[2]) for n, m in first.items() if m}
  if len(set(numbers.values())) < len(names):
    return None
  return sorted(names, key=numbers.__getitem__)
