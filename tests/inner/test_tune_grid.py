"""Grid search on a grid that grows towards its best point."""

import math

import pytest

from scalegmn_jax.inner import tune_grid


def bowl(center, calls):
  """Case "a" has its minimum at `center`, case "b" is constant."""

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


def test_axes_grow_on_the_side_of_the_best_value():
  calls = []
  result = tune_grid.tune_grid(
    bowl((100.0, 0.25), calls), [(1.0, 10.0), (1.0, 2.0)], extensions=3
  )
  # Case "b" stays at the lower edges; upper edges grow first.
  assert sorted({p[0] for p in result.objective}) == [0.1, 1, 10, 100, 1000]
  assert result.best["a"] == (100.0, 0.25)
  assert result.best["b"] == (1.0, 1.0)
  assert len(calls) == 4 and not set(calls[0]) & set(calls[1])
  assert len(result.objective) == sum(len(points) for points in calls)


def test_an_interior_best_and_a_single_value_do_not_grow():
  calls = []
  result = tune_grid.tune_grid(
    bowl((3.0, 7.0), calls), [(1.0, 3.0, 9.0), (7.0,)]
  )
  assert result.best["a"] == (3.0, 7.0)
  # "b" is at the lower edge of the first axis.
  assert {p[0] for p in result.objective} > {1.0, 3.0, 9.0}
  assert {p[1] for p in result.objective} == {7.0}
  assert len(tune_grid.tune_grid(bowl((), []), []).objective) == 1


def test_nan_is_never_the_best():
  def evaluate(points):
    return [{"a": math.nan if x < 3 else x} for (x,) in points]

  result = tune_grid.tune_grid(evaluate, [(1.0, 2.0, 4.0, 8.0)], extensions=0)
  assert result.best["a"] == (4.0,)
  assert result.objective[(1.0,)]["a"] == math.inf


@pytest.mark.parametrize("extensions", (0, 1))
def test_the_number_of_extensions(extensions):
  calls = []
  tune_grid.tune_grid(bowl((1e9,), calls), [(1.0, 2.0)], extensions=extensions)
  assert len(calls) == 1 + extensions
