"""metrics.jsonl: one row of numbers per log step; trackers."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from scalegmn_jax import io


class Tracker(Protocol):
  """Receives every row of `metrics.jsonl`, for instance for a dashboard."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Receives the metrics of a step.

    A training that was killed repeats the steps after its last checkpoint, with
    the same numbers.
    """
    ...

  def close(self) -> None:
    """Ends the tracking; nothing is written afterwards."""
    ...


class Metrics:
  """Appends rows to a file and reads them back.

  Each row carries a checksum, which readers of the class do not see. A resumed
  run cuts the file back to its first step, so that every step occurs
  once. An incomplete last row, left by an interruption, is dropped. If another
  row is damaged, the file is set aside and the other rows are kept. Of several
  processes that compute together, process 0 alone writes.

  Args:
    path: the file.
    step: rows after this step are dropped.
    tracker: receives every row after it has been written to the file.
  """

  def __init__(self, path: Path, step: int = 0, tracker: Tracker | None = None):
    self._path, self._tracker = path, tracker
    rows, damaged = _read(path)
    if damaged:
      what = f"line {damaged[0]}, {len(damaged)} in all"
      io.set_aside(path, what, "the other rows are kept")
    kept = [row for row in rows if row["step"] <= step]
    io.write_text(path, "".join(map(_line, kept)))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends a row; it is on disk when this returns."""
    row = {"step": step} | {k: float(v) for k, v in values.items()}
    io.append_text(self._path, _line(row))
    if self._tracker is not None:
      self._tracker.write(step, {k: v for k, v in row.items() if k != "step"})

  def read(self) -> list[dict[str, float]]:
    """The whole rows, by step."""
    return read(self._path)


def read(path: Path) -> list[dict[str, float]]:
  """The whole rows of a file, by step; none if there is no file."""
  return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, float]], list[int]]:
  """(whole rows, numbers of the damaged lines from 1)."""
  if not path.exists():
    return [], []
  rows, damaged, last = [], [], 0
  lines = path.read_text(errors="replace").split("\n")
  # What follows the last line break is empty or an incomplete row.
  for number, line in enumerate(lines[:-1], 1):
    row = _parse(line)
    if row is None or row["step"] <= last:
      damaged.append(number)
    else:
      rows.append(row)
      last = row["step"]
  return rows, damaged


_CHECKSUM = "crc32"
"""Key of the checksum of a row. Rows of version 0.1 have none."""


def _line(row: Mapping[str, float]) -> str:
  """A row as text, with its checksum."""
  return json.dumps({**row, _CHECKSUM: _checksum(row)}) + "\n"


def _checksum(row: Mapping[str, float]) -> int:
  return zlib.crc32(json.dumps(row).encode())


def _parse(line: str) -> dict[str, float] | None:
  """The row in a line; None if it is damaged."""
  try:
    row: Any = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get("step")) is not int:
    return None
  if not all(type(value) in (int, float) for value in row.values()):
    return None
  checksum = row.pop(_CHECKSUM, None)
  return row if checksum in (None, _checksum(row)) else None
