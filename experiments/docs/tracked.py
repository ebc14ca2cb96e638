"""Results of runs that are tracked with the source, and how to find a row.

Every number in README.md and docs/ comes from a file in `docs/results`: the
`results.json` of a run, without what tables do not need. A file with the key
"transcribed" was not written by a run of this version: it says from which
commit and date its numbers are. What cannot be computed from its rows stands
under "quoted".
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scalegmn_jax.base import InputError
from scalegmn_jax.io import read_json, write_text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results"

KEPT = (
  "format", "config_file", "config", "tables", "lines", "zoo", "device",
  "processor", "versions", "seconds", "commit", "date",
)  # fmt: skip
"""Keys of `results.json` that are tracked."""

Row = Mapping[str, Any]


class Tracked(NamedTuple):
  """The results of one run.

  Attributes:
    name: config and variants, such as "multi_task-groups".
    seed: of φ if the run has one, `train.seeds`, otherwise `config.seed`.
    results: see `runner.experiment.write`.
  """

  name: str
  seed: int
  results: Mapping[str, Any]

  def rows(self, table: int = 0) -> Sequence[Row]:
    """The rows of a table."""
    return self.results["tables"][table]["rows"]

  def row(self, table: int = 0, /, **keys: Any) -> Row | None:
    """The only row with exactly these keys, None without one.

    A key of `SCHEMA` that is not given must be absent from the row.
    """
    rows = [
      row
      for row in self.rows(table)
      if all(row.get(key) == keys.get(key) for key in SCHEMA)
    ]
    if len(rows) > 1:
      raise InputError(f"{self.name}-{self.seed}: {len(rows)} rows of {keys}")
    return rows[0] if rows else None

  def quoted(self, key: str) -> Any:
    """A value that was transcribed as it stood, None in results of a run."""
    return self.results.get("quoted", {}).get(key)


SCHEMA = ("method", "after", "epochs", "source", "population")
"""Keys that tell the rows of fine-tuning apart."""


def load(name: str, seed: int = 0) -> Tracked:
  """The tracked results of a run.

  Raises:
    InputError: there are none.
  """
  return Tracked(name, seed, read_json(FOLDER / f"{name}-{seed}.json"))


def load_seeds(name: str) -> list[Tracked]:
  """The tracked results of a config with every seed, in their order."""
  seeds = sorted(
    int(path.stem.rpartition("-")[2]) for path in FOLDER.glob(f"{name}-?.json")
  )
  return [load(name, seed) for seed in seeds]


def add(workdir: Path) -> Path:
  """Tracks the results of a finished run, or of a bench.

  Args:
    workdir: of the run, or the folder that a bench has written.

  Returns:
    The file, `docs/results/<config>-<variants>-<seed>.json`, or
    `docs/results/bench-<processor>-<seed>.json`.

  Raises:
    InputError: the run is not finished, or was not started from a config file;
      the bench does not say where it ran.
  """
  if (workdir / "bench.json").exists():
    return _add_bench(workdir / "bench.json")
  results = read_json(workdir / "results.json")
  file, _, variants = results.get("config_file", "").partition(":")
  if not file:
    raise InputError(f"{workdir}: its results do not name a config file")
  parts = [Path(file).stem, *filter(None, variants.split(","))]
  kept = {key: results[key] for key in KEPT if key in results}
  kept["config"] = _without_places(kept["config"])
  seeds = kept["config"].get("train", {}).get("seeds", ())
  seed = seeds[0] if len(seeds) == 1 else kept["config"]["seed"]
  return _write(FOLDER / f"{'-'.join(parts)}-{seed}.json", kept)


def _without_places(value: Any) -> Any:
  """A config without absolute paths, which mean nothing on other machines."""
  if isinstance(value, Mapping):
    return {key: _without_places(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return [_without_places(inner) for inner in value]
  return "" if isinstance(value, str) and value.startswith("/") else value


def _add_bench(file: Path) -> Path:
  """Tracks the measured cases of a bench."""
  results = read_json(file)
  device = results.get("ceilings", {}).get("device", "").partition(" x ")[2]
  on_cpu = device == "cpu"
  processor = results.get("processor", "") if on_cpu else device
  if not processor:
    raise InputError(f"{file}: it does not say on which processor it ran")
  rows = [
    {
      "case": row["case"],
      "networks": row["networks"],
      "seconds": row["step"]["seconds"],
      "ratio": row["step"]["ratio"],
      "peak_bytes": row["peak_bytes"],
    }
    for row in results["rows"]
    if "step" in row
  ]
  kept = {key: results[key] for key in ("ceilings", *KEPT) if key in results}
  kept |= {"processor": processor, "tables": [{"rows": rows}]}
  kept["config"] = {"seed": results["config"]["seed"]}
  slug = re.sub("[^a-z0-9]+", "_", processor.lower()).strip("_")
  return _write(FOLDER / f"bench-{slug}-{kept['config']['seed']}.json", kept)


def _write(path: Path, kept: Mapping[str, Any]) -> Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  write_text(path, json.dumps(kept, indent=1) + "\n")
  return path


def benches() -> list[Tracked]:
  """The tracked results of benches, by processor."""
  names = [path.stem.rpartition("-") for path in sorted(FOLDER.glob("bench-*"))]
  return [load(name, int(seed)) for name, _, seed in names]
