"""layout.csv: the columns of each weight in the rows of a zoo.

Names decide which weight of a layout is which weight of another one, see
`Layout.matched`; positions never do.
"""

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalegmn_jax import base
from scalegmn_jax.data.formats import read_at_most
from scalegmn_jax.io import input_errors
from scalegmn_jax.zoo.names import order_layers

_COLUMNS = ["varname", "start_idx", "end_idx", "size", "shape"]
_LIMIT = 1 << 24  # bytes of a file
_PARTS = {
  **dict.fromkeys(("kernel", "weight", "weights", "w"), "kernel"),
  **dict.fromkeys(("bias", "biases", "b"), "bias"),
}
_NAME = re.compile(
  rf"(|.*[/._])({'|'.join(_PARTS)})(?:_?([0-9]+))?(?::0)?", re.IGNORECASE
)
_SHAPE = re.compile(r"\((?:[0-9]{1,9},|[0-9]{1,9}(?:, ?[0-9]{1,9})+,?)?\)")


class Entry(NamedTuple):
  """One weight in a row of `weights.npy`: columns start..end-1, C order."""

  name: str
  start: int
  end: int
  shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The columns of each weight in `weights.npy`.

  Attributes:
    entries: the weights in the order of their columns; they follow each other
      from column 0 without gaps.

  Raises:
    InputError: on creation, if entries overlap, leave gaps or share a name.
  """

  entries: tuple[Entry, ...]

  def __post_init__(self):
    end = 0
    names = set()
    for row, entry in enumerate(self.entries):
      where = f"layout: row {row} ({entry.name!r})"
      if not entry.name or entry.name in names:
        raise base.InputError(f"{where}: expected a unique varname")
      names.add(entry.name)
      if entry.start != end:
        raise base.InputError(
          f"{where}: start_idx {entry.start}, expected {end}, where the row"
          " before ends"
        )
      size = math.prod(entry.shape)
      if size < 1 or any(axis < 1 for axis in entry.shape):
        raise base.InputError(
          f"{where}: shape {entry.shape}, expected axes of 1 or more"
        )
      if entry.end - entry.start != size:
        raise base.InputError(
          f"{where}: {entry.start} to {entry.end} are"
          f" {entry.end - entry.start} columns, expected {size} for the shape"
          f" {entry.shape}"
        )
      end = entry.end
    if not self.entries:
      raise base.InputError("layout: no rows, expected one per weight")

  @property
  def size(self) -> int:
    """D, the number of columns."""
    return self.entries[-1].end

  @classmethod
  def from_shapes(
    cls, names: Sequence[str], shapes: Sequence[Sequence[int]]
  ) -> "Layout":
    """The layout of weights that follow each other."""
    if len(names) != len(shapes):
      raise base.InputError(
        f"layout: {len(names)} names, {len(shapes)} shapes, expected as many"
      )
    entries, end = [], 0
    for name, axes in zip(names, shapes, strict=True):
      shape = tuple(int(axis) for axis in axes)
      start, end = end, end + math.prod(shape)
      entries.append(Entry(name, start, end, shape))
    return cls(tuple(entries))

  def matched(self, expected: "Layout") -> tuple[int, ...]:
    """The entries of this layout that are the entries of another one.

    In this order:

    - The same names decide.
    - Otherwise entries are layers with a kernel and a bias: "conv2d/kernel:0",
      "layers.0.weight", "b1". Convolutions come first, and numbers in their
      names decide the order.
    - Otherwise shapes decide, if no two layers (or entries) share one.

    Args:
      expected: the other layout.

    Returns:
      A number of an entry of this layout for each entry of the other one.

    Raises:
      InputError: other shapes, or names that do not decide.
    """
    shapes = [entry.shape for entry in self.entries]
    others = [entry.shape for entry in expected.entries]
    wrong = base.InputError(
      f"networks of weights {shapes}, expected the weights of the target "
      f"network, {others}"
    )
    if sorted(shapes) != sorted(others):
      raise wrong
    names = [entry.name for entry in self.entries]
    other_names = [entry.name for entry in expected.entries]
    if set(names) == set(other_names):
      order = tuple(map(names.index, other_names))
      if [shapes[i] for i in order] != others:
        raise wrong
      return order
    found = _layers(self.entries), _layers(expected.entries)
    for order in (_by_number(*found), _by_shape(*found)):
      if order and [shapes[i] for i in order] == others:
        return order
    if len(set(shapes)) == len(shapes):
      return tuple(map(shapes.index, others))
    raise base.InputError(
      f"the names {', '.join(names)} do not decide which weight of the target "
      f"network is which, expected {', '.join(other_names)} in any order"
    )

  def columns(self, order: Sequence[int]) -> np.ndarray:
    """The columns of entries, one entry after the other."""
    spans = [self.entries[i] for i in order]
    return np.concatenate([np.arange(e.start, e.end) for e in spans])

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> "Layout":
    """Reads a `layout.csv`; columns are found by their names.

    Raises:
      InputError: a missing column, a malformed number or shape, or a gap
        between the weights.
    """
    with input_errors(path, f"a CSV with {','.join(_COLUMNS)}"):
      with open(path, "rb") as file:
        text = read_at_most(file, _LIMIT).decode("utf-8-sig")
      try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
      except csv.Error as error:
        raise ValueError(error) from error
    header = lines[0] if lines else []
    if any(header.count(name) != 1 for name in _COLUMNS):
      raise base.InputError(f"{path}: header {header}, expected {_COLUMNS}")
    entries = []
    for row, fields in enumerate(lines[1:]):
      if len(fields) != len(header):
        raise base.InputError(
          f"{path}: row {row}: {len(fields)} fields, expected {len(header)}"
        )
      line = [fields[header.index(name)] for name in _COLUMNS]
      for key, text in zip(_COLUMNS[1:4], line[1:4], strict=True):
        if not re.fullmatch("[0-9]{1,15}", text):
          raise base.InputError(
            f"{path}: row {row}: {key} {text!r}, expected an integer"
          )
      # Parsed, never evaluated: the file may come from anyone.
      if not _SHAPE.fullmatch(line[4]):
        raise base.InputError(
          f"{path}: row {row}: shape {line[4]!r}, expected a tuple of integers"
          ' like "(3, 3, 1, 16)"'
        )
      shape = tuple(int(n) for n in re.findall("[0-9]+", line[4]))
      start, end, size = (int(text) for text in line[1:4])
      if size != end - start:
        raise base.InputError(
          f"{path}: row {row}: size {size}, expected end_idx - start_idx ="
          f" {end - start}"
        )
      entries.append(Entry(line[0], start, end, shape))
    try:
      return cls(tuple(entries))
    except base.InputError as error:
      reason = str(error).removeprefix("layout: ")
      raise base.InputError(f"{path}: {reason}") from None

  def text(self) -> str:
    """The text of a `layout.csv`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, start, end, shape in self.entries:
      writer.writerow((name, start, end, end - start, shape))
    return buffer.getvalue()


class _Layer(NamedTuple):
  """A layer of a layout.

  Attributes:
    bias, kernel: numbers of entries.
    shapes: of bias and kernel.
  """

  bias: int
  kernel: int
  shapes: tuple[tuple[int, ...], tuple[int, ...]]


def _layers(entries: Sequence[Entry]) -> dict[str, _Layer]:
  """The layers {name: layer}; none unless all entries belong to layers."""
  found: dict[str, dict[str, int]] = {}
  for i, entry in enumerate(entries):
    match = _NAME.fullmatch(entry.name)
    if match is None:
      return {}
    stem, part, number = match.groups()
    layer = found.setdefault(f"{stem}{number or ''}".strip("/._"), {})
    if layer.setdefault(_PARTS[part.lower()], i) != i:
      return {}
  if any(len(layer) < 2 for layer in found.values()):
    return {}
  return {
    name: _Layer(
      **parts,
      shapes=(entries[parts["bias"]].shape, entries[parts["kernel"]].shape),
    )
    for name, parts in found.items()
  }


def _by_number(
  found: dict[str, _Layer], expected: dict[str, _Layer]
) -> tuple[int, ...]:
  """The entries of layers ordered by number; () if numbers do not decide."""
  if len(found) != len(expected):
    return ()
  pairs = []
  for is_convolution in (True, False):
    first, second = (
      order_layers(
        [
          name
          for name, layer in layers.items()
          if (len(layer.shapes[1]) > 2) is is_convolution
        ]
      )
      for layers in (found, expected)
    )
    if first is None or second is None or len(first) != len(second):
      return ()
    for a, b in zip(first, second, strict=True):
      pairs.append((expected[b], found[a]))
  return _entries(pairs)


def _by_shape(
  found: dict[str, _Layer], expected: dict[str, _Layer]
) -> tuple[int, ...]:
  """The entries of layers by shape; () if layers share one, or have others."""
  by_shape = {layer.shapes: layer for layer in found.values()}
  shapes = [layer.shapes for layer in expected.values()]
  if len(by_shape) != len(found) or set(by_shape) != set(shapes):
    return ()
  if len(shapes) != len(found):
    return ()
  return _entries([(b, by_shape[b.shapes]) for b in expected.values()])


def _entries(pairs: Sequence[tuple[_Layer, _Layer]]) -> tuple[int, ...]:
  """Numbers of entries of the second layers, in the order of the first."""
  order = {}
  for first, second in pairs:
    order |= {first.bias: second.bias, first.kernel: second.kernel}
  return tuple(order[i] for i in sorted(order))
