"""Grid search of settings on validation data; the grid grows at its edges."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Point = tuple[float, ...]
"""One value of each setting."""

Case = Any
"""One of several independent selections, such as a horizon; hashable."""


class GridResult(NamedTuple):
  """The result of a grid search.

  Attributes:
    best: {case: the point with the lowest objective}.
    objective: {point: {case: objective}} for all points evaluated.
  """

  best: dict[Case, Point]
  objective: dict[Point, dict[Case, float]]


def tune_grid(
  evaluate: Callable[[list[Point]], Sequence[Mapping[Case, float]]],
  axes: Sequence[Sequence[float]],
  *,
  extensions: int = 2,
) -> GridResult:
  """Finds the best grid point for each of several cases.

  If the best point of any case lies at an edge of the grid, better points may
  lie beyond. The axis then grows by one value on that side, with the ratio of
  its last two values. An axis of one value is constant. NaN objectives count as
  infinite.

  Args:
    evaluate: points -> {case: objective} for each point; called with all new
      points at once.
    axes: the positive values of each setting; empty for a method without
      settings, whose only point is ().
    extensions: maximum number of times that the grid grows.
  """
  grid = [sorted(values) for values in axes]
  objective: dict[Point, dict[Case, float]] = {}

  def best() -> dict[Case, Point]:
    cases = next(iter(objective.values()))
    return {
      c: min(objective, key=lambda p, c=c: objective[p][c]) for c in cases
    }

  for _ in range(extensions + 1):
    new = [p for p in itertools.product(*grid) if p not in objective]
    for point, values in zip(new, evaluate(new), strict=True):
      objective[point] = {
        c: v if v == v else float("inf") for c, v in values.items()
      }
    chosen = best().values()
    grew = [
      _grow(values, {point[i] for point in chosen})
      for i, values in enumerate(grid)
    ]
    if not any(grew):
      break
  return GridResult(best(), objective)


def _grow(values: list[float], chosen: set[float]) -> bool:
  """Adds a value beyond a chosen edge, the upper edge first; whether it did."""
  if len(values) < 2:
    return False
  if values[-1] in chosen:
    values.append(values[-1] * values[-1] / values[-2])
  elif values[0] in chosen:
    values.insert(0, values[0] * values[0] / values[1])
  else:
    return False
  return True
