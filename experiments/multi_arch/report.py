"""Tables, sentences and the picture of the experiment on many architectures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.base import TargetNetwork
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.graph.batch.dataset import BatchLoader

LABELS = {
  "scalegmn": "ScaleGMN, mixed batches",
  "permutation": "permutation-only GMN",
  "statistics": "pooled layer statistics",
  "architecture": "constant: mean of the architecture",
  "constant": "constant: mean of all",
}
"""Methods by the names that `config.methods` has for them."""

COLUMNS = {
  "tau": ("τ", "{:.3f}"),
  "low": ("95 % from", "{:.3f}"),
  "high": ("to", "{:.3f}"),
  "std": ("std of seeds", "{:.3f}"),
  "r2": ("R²", "{:.3f}"),
  "mse": ("MSE", "{:.2e}"),
  "within": ("τ within", "{:.3f}"),
  "unseen": ("τ unseen", "{:.3f}"),
  "unseen_low": ("95 % from", "{:.3f}"),
  "unseen_high": ("to", "{:.3f}"),
  "unseen_r2": ("R² unseen", "{:.3f}"),
  "unseen_within": ("τ unseen, within", "{:.3f}"),
  "parameters": ("parameters", "{:,}"),
  "steps": ("steps", "{:,}"),
}

SHORT = ("tau", "r2", "within", "unseen", "unseen_within")

PADDING = 1000
"""Batches of which the share of padding is reported."""


class Predicted(NamedTuple):
  """What a method predicts.

  Attributes:
    values: {"test", "unseen": [S, n], for each seed}.
    parameters: of the metanetwork.
    steps: of its training.
  """

  values: Mapping[str, np.ndarray]
  parameters: int | None = None
  steps: int | None = None


def name_of(target: TargetNetwork) -> str:
  """A short name of an architecture."""
  description = target.description
  if description["name"] != "cnn":
    sizes = description.get("sizes", [])
    return "-".join(map(str, [description["name"], *sizes]))

  def joined(key):
    return "-".join(str(n) for n in description[key])

  pool = "" if description["pool"] == "average" else f" {description['pool']}"
  return (
    f"{joined('channels')} k{joined('kernel_size')} s{joined('stride')}{pool}"
  )


def outcome(
  data: Any,
  found: Mapping[str, Predicted],
  load: BatchLoader,
  seeds: Sequence[int],
) -> Outcome:
  """What a run measured.

  Args:
    data: `networks.MultiArchData`.
    found: {method: what it predicts}.
    load: the batches of the first seed.
    seeds: of φ.
  """
  true = {name: data.values[rows] for name, rows in data.parts.items()}
  of = {name: data.population.of[rows] for name, rows in data.parts.items()}
  rows = [_row(name, p, true, of) for name, p in found.items()]
  trained = len(np.unique(of["train"]))
  padding = load.padding(PADDING)
  shapes = ", ".join(
    f"{b.vertices:,} vertices and {b.edges:,} edges" for b in load.buckets
  )
  return Outcome(
    [
      Table(
        f"{len(true['test'])} networks held out of {trained} architectures; "
        f"{len(true['unseen'])} networks of {len(data.names) - trained} "
        f"architectures not trained on (unseen); {int(data.trained.sum())} "
        f"training networks, {len(true['train'])} checkpoints of them; seeds "
        f"{', '.join(map(str, seeds))}; within: mean over architectures",
        COLUMNS,
        rows,
        SHORT,
      ),
      _by_architecture(data, found, true, of),
    ],
    [
      *_differences(found, true),
      f"A batch is padded to one of {len(load.buckets)} shapes ({shapes}); "
      f"{padding:.0%} of the edges of {PADDING:,} batches are padding",
    ],
    {"scatter.png": _scatter(data, found, true, of)},
    {
      "networks": {name: len(values) for name, values in true.items()},
      "architectures": data.names,
      "padding": padding,
      "buckets": [b._asdict() for b in load.buckets],
    },
  )


def _within(values: np.ndarray, true: np.ndarray, of: np.ndarray) -> float:
  """The mean over architectures and seeds of τ within an architecture."""
  return float(
    np.mean(
      [
        regression_metrics.kendall_tau(seed[of == number], true[of == number])
        for seed in values
        for number in np.unique(of)
      ]
    )
  )


def _row(name: str, found: Predicted, true, of) -> dict[str, Any]:
  row: dict[str, Any] = {
    "method": LABELS[name],
    "parameters": found.parameters,
    "steps": found.steps,
  }
  values = found.values["test"]
  for part, prefix in (("test", ""), ("unseen", "unseen_")):
    if len(true[part]) < 2:
      continue
    predicted = found.values[part]
    tau = regression_metrics.confidence_interval(
      regression_metrics.kendall_tau, predicted, true[part]
    )
    row |= {
      prefix.rstrip("_") or "tau": tau.value,
      f"{prefix}low": tau.low,
      f"{prefix}high": tau.high,
      f"{prefix}within": _within(predicted, true[part], of[part]),
      f"{prefix}r2": _mean(regression_metrics.r2, predicted, true[part]),
      f"{prefix}mse": _mean(regression_metrics.mse, predicted, true[part]),
    }
  if len(values) > 1:
    row["std"] = float(
      np.std([regression_metrics.kendall_tau(v, true["test"]) for v in values])
    )
  return row


def _mean(
  measure: regression_metrics.Metric, values: np.ndarray, true: np.ndarray
) -> float:
  return float(np.mean([measure(v, true) for v in values]))


def _by_architecture(data, found: Mapping[str, Predicted], true, of) -> Table:
  """τ of every method within every architecture."""
  rows = []
  for number, name in enumerate(data.names):
    part = "test" if number in of["test"] else "unseen"
    own = of[part] == number
    row: dict[str, Any] = {
      "method": name if part == "test" else f"{name} (unseen)",
      "networks": int(own.sum()),
      "weights": sum(
        a[0].size for a in jax.tree.leaves(data.zoos[number].weights)
      ),
      "mean": float(true[part][own].mean()),
      "spread": float(true[part][own].std()),
    }
    for method, predicted in found.items():
      if own.sum() > 1 and np.ptp(predicted.values[part][:, own], -1).any():
        row[method] = _mean(
          regression_metrics.kendall_tau,
          predicted.values[part][:, own],
          true[part][own],
        )
    rows.append(row)
  return Table(
    "τ within each architecture",
    {
      "networks": ("networks", "{}"),
      "weights": ("weights", "{:,}"),
      "mean": ("accuracy", "{:.2f}"),
      "spread": ("std", "{:.2f}"),
      **{
        name: (f"τ {LABELS[name]}", "{:.3f}")
        for name in found
        if any(name in row for row in rows)
      },
    },
    rows,
    ("networks", "mean", "spread", next(iter(found))),
    "channels, kernels, strides",
  )


def _differences(found: Mapping[str, Predicted], true) -> list[str]:
  first, *others = found
  lines = []
  for other in others:
    for part, where in (
      ("test", "on networks held out"),
      ("unseen", "on architectures not trained on"),
    ):
      if len(true[part]) < 2:
        continue
      d = regression_metrics.paired_difference(
        regression_metrics.kendall_tau,
        found[first].values[part],
        found[other].values[part],
        true[part],
      )
      lines.append(
        f"{LABELS[first]} against {LABELS[other]}: τ {d.value:+.3f} "
        f"[{d.low:+.3f}, {d.high:+.3f}] {where}"
      )
  return lines


def _scatter(data, found: Mapping[str, Predicted], true, of) -> Figure:
  """Predicted against true accuracy by architecture, of the first seed."""
  shown = [
    name
    for name, p in found.items()
    if any(len(np.unique(v[0])) > len(data.names) for v in p.values.values())
  ]
  parts = [part for part in ("test", "unseen") if len(true[part]) > 1]
  figure = Figure(figsize=(3.6 * len(parts) + 2.4, 3.4 * len(shown)))
  axes = figure.subplots(
    len(shown), len(parts), sharex=True, sharey=True, squeeze=False
  )
  every = np.concatenate([true[part] for part in parts])
  ends = [float(every.min()), float(every.max())]
  titles = {
    "test": "networks held out",
    "unseen": "architectures not trained on",
  }
  for line, name in zip(axes, shown, strict=True):
    for axis, part in zip(line, parts, strict=True):
      values = found[name].values[part][0]
      axis.plot(ends, ends, color="gray", linewidth=0.8)
      for i, number in enumerate(np.unique(of[part])):
        own = of[part] == number
        axis.scatter(
          true[part][own], values[own], s=12, alpha=0.7, color=f"C{i % 10}",
          marker="o^"[i // 10 % 2], label=data.names[number],
        )  # fmt: skip
      tau = regression_metrics.kendall_tau(values, true[part])
      title = f"{LABELS[name]}\n{titles[part]}, τ = {tau:.3f}"
      axis.set_title(title, fontsize=8)
      axis.set(xlabel="test accuracy", ylabel="predicted")
      axis.label_outer()
  handles: dict[str, Any] = {}
  for axis in axes[0]:
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  axes[0, -1].legend(
    handles.values(), handles.keys(), fontsize=6, loc="upper left",
    bbox_to_anchor=(1.02, 1), borderaxespad=0,
  )  # fmt: skip
  return figure
