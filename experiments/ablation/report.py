"""Tables, sentences and the picture of what the symmetry is worth."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.runner.experiment import Outcome, Table
from scalegmn_jax.eval import regression_metrics

DECADES = 1.0
"""Multipliers of re-gauged networks are drawn from 10**±DECADES."""

LABELS = {
  "target": "{group} equivariant",
  "balanced": "permutation only, of balanced networks",
  "permutation": "permutation only",
  "mlp": "no symmetry (flat MLP)",
}


class Point(NamedTuple):
  """One point of a learning curve.

  Attributes:
    architecture: one of `config.architectures`.
    model: one of `ablation_tasks.MODELS`.
    size: number of training networks.
  """

  architecture: str
  model: str
  size: int


class Found(NamedTuple):
  """What was measured there.

  Attributes:
    numbers: [S, B], of each seed and test network.
    moved: [S, B], the same when the networks are re-gauged.
    steps: of training.
    parameters: of the model.
    rates: learning rates, chosen on validation networks for each seed.
  """

  numbers: np.ndarray
  moved: np.ndarray
  steps: int
  parameters: int
  rates: Sequence[float]


def label(point: Point, cases: Mapping[str, Any]) -> str:
  """ "relu cnn, 64 networks: scale equivariant"."""
  model = _model(point.architecture, point.model, cases)
  return f"{point.architecture}, {point.size} networks: {model}"


def _model(architecture: str, model: str, cases: Mapping[str, Any]) -> str:
  spaces = cases[architecture].target.spec.spaces.values()
  (group,) = next(space.groups for space in spaces if space.groups)
  return LABELS[model].format(group=group)


def outcome(
  config: ConfigDict,
  cases: Mapping[str, Any],
  found: Mapping[Point, Found],
) -> Outcome:
  """What a run measured.

  Args:
    config: of the run.
    cases: {architecture: `ablation.Case`}.
    found: what was measured at each point.
  """
  sizes = sorted(config.sizes)
  models = list(dict.fromkeys((p.architecture, p.model) for p in found))
  rows = {point: _row(point, f, cases) for point, f in found.items()}
  measure = next(iter(cases.values())).learned.symbol
  curves = Table(
    f"By the number of training networks: {measure} on "
    f"{config.eval.test_networks} test networks, and on the same re-gauged "
    f"with q in 10^±{DECADES:g}; seeds {', '.join(map(str, config.train.seeds))}",
    {
      **{str(size): (str(size), "{:.3f}") for size in sizes},
      "moved": (f"{sizes[-1]}, re-gauged", "{:.3f}"),
      "steps": ("steps", "{:,}"),
      "parameters": ("parameters", "{:,}"),
    },
    [
      {
        "method": f"{name}: {_model(name, model, cases)}",
        **{
          str(size): rows[Point(name, model, size)]["value"] for size in sizes
        },
        **{
          key: rows[Point(name, model, sizes[-1])][key]
          for key in ("moved", "steps", "parameters")
        },
      }
      for name, model in models
    ],
    (*map(str, sizes), "moved"),
    "model",
  )
  points = Table(
    f"Each {measure} with its 95 % interval over test networks",
    {
      "value": (measure, "{:.3f}"),
      "low": ("95 % from", "{:.3f}"),
      "high": ("to", "{:.3f}"),
      "std": ("std of seeds", "{:.3f}"),
      "moved": ("re-gauged", "{:.3f}"),
      "rates": ("rates", "{}"),
    },
    list(rows.values()),
    ("value", "low", "high", "moved"),
    "model",
  )
  return Outcome(
    [curves, points],
    _lines(sizes, models, cases, found, rows),
    {"curves.png": _curves(cases, models, sizes, rows, measure)},
    {
      "points": [
        {**point._asdict(), **rows[point], "method": None} for point in found
      ]
    },
  )


def _row(
  point: Point, found: Found, cases: Mapping[str, Any]
) -> dict[str, Any]:
  case = cases[point.architecture]
  true, measure = case.test.values, case.learned.measure
  value = regression_metrics.confidence_interval(measure, found.numbers, true)
  seeds = [measure(numbers, true) for numbers in found.numbers]
  return {
    "method": label(point, cases),
    "value": value.value,
    "low": value.low,
    "high": value.high,
    "std": float(np.std(seeds)) if len(seeds) > 1 else None,
    "moved": float(np.mean([measure(m, true) for m in found.moved])),
    "steps": found.steps,
    "parameters": found.parameters,
    "rates": ", ".join(f"{rate:g}" for rate in found.rates),
  }


def _lines(
  sizes: Sequence[int],
  models: Sequence[tuple[str, str]],
  cases: Mapping[str, Any],
  found: Mapping[Point, Found],
  rows: Mapping[Point, Mapping[str, Any]],
) -> list[str]:
  """Differences on the same networks, and what data the rivals need."""
  lines = []
  for name, model in models:
    if model == "target":
      continue
    learned, true = cases[name].learned, cases[name].test.values
    parts = []
    for size in dict.fromkeys((sizes[0], sizes[-1])):
      d = regression_metrics.paired_difference(
        learned.measure,
        *(found[Point(name, m, size)].numbers for m in ("target", model)),
        true,
      )
      parts.append(
        f"{learned.symbol} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] with "
        f"{size} networks"
      )
    needed = _needed(
      sizes,
      [rows[Point(name, model, size)]["value"] for size in sizes],
      rows[Point(name, "target", sizes[0])]["value"],
      learned.better,
    )
    reach = f"more than {sizes[-1]}" if needed is None else f"{needed:.0f}"
    first, other = (_model(name, m, cases) for m in ("target", model))
    lines.append(
      f"{name}, {first} against {other}: {', '.join(parts)}; what the first "
      f"reaches with {sizes[0]} networks takes the other {reach}"
    )
  return lines


def _needed(
  sizes: Sequence[int], curve: Sequence[float], wanted: float, better: int
) -> float | None:
  """Where a learning curve first is at least as good as wanted.

  Between two points it is taken as straight in the logarithm of the size. None
  if it never is.
  """
  gain = better * (np.asarray(curve) - wanted)
  (reached,) = np.nonzero(gain >= 0)
  if not len(reached):
    return None
  i = reached[0]
  if i == 0:
    return sizes[0]
  share = -gain[i - 1] / (gain[i] - gain[i - 1])
  return sizes[i - 1] * (sizes[i] / sizes[i - 1]) ** share


def _curves(
  cases: Mapping[str, Any],
  models: Sequence[tuple[str, str]],
  sizes: Sequence[int],
  rows: Mapping[Point, Mapping[str, Any]],
  measure: str,
) -> Figure:
  """The measure against training networks, a panel per architecture."""
  figure = Figure(figsize=(4.5 * len(cases), 4))
  axes = figure.subplots(1, len(cases), squeeze=False, sharey=True)[0]
  for axis, name in zip(axes, cases, strict=True):
    for i, model in enumerate(LABELS):
      if (name, model) not in models:
        continue
      points = [rows[Point(name, model, size)] for size in sizes]
      value, low, high, moved = (
        np.array([point[key] for point in points])
        for key in ("value", "low", "high", "moved")
      )
      axis.errorbar(
        sizes,
        value,
        [value - low, high - value],
        fmt="o-",
        color=f"C{i}",
        markersize=4,
        capsize=3,
        label=_model(name, model, cases),
      )
      axis.plot(sizes, moved, "x:", color=f"C{i}", alpha=0.7)
    axis.plot([], [], "x:", color="gray", label="re-gauged")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="training networks", title=name)
    axis.legend(
      fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18)
    )
  axes[0].set_ylabel(f"{measure} on test networks")
  return figure
