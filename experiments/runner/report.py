"""Tables and pictures of a run, made from its results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.table
from matplotlib.figure import Figure

from experiments.runner import progress

Results = Mapping[str, Any]
"""Content of `results.json`, see `experiment.write`."""

Label = Callable[[Mapping[str, Any]], str]
"""Row of a table -> its display text, see `experiment.Experiment.label`."""


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
  value = row.get(key)
  return "-" if value is None else form.format(value)


def show(results: Results, label: Label) -> None:
  """Prints the tables, with their `short` columns, and the conclusions."""
  for table in results["tables"]:
    grid = rich.table.Table(table["first"], title=table["title"])
    columns = {key: table["columns"][key] for key in table["short"]}
    for header, _ in columns.values():
      grid.add_column(header, justify="right", no_wrap=True)
    for row in table["rows"]:
      cells = [_cell(row, key, form) for key, (_, form) in columns.items()]
      grid.add_row(label(row), *cells)
    progress.console.print(grid)
  for line in results["lines"]:
    progress.console.print(line + ".")


def markdown(results: Results, label: Label) -> str:
  """The content of `results.md`."""
  lines = ["# Results", ""]
  for table in results["tables"]:
    headers = [header for header, _ in table["columns"].values()]
    title = table["title"]
    if title[0].isascii():  # a symbol such as τ has no capital
      title = title[0].upper() + title[1:]
    lines += [f"{title}.", ""]
    lines += [" | ".join(["| " + table["first"], *headers]) + " |"]
    lines += ["|---|" + "---:|" * len(headers)]
    for row in table["rows"]:
      cells = [
        _cell(row, key, form) for key, (_, form) in table["columns"].items()
      ]
      lines.append(" | ".join([f"| {label(row)}", *cells]) + " |")
    lines.append("")
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += [f"- {line}." for line in results["lines"]]
  spent = compile_time(results["seconds"])
  lines += [f"- {results['device']}; {versions}; {spent}.", ""]
  return "\n".join(lines)


def compile_time(seconds: Mapping[str, float]) -> str:
  """A sentence about the times that `compilation.Clock` measured."""
  share, total = seconds["compiling"], seconds["total"]
  return f"compiling took {share:.0f} s of {total:.0f} s"


def save(figure: Figure, path: Path) -> None:
  """Writes a picture."""
  figure.tight_layout()
  figure.savefig(path, dpi=120)


MAX_LEGEND = 8
"""The most jobs for which the picture of the training has a legend."""


def training(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
  """Curves of the objective and of one more metric, for each job.

  Args:
    histories: {name of a job: rows of its `metrics.jsonl`}.
  """
  shared = [
    key
    for key in next(iter(histories.values()))[-1]
    if all(f"val_{key}" in rows[-1] for rows in histories.values())
  ]
  keys = ["objective", *[k for k in shared if k != "objective"][:1]]
  figure = Figure(figsize=(4.5 * len(keys), 3.5))
  axes = figure.subplots(1, len(keys), squeeze=False)[0]
  for axis, key in zip(axes, keys, strict=True):
    for i, (name, rows) in enumerate(histories.items()):
      color = f"C{i % 10}"
      axis.plot(
        [row["step"] for row in rows],
        [row[key] for row in rows],
        color=color,
        alpha=0.4,
      )
      rows = [row for row in rows if f"val_{key}" in row]
      axis.plot(
        [row["step"] for row in rows],
        [row[f"val_{key}"] for row in rows],
        "o-",
        color=color,
        markersize=3,
        label=name,
      )
    axis.set(xlabel="step", ylabel=f"{key}: training batch, validation (dots)")
  if len(histories) <= MAX_LEGEND:
    axes[0].legend(fontsize=7)
  return figure
