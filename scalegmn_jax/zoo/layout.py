"""layout.csv: the columns of each weight in the rows of a zoo."""

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from scalegmn_jax import base
from scalegmn_jax.io import input_errors

_COLUMNS = ["varname", "start_idx", "end_idx", "size", "shape"]
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

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> "Layout":
    """Reads a `layout.csv`.

    Raises:
      InputError: other columns, a malformed number or shape, or a gap between
        the weights.
    """
    with input_errors(path, f"a CSV with {','.join(_COLUMNS)}"):
      with open(path, encoding="utf-8", newline="") as file:
        try:
          lines = list(csv.reader(file, strict=True))
        except csv.Error as error:
          raise ValueError(error) from error
    if not lines or lines[0] != _COLUMNS:
      raise base.InputError(
        f"{path}: header {lines[0] if lines else []}, expected {_COLUMNS}"
      )
    entries = []
    for row, line in enumerate(lines[1:]):
      if len(line) != len(_COLUMNS):
        raise base.InputError(
          f"{path}: row {row}: {len(line)} fields, expected {len(_COLUMNS)}"
        )
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
