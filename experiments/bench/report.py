"""Tables and pictures of a bench."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from experiments.bench import sharding
from experiments.runner import pictures
from scalegmn_jax.base import InputError
from scalegmn_jax.io import read_json

Row = Mapping[str, Any]

COLUMNS = {
  "networks": "networks",
  "seconds": "s",
  "rate": "networks / s",
  "floor_seconds": "floor s",
  "ratio": "x floor",
  "ratio_at_shape": "x at shape",
  "forward": "forward s",
  "forward_ratio": "forward x floor",
  "baseline": "baseline / this",
  "gflops": "GFLOP",
  "xla": "XLA / formula",
  "bytes": "MB moved",
  "temp_bytes": "MB temp",
  "peak_bytes": "MB peak",
  "compile_seconds": "compile s",
}
POINTS = {
  "seconds": "s",
  "cpu_seconds": "CPU s",
  "overhead": "overhead",
  "collectives": "collectives",
  "parameters": "parameters of φ",
  "flops": "GFLOP / network",
  "reduced_bytes": "MB all-reduced",
  "memory_bytes": "MB",
  "compile_seconds": "compile s",
  "programs": "programs",
  **{link.name: link.name for link in sharding.LINKS},
}
"""Columns of a table of points, after the size that grows."""
SHORT = ("seconds", "ratio", "ratio_at_shape", "baseline")
"""Columns that fit into a terminal of 80 characters."""


def with_baselines(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Rows with "baseline": its time per network relative to the case."""
  baselines = {row["baseline_of"]: row for row in rows if row["baseline_of"]}
  result = []
  for row in rows:
    baseline = baselines.get(row["case"], {})
    row = dict(row)
    if "step" in row and "step" in baseline:
      row["baseline"] = _per_network(baseline) / _per_network(row)
    result.append(row)
  return result


def _per_network(row: Row) -> float:
  return row["step"]["seconds"] / row["networks"]


def _cells(row: Row) -> dict[str, str]:
  """The cells of a row; a dash if nothing was measured."""
  step, forward = row["step"], row.get("forward") or {}
  values: dict[str, Any] = {
    k: row.get(k) for k in ("networks", "baseline", "peak_bytes")
  }
  values |= {k: step.get(k) for k in COLUMNS if k in step}
  values["forward"] = forward.get("seconds")
  values["forward_ratio"] = forward.get("ratio")
  values["rate"] = row["networks"] / step["seconds"]
  values["gflops"] = step["flops"] / 1e9
  if step["flops"] and "xla_flops" in step:
    values["xla"] = step["xla_flops"] / step["flops"]
  for key in ("bytes", "temp_bytes", "peak_bytes"):
    if values.get(key) is not None:
      values[key] /= 1e6
  return {k: _number(values.get(k)) for k in COLUMNS}


def _points(row: Row) -> list[list[str]]:
  """The headings of a row's points, and their cells."""
  points = row["points"]
  keys = [key for key in POINTS if key in points[0]]
  return [
    [row["grows"], *(POINTS[key] for key in keys)],
    *([str(p["x"]), *(_cell(key, p[key]) for key in keys)] for p in points),
  ]


def _cell(key: str, value: float | None) -> str:
  if value is None:
    return "-"
  if key == "overhead":
    return f"{value:+.0%}"
  return _number(value / {"bytes": 1e6, "flops": 1e9}.get(key[-5:], 1))


def _number(value: float | None) -> str:
  if value is None:
    return "-"
  return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _split(rows: Sequence[Row]) -> tuple[list[Row], ...]:
  """(measured, curves, spread over devices, failed)."""
  kinds = ("step", "exponents", "note", "error")
  return tuple([row for row in rows if kind in row] for kind in kinds)


def tables(results: Mapping[str, Any]) -> list[Table]:
  """The tables for a terminal."""
  measured, curves, spread, failed = _split(results["rows"])
  cases = Table(title=_machine(results["ceilings"]))
  cases.add_column("case", no_wrap=True)
  for key in SHORT:
    cases.add_column(COLUMNS[key], justify="right", no_wrap=True)
  for row in measured:
    cells = _cells(row)
    cases.add_row(row["case"], *(cells[key] for key in SHORT))
  result = [cases]
  if curves:
    growth = Table("grows with", "time", "memory")
    for row in curves:
      growth.add_row(row["grows"], *_powers(row))
    result.append(growth)
  for row in spread:
    heading, *points = _points(row)
    table = Table(*heading, caption=row["note"], caption_justify="left")
    for cells in points:
      table.add_row(*cells)
    result.append(table)
  if failed:
    errors = Table("failed", "error")
    for row in failed:
      errors.add_row(row["case"], row["error"])
    result.append(errors)
  return result


def _powers(row: Row) -> list[str]:
  n = row["grows"]
  return [
    "-" if power is None else f"{n}^{power:.2f}"
    for power in (row["exponents"][k] for k in ("seconds", "memory_bytes"))
  ]


def _machine(ceilings: Mapping[str, Any]) -> str:
  return (
    f"{ceilings['device']}: {ceilings['flops_per_second'] / 1e9:.0f} GFLOP/s, "
    f"{ceilings['bytes_per_second'] / 1e9:.1f} GB/s"
  )


def markdown(results: Mapping[str, Any]) -> str:
  """The content of `bench.md`."""
  measured, curves, spread, failed = _split(results["rows"])
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines = [
    "# Bench",
    "",
    f"{_machine(results['ceilings'])}; {versions}.",
    "",
    "The floor of a case is the greater of two times: its matrix products at "
    "the speed of large square products, and the bytes it must move at the "
    "speed of a copy. *x at shape*: relative to the speed of products with the "
    "shape of the case. *baseline / this*: time per network of the direct "
    "computation, relative to the case. A step of `zoo` is an epoch.",
    "",
    "| case | " + " | ".join(COLUMNS.values()) + " |",
    "|---|" + "---:|" * len(COLUMNS),
  ]
  for row in measured:
    cells = _cells(row).values()
    lines.append(f"| {row['case']} | " + " | ".join(cells) + " |")
  for row in curves:
    time, memory = _powers(row)
    lines += ["", f"## Growth with {row['grows']}", ""]
    lines += [f"Time ~ {time}, memory ~ {memory}.", "", *_rows(row)]
  for row in spread:
    lines += ["", f"## {row['case'].capitalize()}", "", row["note"], ""]
    lines += _rows(row)
  if failed:
    lines += ["", "## Failed", ""]
    lines += [f"- {row['case']}: `{row['error']}`" for row in failed]
  return "\n".join([*lines, ""])


def _rows(row: Row) -> list[str]:
  """The points of a row as a table of markdown."""
  heading, *points = ("| " + " | ".join(cells) + " |" for cells in _points(row))
  return [heading, "|" + "---:|" * (heading.count("|") - 1), *points]


def read(path: Path) -> dict[str, float]:
  """{case: seconds} of a file of results; growth has a case for each point.

  Raises:
    InputError: no such file, or not the results of a bench.
  """
  results = read_json(path)
  try:
    times = {r["case"]: r["step"]["seconds"] for r in results["rows"]
             if "step" in r}  # fmt: skip
    for row in results["rows"]:
      for p in row.get("points", ()):
        if p.get("seconds") is not None:
          times[f"{row['case']} {p['x']}"] = p["seconds"]
    return {name: float(seconds) for name, seconds in times.items()}
  except (KeyError, TypeError, ValueError, AttributeError):
    raise InputError(f"{path}: not the results of a bench") from None


def comparison(
  first: Mapping[str, float], second: Mapping[str, float]
) -> Table:
  """Compares two results: seconds, and second / first."""
  table = Table("case", "first s", "second s", "second / first")
  for name in dict.fromkeys([*first, *second]):
    times = [
      _number(times[name]) if name in times else "missing"
      for times in (first, second)
    ]
    both = name in first and name in second
    ratio = f"{second[name] / first[name]:.2f}" if both else "-"
    table.add_row(name, *times, ratio)
  return table


def picture(path: Path, results: Mapping[str, Any]) -> None:
  """Bars of time relative to the floor, and the curves of growth."""
  measured, curves, *_ = _split(results["rows"])
  height = max(2 * pictures.HEIGHT, 1.0 + 0.17 * len(measured))
  figure = Figure(figsize=(pictures.PAGE, height))
  grid = figure.add_gridspec(
    max(len(curves), 1), 2, width_ratios=(3, 2) if curves else (1, 0.01)
  )
  _bars(figure.add_subplot(grid[:, 0]), measured)
  for i, row in enumerate(curves):
    _curve(figure.add_subplot(grid[i, 1]), row)
  figure.suptitle(_machine(results["ceilings"]))
  pictures.save(figure, path)


def _bars(axis, rows: Sequence[Row]) -> None:
  for i, row in enumerate(rows):
    step = row["step"]
    color = pictures.GRAY if row["baseline_of"] else pictures.BLUE
    axis.barh(i, step["ratio"], 0.75, color=color)
    text = f" {_number(step['ratio'])}x, {_duration(step['seconds'])}"
    if "baseline" in row:
      text += f" (baseline: {row['baseline']:.2g}x as long)"
    axis.text(step["ratio"], i, text, va="center", fontsize=5)
    if "ratio_at_shape" in step:
      axis.plot(step["ratio_at_shape"], i, "|", color="black", markersize=6)
  axis.axvline(1, color="black", linewidth=0.8)
  axis.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=5)
  axis.invert_yaxis()
  axis.set_xscale("log")
  low, high = axis.get_xlim()
  axis.set_xlim(min(low, 0.8), high * (high / min(low, 0.8)) ** 0.6)
  axis.set_xlabel(
    "time / floor (1: the limit of this machine)\n"
    "bar: floor of large products; tick: floor of products with its shape"
  )


def _curve(axis, row: Row) -> None:
  """Time and memory relative to the smallest size, to compare slopes.

  The labels have the values at the largest size.
  """
  points = row["points"]
  for key, power, color in zip(
    ("seconds", "memory_bytes"),
    _powers(row),
    (pictures.BLUE, pictures.VERMILION),
    strict=True,
  ):
    known = [p for p in points if p[key]]
    if not known:
      continue
    last = known[-1][key]
    end = _duration(last) if key == "seconds" else f"{_number(last / 1e6)} MB"
    axis.loglog(
      [p["x"] for p in known],
      [p[key] / known[0][key] for p in known],
      "o-",
      color=color,
      label=f"{key.split('_')[0]} ~ {power}, up to {end}",
    )
  xs = [p["x"] for p in points]
  axis.plot(xs, [x / xs[0] for x in xs], ":", color="gray", label="linear")
  axis.set_xticks(xs, [_short(x) for x in xs])
  axis.minorticks_off()
  axis.margins(y=0.2)
  axis.legend(fontsize=5)
  axis.set_xlabel(row["grows"])
  axis.set_ylabel("x the smallest")


def _short(count: float) -> str:
  for unit, scale, least in (("M", 1e6, 1e6), ("k", 1e3, 4e3)):
    if count >= least:
      return f"{count / scale:.3g}{unit}"
  return f"{count:g}"


def _duration(seconds: float) -> str:
  for unit, scale in (("s", 1), ("ms", 1e-3)):
    if seconds >= scale:
      return f"{seconds / scale:.3g} {unit}"
  return f"{seconds / 1e-6:.3g} µs"
