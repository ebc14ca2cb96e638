"""What the table of amortized fine-tuning says, in words and pictures."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.finetune.methods import (
  ONE_SHOT,
  SHARES,
  SOLVED,
  Measured,
  epoch_word,
)
from scalegmn_jax.eval.epochs_to_match import epochs_to_match


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """What the table says of one shot, in words."""
  by_name = {row["method"]: row for row in rows}
  start, shot = by_name["balanced"], by_name[ONE_SHOT]
  curves: dict[str, list[tuple[int, float]]] = {}
  for row in rows:
    name, epochs = _horizon(row["method"])
    if epochs and not name.startswith(("one shot", "constant", "pretrained")):
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
    for method in (ONE_SHOT, SOLVED):
      if method in by_name:
        worth = epochs_to_match(
          points, start["objective"], by_name[method]["objective"]
        )
        lines.append(
          f"{method.capitalize()} is worth {worth_text(worth, last)} epochs "
          f"of tuned {name}"
        )
  return lines


def _horizon(method: str) -> tuple[str, int]:
  """("Adam", 50) of "Adam, 50 epochs"; 0 of a method without epochs."""
  name, _, horizon = method.rpartition(", ")
  found = re.fullmatch(r"(\d+) epochs?", horizon)
  return (name, int(found[1])) if found else (method, 0)


def worth_text(worth: float, last: int) -> str:
  """`epochs_to_match` in words, of a curve of so many epochs."""
  return f"{worth:.1f}" if worth <= last else f"more than {last}"


def pictures(measured: Measured) -> dict[str, Figure]:
  """{file name: figure}."""
  return {
    "before_after.png": _before_after(measured.accuracy),
    "time.png": _time(measured.rows),
    "sparsity.png": _sparsity(measured.at_sparsity),
  }


def _before_after(accuracy) -> Figure:
  figure = Figure(figsize=(4.5, 4.5))
  axis = figure.subplots()
  before, after = accuracy["as is"], accuracy[ONE_SHOT]
  axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
  axis.scatter(before, after, s=16, alpha=0.7)
  axis.set(
    xlim=(0, 1),
    ylim=(0, 1),
    xlabel="accuracy as is",
    ylabel="accuracy after one shot",
    title=f"{len(before)} held-out networks, test images",
  )
  return figure


def _time(rows) -> Figure:
  figure = Figure(figsize=(6, 4))
  axis = figure.subplots()
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
      label=f"{name}, {_span([p['data_passes'] for p in points])}",
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
  return figure


def _span(epochs: Sequence[float]) -> str:
  """ "1 to 50 epochs", and "1 epoch" of a single horizon."""
  last = epoch_word(int(epochs[-1]))
  return last if len(epochs) == 1 else f"{epochs[0]:g} to {last}"


def _sparsity(at_sparsity) -> Figure:
  figure = Figure(figsize=(5.5, 4))
  axis = figure.subplots()
  for name, values in at_sparsity.items():
    axis.plot(SHARES, values, "o-", markersize=3, label=name)
  axis.set(
    xlabel="share of weights set to zero, smallest first, balanced gauge",
    ylabel="mean accuracy, test images",
    ylim=(0, 1),
  )
  axis.legend()
  return figure
