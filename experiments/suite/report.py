"""Tables and picture of a suite."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import build
from experiments.runner import comparison, formats, provenance, report, workdir
from experiments.runner import pictures as look
from experiments.runner.experiment import Table
from experiments.suite.tasks import (
  KINDS,
  REFERENCES,
  TASKS,
  Task,
  label,
  methods,
)
from scalegmn_jax.io import write_json, write_text

PICTURE = "suite.png"

ROW = 0.15
"""Height of a method in the picture, in inches."""

Cell = Mapping[str, Any]
"""Content of the file of a cell, see `cells`."""

Values = Mapping[str, Sequence[Cell]]
"""{method: its cells of one task, one per seed}."""


def write(folder: Path, size: str, found: Sequence[Cell]) -> report.Results:
  """Writes tables and picture.

  Args:
    folder: of the suite.
    size: one of `SIZES`.
    found: the cells.

  Returns:
    The content of `results.json`.
  """
  by_task = _by_task(found)
  results = {
    "format": formats.FORMAT,
    "config_file": f"suite:{size}",
    "config": {"experiment": "suite", "seed": 0, "size": size},
    "commit": provenance.commit(),
    "date": provenance.date(),
    "tables": [t._asdict() for t in tables(by_task)],
    "lines": _lines(size, found),
    "device": build.devices(),
    "processor": provenance.processor(),
    "versions": provenance.versions(),
    "seconds": _seconds(found),
  }
  if by_task:
    look.save(picture(by_task), folder / PICTURE)
  write_text(
    folder / workdir.TABLES, report.markdown(results, comparison.label)
  )
  write_json(folder / workdir.RESULTS, results)
  return results


def _by_task(found: Sequence[Cell]) -> dict[str, Values]:
  """{task: {method: cells}}, in the order of the tables."""
  result = {}
  for name, task in TASKS.items():
    values = {
      method: [
        cell
        for cell in found
        if (cell["task"], cell["method"]) == (name, method)
      ]
      for method in methods(task.kind)
    }
    if any(values.values()):
      result[name] = {m: cells for m, cells in values.items() if cells}
  return result


def _seconds(found: Sequence[Cell]) -> dict[str, float]:
  """Seconds of all runs; several cells may share one."""
  runs = {cell["run"]: cell["seconds"] for cell in found}
  return {
    key: sum(seconds[key] for seconds in runs.values())
    for key in ("total", "compiling")
  }


def _lines(size: str, found: Sequence[Cell]) -> list[str]:
  count, runs = len(found), len({cell["run"] for cell in found})
  lines = [
    f"{count} cells of {runs} runs, size {size}",
    "Bold: the best metanetwork, without regard to intervals. Mean score: 0 is "
    "the constant (in writing: the network as it is), 1 the best metanetwork "
    "of the task; over the tasks to which all methods apply",
  ]
  if size == "tiny":
    lines.append(
      "The size tiny is a test of the path: its numbers mean nothing"
    )
  return lines


def mean(cells: Sequence[Cell]) -> float:
  """The mean of a number over seeds."""
  return float(np.mean([cell["value"] for cell in cells]))


def best(task: Task, values: Values) -> str | None:
  """The best metanetwork of a task; None without one."""
  means = {m: mean(c) for m, c in values.items() if m not in REFERENCES}
  means = {m: value for m, value in means.items() if np.isfinite(value)}
  if not means:
    return None
  return (max if task.higher else min)(means, key=lambda m: means[m])


def score(task: Task, values: Values, method: str) -> float | None:
  """0 for the baseline of a task, 1 for the best metanetwork.

  None where one of them is missing, or the best one is no better.
  """
  top = best(task, values)
  if top is None or task.baseline not in values or method not in values:
    return None
  start, end = mean(values[task.baseline]), mean(values[top])
  if not (end > start if task.higher else end < start):
    return None
  return (mean(values[method]) - start) / (end - start)


def tables(by_task: Mapping[str, Values]) -> list[Table]:
  """A table per kind of tasks: a row per method, a column per task."""
  result = []
  for kind, title in KINDS.items():
    of_kind = {n: v for n, v in by_task.items() if TASKS[n].kind == kind}
    if not of_kind:
      continue
    columns = {name: (_header(TASKS[name]), "{}") for name in of_kind}
    columns["score"] = ("mean score", "{:.2f}")
    rows = [
      _row(kind, method, of_kind)
      for method in methods(kind)
      if any(method in values for values in of_kind.values())
    ]
    what = "; ".join(
      f"{TASKS[n].header.partition(',')[0]}: {TASKS[n].title}" for n in of_kind
    )
    result.append(Table(f"{title}. {what}", columns, rows, list(columns)))
  return result


def _header(task: Task) -> str:
  return f"{task.header} {'↑' if task.higher else '↓'}"


def _row(
  kind: str, method: str, of_kind: Mapping[str, Values]
) -> dict[str, Any]:
  row: dict[str, Any] = {"label": label(kind, method), "method": method}
  for name, values in of_kind.items():
    if method in values:
      text = _text(TASKS[name], values[method])
      bold = best(TASKS[name], values) == method
      row[name] = f"**{text}**" if bold else text
  scores = [
    score(TASKS[n], v, method) for n, v in of_kind.items() if TASKS[n].scored
  ]
  known = [s for s in scores if s is not None]
  complete = known and len(known) == len(scores)
  row["score"] = float(np.mean(known)) if complete else None
  return row


def _text(task: Task, cells: Sequence[Cell]) -> str:
  """Mean and, of several seeds, standard deviation."""
  text = task.form.format(mean(cells))
  if len(cells) > 1:
    values = [cell["value"] for cell in cells]
    text += f" ± {task.form.format(float(np.std(values, ddof=1)))}"
  return text


def picture(by_task: Mapping[str, Values]) -> Figure:
  """A panel per task, a row of panels per kind, a dot per method.

  The dot of the best metanetwork is blue, those of `REFERENCES` are hollow, and
  a dotted line is at the baseline of the score. Bars are intervals of the task
  (of one seed), or reach over the seeds.
  """
  kinds = [k for k in KINDS if any(TASKS[n].kind == k for n in by_task)]
  of_kind = {
    kind: {n: v for n, v in by_task.items() if TASKS[n].kind == kind}
    for kind in kinds
  }
  rows = {
    kind: [m for m in methods(kind) if any(m in v for v in values.values())]
    for kind, values in of_kind.items()
  }
  heights = [ROW * len(rows[kind]) + 0.75 for kind in kinds]
  figure = Figure(figsize=(look.PAGE, sum(heights)))
  parts = figure.subfigures(
    len(kinds), 1, height_ratios=heights, squeeze=False
  )[:, 0]
  for kind, part in zip(kinds, parts, strict=True):
    part.suptitle(KINDS[kind])
    axes = part.subplots(1, len(of_kind[kind]), squeeze=False, sharey=True)[0]
    for axis, (name, values) in zip(axes, of_kind[kind].items(), strict=True):
      _panel(axis, TASKS[name], values, rows[kind])
    axes[0].set_yticks(
      range(len(rows[kind])), [label(kind, m) for m in rows[kind]]
    )
    axes[0].set_ylim(len(rows[kind]) - 0.5, -0.5)
  return figure


def _panel(axis: Axes, task: Task, values: Values, rows: Sequence[str]) -> None:
  top = best(task, values)
  axis.grid(axis="y", linewidth=0.3, color=look.GRAY, alpha=0.5)
  axis.set_axisbelow(True)
  if task.baseline in values:
    axis.axvline(
      mean(values[task.baseline]), color=look.GRAY, linestyle=":", linewidth=0.8
    )
  for i, method in enumerate(rows):
    if method not in values:
      continue
    color, cells = look.BLUE if method == top else look.BLACK, values[method]
    axis.plot(
      _ends(cells), [i, i], color=color, alpha=0.4, linewidth=1.5,
      solid_capstyle="butt",
    )  # fmt: skip
    axis.plot(
      mean(cells), i, "o", color=color, markersize=5 if method == top else 3.5,
      markerfacecolor="white" if method in REFERENCES else color,
    )  # fmt: skip
  axis.set_title("\n".join(_header(task).rsplit(", ", 1)))
  axis.locator_params(axis="x", nbins=4)
  axis.tick_params(axis="y", length=0)


def _ends(cells: Sequence[Cell]) -> tuple[float, float]:
  """The interval of one seed, or the least and the greatest of several."""
  values = [cell["value"] for cell in cells]
  if len(cells) == 1 and cells[0]["low"] is not None:
    return cells[0]["low"], cells[0]["high"]
  return min(values), max(values)
