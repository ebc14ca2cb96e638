"""A grid that grows towards its best point."""

import math

import pytest

from scalegmn_jax.inner import tune_grid


def bowl(center, calls):
  """Least at `center` in the logarithm of each setting, for case "a"; for
  case "b" at the first point."""

  def evaluate(points):
    calls.append(list(points))
    return [
      {
        "a": sum(math.log(x / c) ** 2 for x, c in zip(p, center, strict=True)),
        "b": 0.0,
      }
      for p in points
    ]

  return evaluate


def test_every_axis_grows_on_the_side_of_its_best_value():
  calls = []
  found = tune_grid.tune_grid(
    bowl((100.0, 0.25), calls), [(1.0, 10.0), (1.0, 2.0)], extensions=3
  )
  # Case "b" stays at the lower edges; the upper ones go first.
  assert sorted({p[0] for p in found.objective}) == [0.1, 1, 10, 100, 1000]
  assert found.best["a"] == (100.0, 0.25)
  assert found.best["b"] == (1.0, 1.0)
  assert len(calls) == 4 and not set(calls[0]) & set(calls[1])
  assert len(found.objective) == sum(len(points) for points in calls)


def test_a_grid_with_its_best_inside_or_of_one_value_stays():
  calls = []
  found = tune_grid.tune_grid(
    bowl((3.0, 7.0), calls), [(1.0, 3.0, 9.0), (7.0,)]
  )
  assert found.best["a"] == (3.0, 7.0)
  # "b" is at the lower edge of the first axis.
  assert {p[0] for p in found.objective} > {1.0, 3.0, 9.0}
  assert {p[1] for p in found.objective} == {7.0}
  assert len(tune_grid.tune_grid(bowl((), []), []).objective) == 1


def test_what_is_not_a_number_is_never_the_best():
  def evaluate(points):
    return [{"a": math.nan if x < 3 else x} for (x,) in points]

  found = tune_grid.tune_grid(evaluate, [(1.0, 2.0, 4.0, 8.0)], extensions=0)
  assert found.best["a"] == (4.0,)
  assert found.objective[(1.0,)]["a"] == math.inf


@pytest.mark.parametrize("extensions", (0, 1))
def test_the_number_of_extensions(extensions):
  calls = []
  tune_grid.tune_grid(bowl((1e9,), calls), [(1.0, 2.0)], extensions=extensions)
  assert len(calls) == 1 + extensions
