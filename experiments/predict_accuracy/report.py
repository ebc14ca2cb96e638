"""Tables, sentences and the picture of generalization prediction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.eval import regression_metrics

LABELS = {
  "bidirectional": "ScaleGMN, bidirectional",
  "forward": "ScaleGMN, forward",
  "permutation": "permutation-only GMN",
  "mlp": "flat MLP",
  "statistics": "layer statistics",
  "balanced statistics": "layer statistics, balanced",
  "constant": "constant: training mean",
}
"""Methods by the names that `config.methods` has for them."""

COLUMNS = {
  "tau": ("τ", "{:.3f}"),
  "low": ("95 % from", "{:.3f}"),
  "high": ("to", "{:.3f}"),
  "std": ("std of seeds", "{:.3f}"),
  "r2": ("R²", "{:.3f}"),
  "mse": ("MSE", "{:.2e}"),
  "seconds": ("s per network", "{:.2g}"),
  "parameters": ("parameters", "{:,}"),
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


class Predicted(NamedTuple):
  """What a method predicts of the test networks.

  Attributes:
    values: [S, B], for each seed.
    seconds: per network, one at a time.
    parameters: of the metanetwork.
    steps: of its training.
    chosen: what was chosen on validation networks, for each seed.
  """

  values: np.ndarray
  seconds: float
  parameters: int | None = None
  steps: int | None = None
  chosen: Sequence[str] = ()


def outcome(
  config: ConfigDict,
  sources: Sequence[str],
  sides: Sequence[Any],
  found: Mapping[str, Predicted],
  errors: Mapping[str, float],
) -> Outcome:
  """What a run measured.

  Args:
    config: of the run.
    sources: names of the zoos.
    sides: train, validation and test `predict_accuracy.Side`s.
    found: {label: what that method predicts of the test networks}.
    errors: {label: symmetry error}.
  """
  train, val, test = sides
  rows = [_row(label, method, test.values) for label, method in found.items()]
  tables = [
    Table(
      f"{len(test.values)} test networks; {len(train.values)} training "
      f"networks, {len(val.values)} validation networks; accuracies "
      f"{test.values.min():.2f} to {test.values.max():.2f}, seeds "
      f"{', '.join(map(str, config.train.seeds))}",
      COLUMNS,
      rows,
      SHORT,
    )
  ]
  kinds = config.target.activation
  groups = _groups(kinds, test.zoo.activation) | _groups(sources, test.source)
  if groups:
    tables.append(_by_group(found, test.values, groups))
  return Outcome(
    tables,
    _lines(config, found, test.values, errors),
    {"scatter.png": _scatter(found, test, kinds)},
    {
      "networks": {
        name: len(side.values)
        for name, side in zip(("train", "val", "test"), sides, strict=True)
      },
      "zoos": list(sources),
      "symmetry_error": dict(errors),
      "chosen": {label: list(m.chosen) for label, m in found.items()},
    },
  )


def _row(label: str, found: Predicted, true: np.ndarray) -> dict[str, Any]:
  tau = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, found.values, true
  )
  seeds = [
    regression_metrics.kendall_tau(values, true) for values in found.values
  ]
  return {
    "method": label,
    "tau": tau.value,
    "low": tau.low,
    "high": tau.high,
    "std": float(np.std(seeds)) if len(seeds) > 1 else None,
    "r2": float(
      np.mean([regression_metrics.r2(v, true) for v in found.values])
    ),
    "mse": float(
      np.mean([regression_metrics.mse(v, true) for v in found.values])
    ),
    "seconds": found.seconds,
    "parameters": found.parameters,
    "steps": found.steps,
  }


def _groups(names: Sequence[str], index: np.ndarray) -> dict[str, np.ndarray]:
  """{name: which networks}, of several names that occur."""
  if len(names) < 2:
    return {}
  return {name: np.asarray(index) == i for i, name in enumerate(names)}


def _by_group(
  found: Mapping[str, Predicted],
  true: np.ndarray,
  groups: Mapping[str, np.ndarray],
) -> Table:
  """τ within parts of the test networks."""
  rows = []
  for label, method in found.items():
    row: dict[str, Any] = {"method": label}
    for name, members in groups.items():
      if members.sum() < 2:
        continue
      tau = regression_metrics.confidence_interval(
        regression_metrics.kendall_tau, method.values[:, members], true[members]
      )
      row[name] = f"{tau.value:.3f} [{tau.low:.3f}, {tau.high:.3f}]"
    rows.append(row)
  return Table(
    "τ with its 95 % interval, within parts of the test networks",
    {
      name: (f"{name} ({members.sum()})", "{}")
      for name, members in groups.items()
    },
    rows,
    tuple(groups)[:2],
  )


def _lines(
  config: ConfigDict,
  found: Mapping[str, Predicted],
  true: np.ndarray,
  errors: Mapping[str, float],
) -> list[str]:
  first, *others = found
  lines = []
  for other in others:
    d = regression_metrics.paired_difference(
      regression_metrics.kendall_tau,
      found[first].values,
      found[other].values,
      true,
    )
    lines.append(
      f"{first} against {other}: τ {d.value:+.3f} [{d.low:+.3f}, "
      f"{d.high:+.3f}] on the same networks"
    )
  lines += [
    f"Symmetry error of {label}: {error:.1e} of the spread over networks"
    for label, error in errors.items()
  ]
  lines += [
    f"{label}: chosen on validation networks: {'; '.join(method.chosen)}"
    for label, method in found.items()
    if method.chosen
  ]
  key = (config.data.name, tuple(config.target.activation))
  if key in PAPER:
    lines.append(
      "Published for ScaleGMN on the public zoo of 30,000 networks: τ "
      f"{PAPER[key]:.3f}"
    )
  return lines


def _scatter(
  found: Mapping[str, Predicted], test: Any, kinds: Sequence[str]
) -> Figure:
  """Predicted against true accuracy, of the first seed."""
  shown = {k: m for k, m in found.items() if np.ptp(m.values[0]) > 0}
  columns = min(len(shown), 3)
  rows = -(-len(shown) // columns)
  figure = Figure(figsize=(3.3 * columns, 3.4 * rows))
  axes = figure.subplots(
    rows, columns, sharex=True, sharey=True, squeeze=False
  ).ravel()
  low = float(test.values.min())
  high = float(test.values.max())
  for number, (label, method) in enumerate(shown.items()):
    axis = axes[number]
    axis.plot([low, high], [low, high], color="gray", linewidth=0.8)
    for i, kind in enumerate(kinds):
      members = np.asarray(test.zoo.activation) == i
      axis.scatter(
        test.values[members],
        method.values[0, members],
        s=12,
        alpha=0.6,
        label=kind,
      )
    tau = regression_metrics.kendall_tau(method.values[0], test.values)
    axis.set_title(f"{label}\nτ = {tau:.3f}", fontsize=9)
    if number % columns == 0:
      axis.set_ylabel("predicted")
    if number + columns >= len(shown):  # the last of its column
      axis.set_xlabel("test accuracy")
      axis.tick_params(labelbottom=True)
  for axis in axes[len(shown) :]:
    axis.set_visible(False)
  axes[0].legend(fontsize=8)
  return figure
