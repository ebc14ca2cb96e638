"""metrics.jsonl: one row of numbers per log step; trackers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from scalegmn_jax.io import write_text


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

  A resumed run cuts the file back to its first step, so that every step occurs
  once. An incomplete last row, left by an interruption, is dropped.

  Args:
    path: the file.
    step: rows after this step are dropped.
    tracker: receives every row after it has been written to the file.
  """

  def __init__(self, path: Path, step: int = 0, tracker: Tracker | None = None):
    self._path, self._tracker = path, tracker
    rows = [row for row in self.read() if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    row = {"step": step} | {k: float(v) for k, v in values.items()}
    with self._path.open("a") as file:
      file.write(json.dumps(row) + "\n")
    if self._tracker is not None:
      self._tracker.write(step, {k: v for k, v in row.items() if k != "step"})

  def read(self) -> list[dict[str, float]]:
    rows = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        try:
          rows.append(json.loads(line))
        except ValueError:
          break
    return rows
