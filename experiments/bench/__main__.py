"""Compares the speed of the library with the limits of the machine.

  python -m experiments.bench --config=configs/bench.py
  python -m experiments.bench --compare=A/bench.json,B/bench.json

The first command measures each case in a separate process and writes
bench.json, bench.md and bench.png; --config.cases=operator,apply selects some.
The second command compares two results.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments import build
from experiments.bench import cases, measure, report, worker
from experiments.bench.keys import KEYS
from experiments.build import schema
from experiments.runner import command, progress, provenance
from scalegmn_jax.base import InputError
from scalegmn_jax.io import write_json, write_text


def bench(config: ConfigDict, folder: Path) -> None:
  """Measures the cases of a config, and writes the results.

  Raises:
    InputError: an impossible value, no such case, or the folder cannot be
      made.
    SystemExit: a case failed; the others are written.
  """
  schema.check(config, KEYS)
  all_cases = cases.list_cases(config)
  names = cases.select(list(all_cases), config.cases)
  values = build.plain(config)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(f"{folder}: {error.strerror}") from None
  ceilings = worker.in_subprocess(values, worker.CEILINGS)
  if "error" in ceilings:
    raise SystemExit(f"error: no ceilings: {ceilings['error']}")
  rows: list[dict[str, Any]] = []
  results: dict[str, Any] = {
    "ceilings": ceilings,
    "versions": provenance.versions("jax", "jaxlib"),
    "processor": provenance.processor(),
    "commit": provenance.commit(),
    "date": provenance.date(),
    "config": values,
    "rows": rows,
  }
  with (
    progress.bar("bench", len(names)) as advance,
    ThreadPoolExecutor(config.processes) as pool,
  ):

    def row_of(name):
      case = all_cases[name]
      row = worker.in_subprocess(
        values, name, devices=case.devices, processes=case.processes
      )
      advance(f"{name} done")
      keys = {"case": name, "baseline_of": case.baseline_of}
      return keys | measure.against_floor(row, ceilings)

    for row in pool.map(row_of, names):
      rows.append(row)
      # After every case: an interrupted bench keeps its results.
      results["rows"] = report.with_baselines(rows)
      write_json(folder / "bench.json", results)
  write_text(folder / "bench.md", report.markdown(results))
  report.picture(folder / "bench.png", results)
  for table in report.tables(results):
    progress.console.print(table)
  progress.console.print(f"table and picture are in {folder}")
  failed = [row["case"] for row in rows if "error" in row]
  if failed:
    raise SystemExit(
      f"{len(failed)} of {len(rows)} cases failed: {', '.join(failed)}"
    )


def define_flags() -> None:
  config_flags.DEFINE_config_file(
    "config", lock_config=True, help_string="Config file and variants."
  )
  flags.DEFINE_string("out", "", "Folder to write; the default is printed.")
  flags.DEFINE_list("compare", [], "Two bench.json files to compare.")


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  if flags.FLAGS.compare:
    paths = [Path(path) for path in flags.FLAGS.compare]
    if len(paths) != 2:
      raise app.UsageError("--compare needs two files, A,B")
    progress.console.print(report.comparison(*map(report.read, paths)))
    return
  config = flags.FLAGS.config
  if config is None:
    raise app.UsageError("--config=configs/bench.py is needed")
  stamp = time.strftime("%Y%m%d-%H%M%S")
  bench(config, Path(flags.FLAGS.out or f"runs/bench-{stamp}"))


if __name__ == "__main__":
  define_flags()
  sys.exit(command.start(main, "bench.json has the completed cases"))
