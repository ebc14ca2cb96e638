"""Tables and pictures of a run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.table import Table

COLUMNS = {
  "objective": ("objective", "{:.4f}"),
  "cross_entropy": ("CE", "{:.4f}"),
  "objective_plain": ("obj. plain", "{:.4f}"),
  "l1": ("L1", "{:.0f}"),
  "l1_balanced": ("L1 bal.", "{:.0f}"),
  "accuracy": ("accuracy", "{}"),
  "accuracy_min": ("min", "{:.3f}"),
  "sparsity": ("sparsity", "{:.3f}"),
  "accuracy_pruned": ("acc. pruned", "{:.3f}"),
  "agreement": ("agreement", "{:.3f}"),
  "seconds_alone": ("s alone", "{:.2g}"),
  "seconds_batched": ("s batched", "{:.2g}"),
  "data_passes": ("passes", "{:g}"),
}


SHORT = ("objective", "accuracy", "accuracy_min", "sparsity", "seconds_alone")
"""The columns that a terminal of 80 characters has room for."""


def _cells(row: Mapping[str, Any], columns=tuple(COLUMNS)) -> list[str]:
  values = dict(row)
  values["accuracy"] = f"{row['accuracy_mean']:.3f} ± {row['accuracy_std']:.3f}"
  return [COLUMNS[key][1].format(values[key]) for key in columns]


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
  """The most telling columns, for a terminal."""
  result = Table("method", title="test networks x test images")
  for key in SHORT:
    result.add_column(COLUMNS[key][0], justify="right", no_wrap=True)
  for row in rows:
    style = "bold" if row["method"] == "one shot" else None
    result.add_row(row["method"], *_cells(row, SHORT), style=style)
  return result


def markdown(results: Mapping[str, Any]) -> str:
  """`results.md`."""
  zoo = results["zoo"]
  lines = [
    "# Results",
    "",
    f"{zoo['test']} test networks x test images; {zoo['train']} training "
    f"networks, {zoo['val']} validation networks. Objective: cross-entropy + "
    f"{results['config']['loss']['l1']:g} x balanced L1.",
    "",
    "| method | " + " | ".join(name for name, _ in COLUMNS.values()) + " |",
    "|---|" + "---:|" * len(COLUMNS),
  ]
  for row in results["rows"]:
    lines.append(f"| {row['method']} | " + " | ".join(_cells(row)) + " |")
  versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
  lines += [""] + [f"- {line}." for line in verdicts(results["rows"])]
  lines += [f"- Symmetry error {results['symmetry_error']:.1e}."]
  spent = compiling(results["seconds"])
  lines += [f"- {results['device']}; {versions}; {spent}.", ""]
  return "\n".join(lines)


def compiling(seconds: Mapping[str, float]) -> str:
  """What `compilation.Clock` measured, in words."""
  share, total = seconds["compiling"], seconds["total"]
  return f"compiling took {share:.0f} s of {total:.0f} s"


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """What the table says of one shot, in words."""
  by_name = {row["method"]: row for row in rows}
  start, shot = by_name["balanced"], by_name["one shot"]
  curves: dict[str, list[tuple[int, float]]] = {}
  for row in rows:
    name, epochs = _horizon(row["method"])
    if epochs and not name.startswith(("one shot", "constant")):
      curves.setdefault(name, []).append((epochs, row["objective"]))
  lines = []
  for name, points in curves.items():
    last, end = points[-1]
    if end < start["objective"]:
      share = (start["objective"] - shot["objective"]) / (
        start["objective"] - end
      )
      lines.append(
        f"One shot gains {share:.0%} of what {last} epochs of tuned {name} gain"
      )
    worth = epochs_worth(points, start["objective"], shot["objective"])
    lines.append(f"One shot is worth {worth} epochs of tuned {name}")
  return lines


def _horizon(method: str) -> tuple[str, int]:
  """("Adam", 50) of "Adam, 50 epochs"; 0 of a method without epochs."""
  name, _, horizon = method.rpartition(", ")
  found = re.fullmatch(r"(\d+) epochs?", horizon)
  return (name, int(found[1])) if found else (method, 0)


def epochs_worth(
  points: Sequence[tuple[int, float]], start: float, objective: float
) -> str:
  """Epochs after which a curve reaches an objective, linear in between."""
  before = (0, start)
  if objective >= start:
    return "0"
  for epoch, value in points:
    if value <= objective:
      share = (before[1] - objective) / (before[1] - value)
      return f"{before[0] + share * (epoch - before[0]):.1f}"
    before = (epoch, value)
  return f"more than {before[0]}"


def pictures(
  workdir: Path,
  metrics: Sequence[Mapping[str, float]],
  results: Mapping[str, Any],
  accuracy: Mapping[str, np.ndarray],
  at_sparsity: Mapping[str, np.ndarray],
  shares: Sequence[float],
) -> None:
  """Writes the four pictures of a run as PNG."""
  _training(workdir / "training.png", metrics)
  _before_after(workdir / "before_after.png", accuracy)
  _time(workdir / "time.png", results["rows"])
  _sparsity(workdir / "sparsity.png", at_sparsity, shares)


def _save(figure, path: Path) -> None:
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  plt.close(figure)


def _training(path: Path, metrics) -> None:
  figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
  for axis, key in ((left, "objective"), (right, "accuracy")):
    axis.plot(
      [m["step"] for m in metrics],
      [m[key] for m in metrics],
      label="training batch",
      alpha=0.6,
    )
    val = [m for m in metrics if f"val_{key}" in m]
    axis.plot(
      [m["step"] for m in val],
      [m[f"val_{key}"] for m in val],
      "o-",
      label="validation networks and images",
    )
    axis.set_xlabel("step")
    axis.set_ylabel(key)
  left.legend()
  _save(figure, path)


def _before_after(path: Path, accuracy) -> None:
  figure, axis = plt.subplots(figsize=(4.5, 4.5))
  before, after = accuracy["as is"], accuracy["one shot"]
  axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
  axis.scatter(before, after, s=16, alpha=0.7)
  axis.set(
    xlim=(0, 1),
    ylim=(0, 1),
    xlabel="accuracy as is",
    ylabel="accuracy after one shot",
    title=f"{len(before)} held-out networks, test images",
  )
  _save(figure, path)


def _time(path: Path, rows) -> None:
  figure, axis = plt.subplots(figsize=(6, 4))
  curves: dict[str, list] = {}
  for row in rows:
    name, epochs = _horizon(row["method"])
    if row["seconds_alone"] == 0 or "balanced" in name:
      continue
    if epochs:
      curves.setdefault(name, []).append(row)
    else:
      axis.plot(row["seconds_alone"], row["objective"], "*", markersize=12,
                label=row["method"])  # fmt: skip
  for name, points in curves.items():
    axis.plot(
      [p["seconds_alone"] for p in points],
      [p["objective"] for p in points],
      "o-",
      label=f"{name}, {points[0]['data_passes']:g} to "
      f"{points[-1]['data_passes']:g} epochs",
    )
  for row in rows:
    if row["method"] == "balanced" or row["method"].startswith("constant"):
      axis.axhline(row["objective"], color="gray", linestyle=":", linewidth=1)
      axis.annotate(
        row["method"],
        (0.99, row["objective"]),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7,
      )
  axis.set(
    xscale="log",
    xlabel="seconds per network, one at a time",
    ylabel="objective on test images",
  )
  axis.legend(fontsize=7)
  _save(figure, path)


def _sparsity(path: Path, at_sparsity, shares) -> None:
  figure, axis = plt.subplots(figsize=(5.5, 4))
  for name, values in at_sparsity.items():
    axis.plot(shares, values, "o-", markersize=3, label=name)
  axis.set(
    xlabel="share of weights set to zero, smallest first, balanced gauge",
    ylabel="mean accuracy, test images",
    ylim=(0, 1),
  )
  axis.legend()
  _save(figure, path)
