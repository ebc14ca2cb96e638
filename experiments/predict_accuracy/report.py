"""Tables, text and picture of the experiment `predict_accuracy`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.typing
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.predict_accuracy.data import AccuracyData, LabelledNetworks
from experiments.predict_accuracy.methods import AccuracyPredictions
from experiments.readers import PROBING, READERS
from experiments.runner import pictures as look
from experiments.runner import select
from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.eval import regression_metrics

LABELS = {
  **{name: reader.label for name, reader in READERS.items()},
  "statistics": "layer statistics",
  "balanced statistics": "layer statistics, balanced",
  "constant": "constant: training mean",
}
"""{value of `config.methods`: text of the method}."""

COLUMNS = {
  "tau": ("τ", "{:.3f}"),
  "low": ("95 % low", "{:.3f}"),
  "high": ("95 % high", "{:.3f}"),
  "std": ("std over seeds", "{:.3f}"),
  "r2": ("R²", "{:.3f}"),
  "mse": ("MSE", "{:.2e}"),
  "seconds": ("s per network", "{:.2g}"),
  "num_parameters": ("parameters", "{:,}"),
  "steps": ("steps", "{:,}"),
}

SHORT = ("tau", "low", "high", "r2", "mse")

PAPER = {
  ("cifar10_gs", ("relu",)): 0.928,
  ("cifar10_gs", ("tanh",)): 0.942,
  ("cifar10_gs", ("relu", "tanh")): 0.941,
}
"""Published τ of ScaleGMN by (images, activations), on the public zoo of 30,000
networks: Kalogeropoulos et al. (2024, arXiv:2406.10685)."""


def label(row: Mapping[str, Any]) -> str:
  """The text of the method of a row."""
  return LABELS[row["method"]]


def outcome(
  config: ConfigDict,
  data: AccuracyData,
  predictions: Mapping[str, AccuracyPredictions],
  errors: Mapping[str, float],
) -> Outcome:
  """Tables, text and picture of a run.

  Args:
    config: of the run.
    data: its networks.
    predictions: {method: predictions of the test networks}.
    errors: {method: symmetry error}.
  """
  test = data.test
  rows = [_row(method, p, test) for method, p in predictions.items()]
  tables = [
    Table(
      f"{test.networks.size} test networks; {data.train.networks.size} "
      f"training networks, {data.val.networks.size} validation networks; "
      f"accuracies {test.accuracies.min():.2f} to {test.accuracies.max():.2f}, "
      f"seeds {', '.join(map(str, select.seeds(config)))}",
      COLUMNS,
      rows,
      SHORT,
    )
  ]
  activations = data.activations
  heading = look.heading(
    {"test": test.networks.size, "training": data.train.networks.size},
    select.seeds(config)[:1],
  )
  groups = _groups(activations, test.networks.activation)
  groups |= _groups(data.zoo_names, test.zoo_index)
  if groups:
    tables.append(_by_group(predictions, test, groups))
  return Outcome(
    tables,
    _lines(config, data, predictions, errors),
    {"scatter.png": _scatter(predictions, test, activations, heading)},
    {
      "networks": {
        name: getattr(data, name).networks.size
        for name in ("train", "val", "test")
      },
      "zoos": list(data.zoo_names),
      "symmetry_error": dict(errors),
      "selected": {m: list(p.selected) for m, p in predictions.items()},
    },
  )


def _row(
  method: str, predictions: AccuracyPredictions, test: LabelledNetworks
) -> dict[str, Any]:
  values, true = predictions.accuracies, test.accuracies
  tau = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, values, true
  )
  tau_of_seeds = [regression_metrics.kendall_tau(v, true) for v in values]
  return {
    "method": method,
    "tau": tau.value,
    "low": tau.low,
    "high": tau.high,
    "std": float(np.std(tau_of_seeds)) if len(values) > 1 else None,
    "r2": float(np.mean([regression_metrics.r2(v, true) for v in values])),
    "mse": float(np.mean([regression_metrics.mse(v, true) for v in values])),
    "seconds": predictions.seconds,
    "num_parameters": predictions.num_parameters,
    "steps": predictions.steps,
  }


def _groups(
  names: Sequence[str], index: jax.typing.ArrayLike
) -> dict[str, np.ndarray]:
  """{name: mask of its networks}; empty where there is only one name."""
  if len(names) < 2:
    return {}
  return {name: np.asarray(index) == i for i, name in enumerate(names)}


def _by_group(
  predictions: Mapping[str, AccuracyPredictions],
  test: LabelledNetworks,
  groups: Mapping[str, np.ndarray],
) -> Table:
  """τ within groups of the test networks."""
  rows = []
  for method, p in predictions.items():
    row: dict[str, Any] = {"method": method}
    for name, members in groups.items():
      if members.sum() < 2:
        continue
      tau = regression_metrics.confidence_interval(
        regression_metrics.kendall_tau,
        p.accuracies[:, members],
        test.accuracies[members],
      )
      row[name] = f"{tau.value:.3f} [{tau.low:.3f}, {tau.high:.3f}]"
    rows.append(row)
  return Table(
    "τ and its 95 % interval within groups of the test networks",
    {
      name: (f"{name} ({members.sum()})", "{}")
      for name, members in groups.items()
    },
    rows,
    tuple(groups)[:2],
  )


def _pairs(methods: Iterable[str]) -> list[tuple[str, str]]:
  """The pairs of methods that are compared: the first one with all others, and
  so are those with probes."""
  first, *others = methods
  leading = [first, *(m for m in PROBING if m in others)]
  return [
    (one, other)
    for number, one in enumerate(leading)
    for other in (first, *others)
    if other not in leading[: number + 1]
  ]


def _lines(
  config: ConfigDict,
  data: AccuracyData,
  predictions: Mapping[str, AccuracyPredictions],
  errors: Mapping[str, float],
) -> list[str]:
  lines = []
  for one, other in _pairs(predictions):
    d = regression_metrics.paired_difference(
      regression_metrics.kendall_tau,
      predictions[one].accuracies,
      predictions[other].accuracies,
      data.test.accuracies,
    )
    lines.append(
      f"{LABELS[one]} vs {LABELS[other]}: τ {d.value:+.3f} [{d.low:+.3f}, "
      f"{d.high:+.3f}] on the same networks"
    )
  lines += [
    f"Symmetry error of {LABELS[method]}: {error:.1e} of the standard "
    "deviation over networks"
    for method, error in errors.items()
  ]
  for method, p in predictions.items():
    if p.selected:
      unit = "learning rate " if p.steps is not None else ""
      choices = [s if isinstance(s, str) else f"{s:g}" for s in p.selected]
      lines.append(
        f"{LABELS[method]}: {unit}{'; '.join(choices)} (selected on validation "
        "networks)"
      )
  key = (config.data.name, tuple(data.activations))
  if config.target.name == "cnn" and key in PAPER:
    lines.append(
      "Published for ScaleGMN on the public zoo of 30,000 networks: τ "
      f"{PAPER[key]:.3f}"
    )
  return lines


def _scatter(
  predictions: Mapping[str, AccuracyPredictions],
  test: LabelledNetworks,
  activations: Sequence[str],
  heading: str,
) -> Figure:
  """Predicted against true accuracy, for the first seed."""
  panels = {
    method: p.accuracies[0]
    for method, p in predictions.items()
    if np.ptp(p.accuracies[0]) > 0
  }
  columns = min(len(panels), 3)
  rows = -(-len(panels) // columns)
  figure = Figure(
    figsize=(look.PAGE * columns / 3, (look.PAGE / 3 + 0.1) * rows + 0.2)
  )
  figure.suptitle(heading)
  axes = figure.subplots(
    rows, columns, sharex=True, sharey=True, squeeze=False
  ).ravel()
  true = test.accuracies
  ends = [float(true.min()), float(true.max())]
  for number, (method, predicted) in enumerate(panels.items()):
    axis = axes[number]
    axis.plot(ends, ends, color="gray", linewidth=0.8)
    for i, activation in enumerate(activations):
      members = np.asarray(test.networks.activation) == i
      axis.scatter(
        true[members], predicted[members], s=6, alpha=0.6, linewidths=0,
        color=look.PALETTE[i], label=activation,
      )  # fmt: skip
    tau = regression_metrics.kendall_tau(predicted, true)
    axis.set_title(f"{LABELS[method]}\nτ = {tau:.3f}")
    if number % columns == 0:
      axis.set_ylabel("predicted")
    if number + columns >= len(panels):  # the last of its column
      axis.set_xlabel("test accuracy")
      axis.tick_params(labelbottom=True)
  for axis in axes[len(panels) :]:
    axis.set_visible(False)
  if len(activations) > 1:
    axes[0].legend()
  return figure
