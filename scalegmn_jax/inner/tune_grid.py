"""Settings of a method, chosen on validation data from a grid that grows."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Point = tuple[float, ...]
"""One value of each setting."""

Case = Any
"""What a point is chosen for, by name: hashable."""


class GridResult(NamedTuple):
  """Attributes:
  best: {case: the point of least objective}.
  objective: {point: {case: objective}}, of every point that was tried.
  """

  best: dict[Case, Point]
  objective: dict[Point, dict[Case, float]]


def tune_grid(
  evaluate: Callable[[list[Point]], Sequence[Mapping[Case, float]]],
  axes: Sequence[Sequence[float]],
  *,
  extensions: int = 2,
) -> GridResult:
  """The best point of a grid for each of several cases.

  A grid whose best point is at an edge says nothing about what lies beyond:
  where that is so for any case, the axis grows by one value on that side, with
  the ratio of its last two. An axis of one value is a constant. An objective
  that is not a number counts as infinite.

  Args:
    evaluate: points -> the objective of each of them, {case: value}; called
      with all new points at once.
    axes: the positive values of each setting; none for a method without
      settings, whose one point is ().
    extensions: times that the grid may grow.
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
  """Adds a value beyond an edge that was chosen, the upper one first."""
  if len(values) < 2:
    return False
  if values[-1] in chosen:
    values.append(values[-1] * values[-1] / values[-2])
  elif values[0] in chosen:
    values.insert(0, values[0] * values[0] / values[1])
  else:
    return False
  return True
