"""metrics.jsonl: one row of numbers per log step."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


class Metrics:
  """Appends rows to a file and reads them back.

  A run that resumes cuts the file back to the step it resumes from, so every
  step is in it once. A last row that an interruption left incomplete is
  dropped as well.
  """

  def __init__(self, path: Path, step: int = 0):
    self._path = path
    rows = [row for row in self.read() if row["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(temporary, path)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    row = {"step": step} | {k: float(v) for k, v in values.items()}
    with self._path.open("a") as file:
      file.write(json.dumps(row) + "\n")

  def read(self) -> list[dict[str, float]]:
    rows = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        try:
          rows.append(json.loads(line))
        except ValueError:
          break
    return rows
