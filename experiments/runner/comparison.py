"""Comparison of finished runs: one table and the curves of their trainings.

Rows of the runs belong together if they have the same keys, such as {"method":
"adam", "epochs": 5}; their display texts play no part. Runs whose configs
differ in the seed alone share a column, with the mean and the standard
deviation over the seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.runner import experiment, formats, report, workdir
from experiments.runner import pictures as look
from scalegmn_jax.base import InputError
from scalegmn_jax.io import input_errors, read_json
from scalegmn_jax.training import metrics

MAX_KEYS = 2
"""The most keys of a config that the header of a column names."""


class FinishedRun(NamedTuple):
  """A finished run.

  Attributes:
    path: the workdir.
    results: see `report.read`.
    config: {dotted key: value}, in the format of this version.
    label: display text of a row.
  """

  path: Path
  results: report.Results
  config: Mapping[str, Any]
  label: report.Label

  @property
  def name(self) -> str:
    """The name of the folder."""
    return self.path.resolve().name

  @property
  def seed(self) -> Any:
    """`config.seed`."""
    return self.config.get("seed")

  def value(self, key: str) -> Any:
    """The value of a key; for a key that was added later, its default."""
    default = formats.default(key, self.config.get("experiment"))
    return self.config.get(key, default)


class Group(NamedTuple):
  """Runs that share a column.

  Attributes:
    runs: one, or several whose configs differ in the seed alone.
    header: of the column.
  """

  runs: Sequence[FinishedRun]
  header: str


def load(path: Path) -> FinishedRun:
  """Reads the results of a run.

  Raises:
    InputError: the run is not finished, or its results are damaged.
  """
  file = path / workdir.RESULTS
  if not file.exists():
    raise InputError(f"{path}: no {workdir.RESULTS}; the run is not finished")
  content = read_json(file)
  config = content.get("config") if isinstance(content, dict) else None
  name = str(config.get("experiment") if isinstance(config, dict) else "")
  label = experiment.load_module(formats.EXPERIMENTS.get(name, name)).label
  results = report.read(file, label)
  with input_errors(file, "the config of a run"):
    number = results.get("format", 1)
    config = formats.migrate({"format": number, **results["config"]})
  if not isinstance(config.get("seed"), int):
    raise InputError(f"{file}: the seed of its config is no number")
  return FinishedRun(
    path, results, formats.flatten(config), formats.row_label(results, label)
  )


def label(row: Mapping[str, Any]) -> str:
  """The display text of a row of `table`."""
  return row["label"]


def check(runs: Sequence[FinishedRun], table: int) -> None:
  """Raises InputError for runs that cannot be compared.

  Args:
    runs: at least one.
    table: number of the table of results that is compared.
  """
  first, *others = runs
  for run in runs:
    count = len(run.results["tables"])
    if table >= count:
      raise InputError(f"{run.path}: has {count} tables, no table {table}")
  for run in others:
    both = f"{first.path} and {run.path}"
    if run.path.resolve() == first.path.resolve():
      raise InputError(f"{run.path}: given twice")
    a, b = (r.config.get("experiment") for r in (first, run))
    if a != b:
      raise InputError(f"{both}: of two experiments, {a} and {b}")
    a, b = (r.results.get("format", 1) for r in (first, run))
    if 1 in (a, b) and a != b:
      raise InputError(
        f"{both}: results of formats {a} and {b}; rows of format 1 have no "
        "keys that can be matched"
      )
    if not _rows(first, table).keys() & _rows(run, table).keys():
      raise InputError(f"{both}: have no row in common")


def _rows(run: FinishedRun, table: int) -> dict[frozenset, Mapping[str, Any]]:
  """{keys: row}.

  Raises:
    InputError: two rows with the same keys.
  """
  content, rows = run.results["tables"][table], {}
  for row in content["rows"]:
    keys = report.row_keys(content, row)
    if keys in rows:
      raise InputError(f"{run.path}: two rows {run.label(row)!r}")
    rows[keys] = row
  return rows


def group(runs: Sequence[FinishedRun]) -> list[Group]:
  """The runs by column, in the order of the first run of each column."""
  same: dict[str, list[FinishedRun]] = {}
  keys = _differing(runs)
  for run in runs:
    text = repr([run.value(key) for key in keys])
    same.setdefault(text, []).append(run)
  columns: list[list[FinishedRun]] = []
  for members in same.values():
    if len({run.seed for run in members}) == len(members):
      columns.append(sorted(members, key=lambda run: run.seed))
    else:  # repetitions of a run are no seeds
      columns += [[run] for run in members]
  repeated = len(same) < len(columns)
  return [Group(column, _header(column, keys, repeated)) for column in columns]


def _differing(runs: Sequence[FinishedRun]) -> list[str]:
  """Keys of the config, other than the seed, in which runs differ."""
  keys = sorted({key for run in runs for key in run.config})
  return [
    key
    for key in keys
    if key not in ("seed", *formats.PRESENTATION)
    and len({repr(run.value(key)) for run in runs}) > 1
  ]


def _header(
  runs: Sequence[FinishedRun], differing: Sequence[str], repeated: bool
) -> str:
  """Keys that differ between columns and seeds; or the name of the folder."""
  seeds = look.heading({}, [run.seed for run in runs])
  if repeated or len(differing) > MAX_KEYS:
    names = runs[0].name if len(runs) == 1 else f"{runs[0].name}, ..."
    return f"{names} ({seeds})"
  values = [f"{key}={_text(runs[0].value(key))}" for key in differing]
  return ", ".join([*values, seeds])


def _text(value: Any) -> str:
  return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def table(
  groups: Sequence[Group], number: int, columns: Sequence[str] = ()
) -> experiment.Table:
  """The table of all runs.

  Args:
    groups: see `group`.
    number: of the table of results.
    columns: keys of its columns; none for the first of its short columns.

  Raises:
    InputError: an unknown column.
  """
  first = groups[0].runs[0]
  content = first.results["tables"][number]
  known = content["columns"]
  for key in columns:
    if key not in known:
      raise InputError(
        f"no column {key!r}, expected some of {', '.join(known)}"
      )
  columns = list(columns) or content["short"][:1]
  rows: dict[frozenset, dict[str, Any]] = {}
  cells: dict[str, tuple[str, str]] = {}
  for key in columns:
    for i, of_group in enumerate(groups):
      header = of_group.header
      if len(columns) > 1:
        header = f"{known[key][0]}: {header}"
      cells[f"{key}/{i}"] = header, "{}"
      tables = [_rows(run, number) for run in of_group.runs]
      for keys in dict.fromkeys(k for rows_ in tables for k in rows_):
        values = [rows_[keys].get(key) for rows_ in tables if keys in rows_]
        text = next(
          run.label(rows_[keys])
          for run, rows_ in zip(of_group.runs, tables, strict=True)
          if keys in rows_
        )
        row = rows.setdefault(keys, {"label": text})
        row[f"{key}/{i}"] = _cell(values, len(tables), known[key][1])
  title = f"{', '.join(known[key][0] for key in columns)}: {content['title']}"
  if any(len(of_group.runs) > 1 for of_group in groups):
    title += "; mean ± standard deviation over seeds"
  return experiment.Table(
    title, cells, list(rows.values()), list(cells), content["first"]
  )


def _cell(values: Sequence[Any], expected: int, form: str) -> str | None:
  """Mean and spread of numbers; other values one after the other.

  Args:
    values: of the runs that have the row.
    expected: number of runs; a mean over fewer runs says so.
    form: the format of a value.
  """
  known = [value for value in values if value is not None]
  if not known:
    return None
  if len(set(map(str, known))) == 1:
    text = form.format(known[0])
  elif all(isinstance(value, int | float) for value in known):
    form = form.replace("{:d}", "{:.1f}").replace("{}", "{:.4g}")
    text = form.format(float(np.mean(known)))
    text += " ± " + form.replace("+", "").format(float(np.std(known, ddof=1)))
  else:
    text = " / ".join(form.format(value) for value in known)
  return text if len(known) == expected else f"{text} ({len(known)} runs)"


def differences(groups: Sequence[Group]) -> list[str]:
  """A line per column with the keys that differ between columns."""
  if len(groups) < 2:
    return []
  firsts = [of_group.runs[0] for of_group in groups]
  keys = _differing(firsts)
  return [
    f"{', '.join(str(run.path) for run in of_group.runs)}: "
    + (", ".join(f"{k} = {_text(run.value(k))}" for k in keys) or "same config")
    for run, of_group in zip(firsts, groups, strict=True)
  ]


def curves(groups: Sequence[Group]) -> Figure | None:
  """The training of the subject of the runs, which is their first one.

  Returns:
    None if a run has trained nothing.

  Raises:
    InputError: the metrics of a training are missing.
  """
  histories = {
    of_group.header: [_history(run) for run in of_group.runs]
    for of_group in groups
  }
  if not all(all(group) for group in histories.values()):
    return None
  runs = [run for of_group in groups for run in of_group.runs]
  names = {_subject(run) for run in runs}
  title = f"training of {', '.join(sorted(map(str, names)))}"
  return report.training(histories, title)


def _subject(run: FinishedRun) -> str | None:
  """The name of the first training; None if there was none."""
  names = read_json(run.path / workdir.TRAINED)
  if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
    raise InputError(f"{run.path / workdir.TRAINED}: expected a list of names")
  return names[0] if names else None


def _history(run: FinishedRun) -> report.History:
  """Rows of the metrics of the subject: of its best restart."""
  name = _subject(run)
  if name is None:
    return []
  folder = run.path / name
  file = folder / "metrics.jsonl"
  if not file.exists():
    with input_errors(run.path / workdir.RESULTS, "a validation objective"):
      objectives = run.results["validation"][name]
      file = folder / str(int(np.argmin(objectives))) / "metrics.jsonl"
  rows = metrics.read(file)
  if not rows:
    raise InputError(f"{file}: no metrics of the training")
  return rows
