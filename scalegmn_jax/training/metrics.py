"""metrics.jsonl: one row of numbers per log step."""

import json
from collections.abc import Mapping
from pathlib import Path

from scalegmn_jax.io import write_text


class Metrics:
  """Appends rows to a file and reads them back.

  A resumed run cuts the file back to its first step, so that every step occurs
  once. An incomplete last row, left by an interruption, is dropped.
  """

  def __init__(self, path: Path, step: int = 0):
    self._path = path
    rows = [row for row in self.read() if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

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
