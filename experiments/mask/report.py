"""Tables, conclusions and picture of masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from experiments.mask.methods import OPERATOR, Measured
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Table
from experiments.runner.report import percent

LABELS = {
  "original": "original",
  OPERATOR: "operator",
  "magnitude": "magnitude",
  "magnitude_l1_gauge": "magnitude (L1 gauge)",
  "magnitude_of_unit_norm": "magnitude (unit norm)",
  "magnitude_as_stored": "magnitude (as stored)",
  "synflow": "SynFlow",
  "obd": "OBD",
  "snip": "SNIP",
}

STYLES = {
  "magnitude_l1_gauge": "s--",
  "magnitude_of_unit_norm": "v-.",
  "magnitude_as_stored": "^:",
}
"""{method: marker and line, where another method has the same color}."""

Results = Mapping[str, Measured]


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  text = LABELS[row["method"]]
  if row.get("images"):
    text += f", {row['images']} images"
  return f"{text}, {percent(row['sparsity'])}" if "sparsity" in row else text


def interval(values: np.ndarray) -> tuple[float, float, float]:
  """(mean, low, high): the 95 % t interval of the mean of values [n]."""
  low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
  return float(values.mean()), float(low), float(high)


def divergences(results: Results, sparsities: Sequence[float]) -> Table:
  """Mean divergence from own outputs of each method at each sparsity."""
  columns = {f"{s:g}": (percent(s), "{:.4f}") for s in sparsities}
  rows = [
    {
      "method": name,
      "images": result.images,
      **dict(zip(columns, result.divergence.mean(1).tolist(), strict=True)),
    }
    for name, result in results.items()
  ]
  return Table(
    "KL from own outputs on test images, nats, at each share of removed kernel "
    "entries: means over test networks",
    columns, rows, tuple(columns),
  )  # fmt: skip


def accuracies(
  results: Results, original: np.ndarray, sparsities: Sequence[float]
) -> Table:
  """Mean accuracy of each method at each sparsity."""
  columns = {"0": ("0 %", "{:.3f}")}
  columns |= {f"{s:g}": (percent(s), "{:.3f}") for s in sparsities}
  rows: list[dict[str, Any]] = [
    {"method": "original", "images": 0, "0": float(original.mean())}
  ]
  rows += [
    {
      "method": name,
      "images": result.images,
      **{
        f"{s:g}": float(a.mean())
        for s, a in zip(sparsities, result.accuracy, strict=True)
      },
    }
    for name, result in results.items()
  ]
  return Table(
    "accuracy on test images: means over test networks",
    columns, rows, tuple(columns),
  )  # fmt: skip


def differences(results: Results, sparsities: Sequence[float]) -> Table:
  """Divergence after the operator's mask minus that after another method."""
  own = results[OPERATOR].divergence
  rows: list[dict[str, Any]] = [
    {"method": name, "images": result.images, "sparsity": s}
    | dict(
      zip(
        ("difference", "low", "high"),
        interval(own[i] - result.divergence[i]),
        strict=True,
      )
    )
    for name, result in results.items()
    if name != OPERATOR
    for i, s in enumerate(sparsities)
  ]
  columns = {
    "difference": ("difference", "{:.4f}"),
    "low": ("low", "{:.4f}"),
    "high": ("high", "{:.4f}"),
  }
  return Table(
    "KL of the operator minus KL of another method: means over test networks, "
    "paired, and the ends of their 95 % t intervals",
    columns, rows, tuple(columns), "operator minus",
  )  # fmt: skip


def conclusions(results: Results, sparsities: Sequence[float]) -> list[str]:
  """A sentence per sparsity: the operator beside the best score."""
  lines, own = [], results[OPERATOR].divergence
  for kind, wanted in (("without", False), ("with", True)):
    others = {
      name: r
      for name, r in results.items()
      if name != OPERATOR and bool(r.images) == wanted
    }
    for i, s in enumerate(sparsities):
      best = min(others, key=lambda name: others[name].divergence[i].mean())
      theirs = others[best].divergence[i]
      mean, low, high = interval(own[i] - theirs)
      lines.append(
        f"{percent(s)} removed: KL {own[i].mean():.4f} after the operator, "
        f"{theirs.mean():.4f} after {LABELS[best]}, the best score {kind} "
        f"data; difference {mean:.4f} (95 % interval {low:.4f} to {high:.4f})"
      )
  return lines


def picture(
  results: Results, sparsities: Sequence[float], heading: str
) -> Figure:
  """Mean divergence against sparsity."""
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  figure.suptitle(heading)
  panel = figure.subplots()
  x, labels = 100 * np.asarray(sparsities), []
  for name, result in results.items():
    y, color = result.divergence.mean(1), look.color(name)
    panel.plot(x, y, STYLES.get(name, "o-"), color=color)
    labels.append(look.Label(x[-1], y[-1], LABELS[name], color))
  panel.set(
    xlabel="removed kernel entries, %",
    ylabel="KL from own outputs, test images",
  )
  look.log_scale(panel)
  look.label_ends(panel, labels)
  return figure


def outcome(
  results: Results,
  original: np.ndarray,
  sparsities: Sequence[float],
  heading: str,
  networks: Mapping[str, int],
) -> Outcome:
  """All results of a run."""
  return Outcome(
    [
      divergences(results, sparsities),
      differences(results, sparsities),
      accuracies(results, original, sparsities),
    ],
    conclusions(results, sparsities),
    {"divergence.png": picture(results, sparsities, heading)},
    {"zoo": networks},
  )
