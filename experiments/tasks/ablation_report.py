"""Tables, sentences and the picture of what the symmetry is worth."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import rivals
from experiments.experiment import Outcome, Table
from scalegmn_jax.eval import ranking

DECADES = 1.0
"""Multipliers of re-gauged networks are drawn from 10**±DECADES."""

LABELS = {
  "target": "{group} equivariant",
  "permutation": "permutation only",
  "mlp": "no symmetry (flat MLP)",
}


class Point(NamedTuple):
  """One point of a learning curve.

  Attributes:
    architecture: one of `config.architectures`.
    symmetry: one of `rivals.SYMMETRIES`.
    size: number of training networks.
  """

  architecture: str
  symmetry: str
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
  """"relu cnn, 64 networks: scale equivariant"."""
  return (
    f"{point.architecture}, {point.size} networks: {_symmetry(point, cases)}"
  )


def _symmetry(point: Point, cases: Mapping[str, Any]) -> str:
  spaces = cases[point.architecture].target.spec.spaces.values()
  (group,) = next(space.groups for space in spaces if space.groups)
  return LABELS[point.symmetry].format(group=group)


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
  rows = {point: _row(point, f, cases) for point, f in found.items()}
  measure = next(iter(cases.values())).learned.symbol
  curves = Table(
    f"By the number of training networks: {measure} on "
    f"{config.eval.test_networks} test networks, and on the same re-gauged "
    f"with q in 10^±{DECADES:g}; seeds {', '.join(map(str, config.seeds))}",
    {
      **{str(size): (str(size), "{:.3f}") for size in sizes},
      "moved": (f"{sizes[-1]}, re-gauged", "{:.3f}"),
      "steps": ("steps", "{:,}"),
      "parameters": ("parameters", "{:,}"),
    },
    [
      {
        "method": f"{name}: {_symmetry(Point(name, symmetry, 0), cases)}",
        **{
          str(size): rows[Point(name, symmetry, size)]["value"]
          for size in sizes
        },
        **{
          key: rows[Point(name, symmetry, sizes[-1])][key]
          for key in ("moved", "steps", "parameters")
        },
      }
      for name in cases
      for symmetry in rivals.SYMMETRIES
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
    _lines(config, cases, found, rows),
    {"curves.png": _curves(cases, sizes, rows, measure)},
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
  value = ranking.interval(measure, found.numbers, true)
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
  config: ConfigDict,
  cases: Mapping[str, Any],
  found: Mapping[Point, Found],
  rows: Mapping[Point, Mapping[str, Any]],
) -> list[str]:
  """Differences on the same networks, and what data the rivals need."""
  sizes = sorted(config.sizes)
  lines = []
  for name, case in cases.items():
    learned, true = case.learned, case.test.values

    def own(size, name=name):
      return Point(name, "target", size)

    for symmetry in rivals.SYMMETRIES[1:]:
      parts = []
      for size in (sizes[0], sizes[-1])[: len(sizes)]:
        d = ranking.difference(
          learned.measure,
          found[own(size)].numbers,
          found[Point(name, symmetry, size)].numbers,
          true,
        )
        parts.append(
          f"{learned.symbol} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] with "
          f"{size} networks"
        )
      names = [
        _symmetry(point, cases)
        for point in (own(sizes[0]), Point(name, symmetry, sizes[0]))
      ]
      curve = [rows[Point(name, symmetry, size)]["value"] for size in sizes]
      wanted = rows[own(sizes[0])]["value"]
      needed = _needed(sizes, curve, wanted, learned.better)
      reach = f"{needed:.0f}" if needed else f"more than {sizes[-1]}"
      lines.append(
        f"{name}, {names[0]} against {names[1]}: {', '.join(parts)}; what the "
        f"first reaches with {sizes[0]} networks takes the other {reach}"
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
  sizes: Sequence[int],
  rows: Mapping[Point, Mapping[str, Any]],
  measure: str,
) -> Figure:
  """The measure against training networks, a panel per architecture."""
  figure = Figure(figsize=(4 * len(cases), 4))
  axes = figure.subplots(1, len(cases), squeeze=False, sharey=True)[0]
  for axis, name in zip(axes, cases, strict=True):
    for i, symmetry in enumerate(rivals.SYMMETRIES):
      points = [rows[Point(name, symmetry, size)] for size in sizes]
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
        label=_symmetry(Point(name, symmetry, 0), cases),
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
