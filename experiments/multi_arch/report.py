"""Tables, text and picture of the experiment `multi_arch`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.multi_arch.data import MultiArchData
from experiments.multi_arch.methods import EVALUATED, MultiArchPredictions
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.graph.batch.dataset import BatchLoader

LABELS = {
  "scalegmn": "ScaleGMN, mixed batches",
  "probes": "probes",
  "both": "ScaleGMN, mixed batches, and probes",
  "permutation": "permutation-only GMN",
  "statistics": "pooled layer statistics",
  "architecture": "constant: mean of the architecture",
  "constant": "constant: mean of all",
}
"""{value of `config.methods`: text of the method}."""

COLUMNS = {
  "tau": ("τ", "{:.3f}"),
  "low": ("95 % low", "{:.3f}"),
  "high": ("95 % high", "{:.3f}"),
  "std": ("std over seeds", "{:.3f}"),
  "r2": ("R²", "{:.3f}"),
  "mse": ("MSE", "{:.2e}"),
  "within": ("τ within", "{:.3f}"),
  "unseen_tau": ("τ unseen", "{:.3f}"),
  "unseen_low": ("95 % low", "{:.3f}"),
  "unseen_high": ("95 % high", "{:.3f}"),
  "unseen_r2": ("R² unseen", "{:.3f}"),
  "unseen_within": ("τ unseen, within", "{:.3f}"),
  "num_parameters": ("parameters", "{:,}"),
  "steps": ("steps", "{:,}"),
}

SHORT = ("tau", "r2", "within", "unseen_tau", "unseen_within")

PADDING = 1000
"""Number of batches over which the share of padding is measured."""


_CONSTANT = ("architecture", "constant")
"""Methods whose predictions depend on the architecture alone."""

_LINE = 0.165  # inches of a line of a legend
_LEGEND = 40  # architectures of a picture that has a legend

_TITLES = {
  "test": "held-out networks",
  "unseen": "unseen architectures",
}


def label(row: Mapping[str, Any]) -> str:
  """The text of the method, or of the architecture, of a row."""
  if "method" in row:
    return LABELS[row["method"]]
  return row["architecture"] + (" (unseen)" if row["unseen"] else "")


def outcome(
  data: MultiArchData,
  predictions: Mapping[str, MultiArchPredictions],
  loader: BatchLoader,
  seeds: Sequence[int],
) -> Outcome:
  """Tables, text and picture of a run.

  Args:
    data: all networks.
    predictions: {method: its predictions}.
    loader: batches of the first seed.
    seeds: of φ.
  """
  num_networks = {part: len(rows) for part, rows in data.parts.items()}
  num_trained = len(np.unique(data.architecture_index("train")))
  padding = loader.padding(PADDING)
  shapes = ", ".join(
    f"{b.vertices:,} vertices and {b.edges:,} edges" for b in loader.buckets
  )
  main = Table(
    f"{num_networks['test']} held-out networks of {num_trained} architectures; "
    f"{num_networks['unseen']} networks of {len(data.names) - num_trained} "
    f"architectures not trained on (unseen); {int(data.last_train.sum())} "
    f"training networks with {num_networks['train']} checkpoints; seeds "
    f"{', '.join(map(str, seeds))}; within: mean over architectures",
    COLUMNS,
    [_row(method, p, data) for method, p in predictions.items()],
    SHORT,
  )
  return Outcome(
    [main, _by_architecture(data, predictions)],
    [
      *_differences(data, predictions),
      f"A batch is padded to one of {len(loader.buckets)} shapes ({shapes}); "
      f"{padding:.0%} of the edges of {PADDING:,} batches are padding",
    ],
    {"scatter.png": _scatter(data, predictions, seeds[0])},
    {
      "networks": num_networks,
      "architectures": data.names,
      "padding": padding,
      "buckets": [b._asdict() for b in loader.buckets],
    },
  )


def _tau_within(
  values: np.ndarray, true: np.ndarray, architecture: np.ndarray
) -> float:
  """The mean over architectures and seeds of τ within an architecture."""
  return float(
    np.mean(
      [
        regression_metrics.kendall_tau(
          of_seed[architecture == number], true[architecture == number]
        )
        for of_seed in values
        for number in np.unique(architecture)
      ]
    )
  )


def _row(
  method: str, predictions: MultiArchPredictions, data: MultiArchData
) -> dict[str, Any]:
  row: dict[str, Any] = {
    "method": method,
    "num_parameters": predictions.num_parameters,
    "steps": predictions.steps,
  }
  for part, prefix in (("test", ""), ("unseen", "unseen_")):
    values, true = predictions.values[part], data.true(part)
    if len(true) < 2:
      continue
    tau = regression_metrics.confidence_interval(
      regression_metrics.kendall_tau, values, true
    )
    within = _tau_within(values, true, data.architecture_index(part))
    row |= {
      f"{prefix}tau": tau.value,
      f"{prefix}low": tau.low,
      f"{prefix}high": tau.high,
      f"{prefix}within": within,
      f"{prefix}r2": _mean(regression_metrics.r2, values, true),
      f"{prefix}mse": _mean(regression_metrics.mse, values, true),
    }
  values, true = predictions.values["test"], data.true("test")
  if len(values) > 1:
    row["std"] = float(
      np.std([regression_metrics.kendall_tau(v, true) for v in values])
    )
  return row


def _mean(
  measure: regression_metrics.Metric, values: np.ndarray, true: np.ndarray
) -> float:
  """The mean of a measure over seeds."""
  return float(np.mean([measure(v, true) for v in values]))


def _by_architecture(
  data: MultiArchData, predictions: Mapping[str, MultiArchPredictions]
) -> Table:
  """τ of every method within every architecture."""
  rows = []
  in_test = np.unique(data.architecture_index("test"))
  for number, name in enumerate(data.names):
    part = "test" if number in in_test else "unseen"
    members = data.architecture_index(part) == number
    true = data.true(part)[members]
    weights = jax.tree.leaves(data.networks[number].weights)
    row: dict[str, Any] = {
      "architecture": name,
      "unseen": part == "unseen",
      "networks": len(true),
      "weights": sum(leaf[0].size for leaf in weights),
      "mean": float(true.mean()),
      "std": float(true.std()),
    }
    for method, p in predictions.items():
      values = p.values[part][:, members]
      if len(true) > 1 and np.ptp(values, -1).any():
        tau = _mean(regression_metrics.kendall_tau, values, true)
        row[f"tau_{method}"] = tau
    rows.append(row)
  return Table(
    "τ within each architecture",
    {
      "networks": ("networks", "{}"),
      "weights": ("weights", "{:,}"),
      "mean": ("mean accuracy", "{:.2f}"),
      "std": ("std of accuracy", "{:.2f}"),
      **{
        f"tau_{method}": (f"τ {LABELS[method]}", "{:.3f}")
        for method in predictions
        if any(f"tau_{method}" in row for row in rows)
      },
    },
    rows,
    ("networks", "mean", "std", f"tau_{next(iter(predictions))}"),
    "channels, kernels, strides",
  )


def _differences(
  data: MultiArchData, predictions: Mapping[str, MultiArchPredictions]
) -> list[str]:
  """The first method compared with every other one."""
  first, *others = predictions
  lines = []
  for other in others:
    for part, title in _TITLES.items():
      if len(data.true(part)) < 2:
        continue
      d = regression_metrics.paired_difference(
        regression_metrics.kendall_tau,
        predictions[first].values[part],
        predictions[other].values[part],
        data.true(part),
      )
      lines.append(
        f"{LABELS[first]} vs {LABELS[other]}: τ {d.value:+.3f} "
        f"[{d.low:+.3f}, {d.high:+.3f}] on {title}"
      )
  return lines


def _scatter(
  data: MultiArchData,
  predictions: Mapping[str, MultiArchPredictions],
  seed: int,
) -> Figure:
  """Predicted against true accuracy by architecture, for the first seed."""
  # Predictions that depend on the architecture alone are left out.
  methods = [m for m in predictions if m not in _CONSTANT] or [*predictions]
  parts = [part for part in EVALUATED if len(data.true(part)) > 1]
  legend = len(data.names) if len(data.names) <= _LEGEND else 0
  height = max(2.1 * len(methods), _LINE * legend) + 0.4
  figure = Figure(figsize=(look.PAGE, height))
  counts = {"training": len(data.parts["train"])}
  figure.suptitle(look.heading(counts, [seed]))
  axes = figure.subplots(
    len(methods), len(parts), sharex=True, sharey=True, squeeze=False
  )
  all_true = np.concatenate([data.true(part) for part in parts])
  ends = [float(all_true.min()), float(all_true.max())]
  for row, method in zip(axes, methods, strict=True):
    for axis, part in zip(row, parts, strict=True):
      values, true = predictions[method].values[part][0], data.true(part)
      architecture = data.architecture_index(part)
      axis.plot(ends, ends, color="gray", linewidth=0.8)
      for number in np.unique(architecture):
        members = architecture == number
        axis.scatter(
          true[members], values[members], s=6, alpha=0.7, linewidths=0,
          color=look.PALETTE[number % len(look.PALETTE)],
          marker="o^sD"[number // len(look.PALETTE) % 4],
          label=data.names[number],
        )  # fmt: skip
      tau = regression_metrics.kendall_tau(values, true)
      count = f"{len(true)} {_TITLES[part]}"
      if part == "unseen":
        count = f"{len(true)} networks of {_TITLES[part]}"
      axis.set_title(f"{LABELS[method]}\n{count}, τ = {tau:.3f}")
      axis.set(xlabel="test accuracy", ylabel="predicted")
      axis.label_outer()
  handles: dict[str, Any] = {}
  for axis in axes[0]:
    for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
      handles.setdefault(name, handle)
  if legend:
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
  return figure
