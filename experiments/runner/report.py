"""Tables and pictures of a run, made from its results."""

import hashlib
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.table
from matplotlib.figure import Figure
from rich.text import Text

from experiments.runner import formats, progress
from experiments.runner import pictures as look
from scalegmn_jax.base import InputError
from scalegmn_jax.io import read_json

Results = Mapping[str, Any]
"""Content of `results.json`, see `experiment.write`."""

Label = Callable[[Mapping[str, Any]], str]
"""Row of a table -> its display text, see `experiment.Experiment.label`."""

_KINDS: Mapping[type, str] = {
  dict: "an object",
  list: "a list",
  str: "a text",
  int: "a number",
  float: "a number",
}

_CONTENT = {
  "config": dict, "tables": list, "lines": list, "device": str,
  "versions": dict, "seconds": dict,
}  # fmt: skip
"""{key of results of any format: type of its value}."""

_FORM = re.compile(r"[^{}]*\{(:[-+ <>^]*\d{0,2},?(\.\d{1,2})?[a-z%]?)?\}[^{}]*")
"""The format of a column; without the widths that would fill the memory."""


DIGEST = "sha256"
"""The key of `results.json` with the digest of the other values; version 0.2
and earlier ones did not write it."""


def percent(share: float) -> str:
  """A share as text: 0.5 is "50 %"."""
  return f"{100 * share:g} %"


def digest(results: Results) -> str:
  """SHA-256 of the values of `results.json`, without the digest."""
  # As JSON: tuples are lists there.
  values = json.loads(json.dumps({**results, DIGEST: None}))
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path, label: Label) -> Results:
  """Reads `results.json` of any format; `show` and `markdown` can use it.

  Args:
    path: the file.
    label: `Experiment.label` of the experiment of the run.

  Raises:
    InputError: no such file, or not the results of a run of this experiment;
      the message names the place in the file.
  """
  results = read_json(path)

  def need(value: Any, kind: type, place: str) -> Any:
    good = isinstance(value, (int, float) if kind is float else kind)
    if not good or isinstance(value, bool):
      refuse(place, value, _KINDS[kind])
    return value

  def refuse(place: str, value: Any, expected: str) -> None:
    raise InputError(
      f"{path}: not the results of a run: {place} is {value!r:.40}, expected "
      f"{expected}"
    )

  need(results, dict, "the content")
  for key, kind in _CONTENT.items():
    need(results.get(key), kind, key)
  version = need(results.get("format", 1), int, "format")
  if not 1 <= version <= formats.FORMAT:
    refuse("format", version, f"1 to {formats.FORMAT}")
  need(results.get("config_file", ""), str, "config_file")
  for key in ("compiling", "total"):
    need(results["seconds"].get(key), float, f"seconds.{key}")
  for i, line in enumerate(results["lines"]):
    need(line, str, f"lines[{i}]")
  for i, table in enumerate(results["tables"]):
    place = f"tables[{i}]"
    need(table, dict, place)
    for key, kind in (
      ("title", str), ("first", str), ("columns", dict), ("short", list),
      ("rows", list),
    ):  # fmt: skip
      need(table.get(key), kind, f"{place}.{key}")
    for key, column in table["columns"].items():
      at = f"{place}.columns.{key}"
      header, form = column if _is_pair(column) else (None, None)
      if header is None or form is None or not _FORM.fullmatch(form):
        refuse(at, column, "a header and a format such as '{:.3f}'")
    for key in table["short"]:
      if not isinstance(key, str) or key not in table["columns"]:
        refuse(f"{place}.short", key, "keys of columns")
    for j, row in enumerate(table["rows"]):
      at = f"{place}.rows[{j}]"
      need(row, dict, at)
      try:
        text = formats.row_label(results, label)(row)
      except (LookupError, TypeError, ValueError, AttributeError):
        text = None
      if not isinstance(text, str):
        refuse(at, row, "the keys of a row of this experiment")
      for key, (_, form) in table["columns"].items():
        try:
          _cell(row, key, form)
        except (ArithmeticError, TypeError, ValueError):
          refuse(f"{at}.{key}", row[key], f"a value for the format {form}")
  try:
    json.dumps(results, ensure_ascii=False).encode()
  except UnicodeEncodeError:  # half of a surrogate pair
    raise InputError(f"{path}: a text is not Unicode") from None
  if results.get(DIGEST, "") not in ("", digest(results)):
    raise InputError(f"{path}: other values than were written")
  return results


def _is_pair(column: Any) -> bool:
  """Whether a value is a list of two texts."""
  return (
    isinstance(column, list)
    and len(column) == 2
    and all(isinstance(text, str) for text in column)
  )


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
  value = row.get(key)
  return "-" if value is None else form.format(value)


LABEL_ROOM = 28
"""Characters of a terminal that are left to the labels of rows."""


def show(results: Results, label: Label) -> None:
  """Prints the tables, with their `short` columns, and the conclusions."""
  for table in results["tables"]:
    # `Text`: brackets in a text are no markup.
    grid = rich.table.Table(title=Text(table["title"]))
    labels = [label(row) for row in table["rows"]]
    grid.add_column(Text(table["first"]))
    columns = {key: table["columns"][key] for key in table["short"]}
    # Long headers are broken, so that the labels have room.
    room = (progress.console.width - LABEL_ROOM) // max(len(columns), 1) - 3
    for header, _ in columns.values():
      text = Text(textwrap.fill(header, max(room, 8)))
      grid.add_column(text, justify="right", no_wrap=True)
    for text, row in zip(labels, table["rows"], strict=True):
      cells = [_cell(row, key, form) for key, (_, form) in columns.items()]
      grid.add_row(Text(text), *map(Text, cells))
    progress.console.print(grid)
  for line in results["lines"]:
    progress.console.print(line + ".", markup=False)


def markdown(results: Results, label: Label) -> str:
  """The content of `results.md`."""
  lines = ["# Results", ""]
  lines += [table_markdown(table, label) for table in results["tables"]]
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += [f"- {line}." for line in results["lines"]]
  spent = compile_time(results["seconds"])
  # Earlier versions did not write the processor.
  processor = f"; {results['processor']}" if results.get("processor") else ""
  lines += [f"- {results['device']}{processor}; {versions}; {spent}.", ""]
  return "\n".join(lines)


def table_markdown(table: Mapping[str, Any], label: Label) -> str:
  """The title of a table and all of its columns, with an empty line at the end.

  Args:
    table: of results, see `experiment.Table`.
    label: display text of a row.
  """
  title, columns = table["title"], table["columns"]
  if title[:1].isascii():  # a symbol such as τ has no capital
    title = title[:1].upper() + title[1:]
  header = [table["first"], *(header for header, _ in columns.values())]
  rows = [
    [label(row), *(_cell(row, key, form) for key, (_, form) in columns.items())]
    for row in table["rows"]
  ]
  return f"{title}.\n\n{markdown_table(header, rows)}\n"


def markdown_table(
  header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
  """A table whose first columns are text and whose others are numbers."""
  align = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
  lines = [header, align, *rows]
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row_keys(table: Mapping[str, Any], row: Mapping[str, Any]) -> frozenset:
  """The keys that tell a row from the others of its table, with their values.

  Args:
    table: of results, see `experiment.Table`.
    row: one of its rows.
  """
  # Further numbers of a row are measured, like those of the columns.
  return frozenset(
    (key, value)
    for key, value in row.items()
    if key not in table["columns"] and isinstance(value, str | int)
  )


def compile_time(seconds: Mapping[str, float]) -> str:
  """A sentence about the times that `compilation.Clock` measured."""
  share, total = seconds["compiling"], seconds["total"]
  return f"compiling took {share:.0f} s of {total:.0f} s"


MAX_LABELS = 8
"""The most curves of a picture of trainings that have labels."""

History = Sequence[Mapping[str, float]]
"""Rows of `metrics.jsonl`."""


def training(histories: Mapping[str, Sequence[History]], title: str) -> Figure:
  """Curves of the objective and of one more metric.

  Thin lines are of training batches, lines with dots of validation. Of several
  trainings a line is the mean, and a band reaches from the least to the
  greatest value.

  Args:
    histories: {label: trainings, for instance with several seeds}.
    title: of the figure.
  """
  everything = [history for group in histories.values() for history in group]
  shared = [
    key
    for key in everything[0][-1]
    if all(f"val_{key}" in history[-1] for history in everything)
  ]
  keys = ["objective", *[k for k in shared if k != "objective"][:1]]
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle(title)
  axes = figure.subplots(1, len(keys), squeeze=False)[0]
  for axis, key in zip(axes, keys, strict=True):
    labels = []
    for i, (label, group) in enumerate(histories.items()):
      color = look.color(label.partition("/")[0], i)
      steps, values = _values(group, key)
      axis.plot(steps, values.mean(0), color=color, alpha=0.3, linewidth=0.6)
      steps, values = _values(group, f"val_{key}")
      mean = values.mean(0)
      axis.plot(steps, mean, "o-", color=color, label=label)
      axis.fill_between(
        steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0
      )
      labels.append(look.Label(steps[-1], mean[-1], label, color))
    axis.set(xlabel="step", ylabel=f"{key} (dots: validation)")
    if len(labels) <= MAX_LABELS and axis is axes[-1]:
      look.label_ends(axis, labels)
  return figure


def _values(group: Sequence[History], key: str) -> tuple[list, np.ndarray]:
  """Steps that all trainings have; values of a metric [trainings, steps]."""
  curves = [{row["step"]: row[key] for row in h if key in row} for h in group]
  steps = sorted(set.intersection(*(set(curve) for curve in curves)))
  return steps, np.array([[curve[s] for s in steps] for curve in curves])
