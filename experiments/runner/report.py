"""Tables and pictures of a run, made from its results."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.table
from matplotlib.figure import Figure
from rich.text import Text

from experiments.runner import formats, progress
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


def show(results: Results, label: Label) -> None:
  """Prints the tables, with their `short` columns, and the conclusions."""
  for table in results["tables"]:
    # `Text`: brackets in a text are no markup.
    grid = rich.table.Table(title=Text(table["title"]))
    grid.add_column(Text(table["first"]))
    columns = {key: table["columns"][key] for key in table["short"]}
    for header, _ in columns.values():
      grid.add_column(Text(header), justify="right", no_wrap=True)
    for row in table["rows"]:
      cells = [_cell(row, key, form) for key, (_, form) in columns.items()]
      grid.add_row(Text(label(row)), *map(Text, cells))
    progress.console.print(grid)
  for line in results["lines"]:
    progress.console.print(line + ".", markup=False)


def markdown(results: Results, label: Label) -> str:
  """The content of `results.md`."""
  lines = ["# Results", ""]
  for table in results["tables"]:
    headers = [header for header, _ in table["columns"].values()]
    title = table["title"]
    if title[:1].isascii():  # a symbol such as τ has no capital
      title = title[:1].upper() + title[1:]
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
