"""Tables, text and picture of the experiment `ablation`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.ablation.data import AblationData
from experiments.ablation.objectives import AblationObjective
from experiments.runner import pictures as look
from experiments.runner import select
from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.eval import regression_metrics

DECADES = 1.0
"""Multipliers of re-gauged networks are drawn from 10**±DECADES."""

LABELS = {
  "target": "{group} equivariant",
  "balanced": "permutation only, on balanced networks",
  "permutation": "permutation only",
  "mlp": "no symmetry (flat MLP)",
}
"""{value of `config.models`: text of the method}; "group" is a key of rows."""


class CurvePoint(NamedTuple):
  """One point of a learning curve.

  Attributes:
    architecture: one of `config.architectures`.
    method: one of `methods.METHODS`.
    networks: number of training networks.
  """

  architecture: str
  method: str
  networks: int


class PointResult(NamedTuple):
  """Measurements at one point of a learning curve.

  Attributes:
    original: [S, B], a number for each seed and test network.
    regauged: [S, B], the same for the re-gauged test networks.
    steps: of training.
    num_parameters: of the metanetwork.
    learning_rates: of each seed, selected on validation networks.
  """

  original: np.ndarray
  regauged: np.ndarray
  steps: int
  num_parameters: int
  learning_rates: Sequence[float | None]


def label(row: Mapping[str, Any]) -> str:
  """The text of a row, such as "relu cnn, 64 networks: scale equivariant"."""
  size = f", {row['networks']} networks" if "networks" in row else ""
  return f"{row['architecture']}{size}: {_method_label(row)}"


def _method_label(row: Mapping[str, Any]) -> str:
  return LABELS[row["method"]].format(group=row["group"])


def point_keys(point: CurvePoint, data: AblationData) -> dict[str, Any]:
  """The keys of the row of a point; `data` is of its architecture."""
  spaces = data.target.spec.spaces.values()
  (group,) = next(space.groups for space in spaces if space.groups)
  return {**point._asdict(), "group": group}


def outcome(
  config: ConfigDict,
  data: Mapping[str, AblationData],
  objectives: Mapping[str, AblationObjective],
  results: Mapping[CurvePoint, PointResult],
) -> Outcome:
  """Tables, text and picture of a run.

  Args:
    config: of the run.
    data: {architecture: its networks}.
    objectives: {architecture: the objective, the same for all}.
    results: measurements at each point.
  """
  sizes = sorted(config.sizes)
  objective = next(iter(objectives.values()))
  symbol = objective.symbol
  rows = {
    point: _row(point, result, data[point.architecture], objective)
    for point, result in results.items()
  }
  heading = look.heading(
    {"test": config.eval.test_networks}, select.seeds(config)
  )
  curves = Table(
    f"By the number of training networks: {symbol} on "
    f"{config.eval.test_networks} test networks, and on the same networks "
    f"re-gauged with q in 10^±{DECADES:g}; seeds "
    f"{', '.join(map(str, select.seeds(config)))}",
    {
      **{str(size): (str(size), "{:.3f}") for size in sizes},
      "regauged": (f"{sizes[-1]}, re-gauged", "{:.3f}"),
      "steps": ("steps", "{:,}"),
      "num_parameters": ("parameters", "{:,}"),
    },
    [_curve(sizes, rows, *key) for key in _curve_keys(rows)],
    (*map(str, sizes), "regauged"),
    "metanetwork",
  )
  points = Table(
    f"Each {symbol} with its 95 % interval over test networks",
    {
      "value": (symbol, "{:.3f}"),
      "low": ("95 % low", "{:.3f}"),
      "high": ("95 % high", "{:.3f}"),
      "std": ("std over seeds", "{:.3f}"),
      "regauged": ("re-gauged", "{:.3f}"),
      "learning_rates": ("learning rates", "{}"),
    },
    list(rows.values()),
    ("value", "low", "high", "regauged"),
    "metanetwork",
  )
  return Outcome(
    [curves, points],
    _lines(sizes, data, objective, results, rows),
    {"curves.png": _picture(list(data), sizes, rows, symbol, heading)},
    {},
  )


Rows = Mapping[CurvePoint, Mapping[str, Any]]


def _curve_keys(rows: Rows) -> list[tuple[str, str]]:
  """(architecture, method) of each learning curve."""
  return list(dict.fromkeys((p.architecture, p.method) for p in rows))


def _curve(
  sizes: Sequence[int], rows: Rows, architecture: str, method: str
) -> dict[str, Any]:
  """The row of one learning curve."""
  points = [rows[CurvePoint(architecture, method, size)] for size in sizes]
  largest = points[-1]
  return {
    **{key: largest[key] for key in ("architecture", "method", "group")},
    **{str(n): row["value"] for n, row in zip(sizes, points, strict=True)},
    **{key: largest[key] for key in ("regauged", "steps", "num_parameters")},
  }


def _row(
  point: CurvePoint,
  result: PointResult,
  data: AblationData,
  objective: AblationObjective,
) -> dict[str, Any]:
  true, measure = data.test.accuracies, objective.measure
  value = regression_metrics.confidence_interval(measure, result.original, true)
  of_seeds = [measure(numbers, true) for numbers in result.original]
  return {
    **point_keys(point, data),
    "value": value.value,
    "low": value.low,
    "high": value.high,
    "std": float(np.std(of_seeds)) if len(of_seeds) > 1 else None,
    "regauged": float(np.mean([measure(n, true) for n in result.regauged])),
    "steps": result.steps,
    "num_parameters": result.num_parameters,
    "learning_rates": ", ".join(f"{r:g}" for r in result.learning_rates),
  }


def _lines(
  sizes: Sequence[int],
  data: Mapping[str, AblationData],
  objective: AblationObjective,
  results: Mapping[CurvePoint, PointResult],
  rows: Rows,
) -> list[str]:
  """Differences on the same networks, and the data that baselines need."""
  lines = []
  for name, method in _curve_keys(rows):
    if method == "target":
      continue
    true = data[name].test.accuracies
    differences = []
    for size in dict.fromkeys((sizes[0], sizes[-1])):
      d = regression_metrics.paired_difference(
        objective.measure,
        results[CurvePoint(name, "target", size)].original,
        results[CurvePoint(name, method, size)].original,
        true,
      )
      differences.append(
        f"{objective.symbol} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] with "
        f"{size} networks"
      )
    reference = rows[CurvePoint(name, "target", sizes[0])]
    points = [rows[CurvePoint(name, method, size)] for size in sizes]
    needed = networks_to_match(
      sizes,
      [row["value"] for row in points],
      reference["value"],
      objective.sign,
    )
    count = f"more than {sizes[-1]}" if needed is None else f"{needed:.0f}"
    first, other = map(_method_label, (reference, points[0]))
    lines.append(
      f"{name}, {first} vs {other}: {', '.join(differences)}; the second needs "
      f"{count} networks to match the first with {sizes[0]}"
    )
  return lines


def networks_to_match(
  sizes: Sequence[int], curve: Sequence[float], value: float, sign: int
) -> float | None:
  """The size at which a learning curve first is at least as good as `value`.

  Interpolated linearly in the logarithm of the size.

  Args:
    sizes: numbers of training networks, ascending.
    curve: the measure at each size.
    value: the measure to match.
    sign: 1 if a greater measure is better, -1 if a smaller one is.

  Returns:
    None if no size is enough.
  """
  gain = sign * (np.asarray(curve) - value)
  (reached,) = np.nonzero(gain >= 0)
  if not len(reached):
    return None
  i = reached[0]
  if i == 0:
    return sizes[0]
  share = -gain[i - 1] / (gain[i] - gain[i - 1])
  return sizes[i - 1] * (sizes[i] / sizes[i - 1]) ** share


def _picture(
  architectures: Sequence[str],
  sizes: Sequence[int],
  rows: Rows,
  symbol: str,
  heading: str,
) -> Figure:
  """The measure by number of training networks, a panel per architecture."""
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle(
    f"{heading}; whiskers: 95 % intervals over networks, x: re-gauged networks"
  )
  axes = figure.subplots(1, len(architectures), squeeze=False, sharey=True)[0]
  for axis, name in zip(axes, architectures, strict=True):
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="training networks", title=name)
  axes[0].set_ylabel(f"{symbol} on test networks")
  labels: list[look.Label] = []
  for axis, name in zip(axes, architectures, strict=True):
    labels = []
    for method in LABELS:
      if (name, method) not in _curve_keys(rows):
        continue
      points = [rows[CurvePoint(name, method, size)] for size in sizes]
      value, low, high, regauged = (
        np.array([row[key] for row in points])
        for key in ("value", "low", "high", "regauged")
      )
      # "balanced" is a line of its own here, no reference.
      color = look.GREEN if method == "balanced" else look.color(method)
      errors = [value - low, high - value]
      axis.errorbar(sizes, value, errors, fmt="o-", color=color, capsize=2)
      axis.plot(sizes, regauged, "x:", color=color, alpha=0.7)
      text = _method_label(points[0])
      labels.append(look.Label(sizes[-1], value[-1], text, color))
  look.label_ends(axes[-1], labels)
  return figure
