"""Steps of trainings that have a budget."""

import pytest
from ml_collections import ConfigDict

from experiments.runner import select
from scalegmn_jax.base import Operator
from scalegmn_jax.baselines import symmetry_levels

COSTS = {"small": 1.0, "large": 4.0, "other": 2.0}


def make(name):
  return Operator(lambda key: (), lambda params, network: COSTS[name])


@pytest.mark.parametrize(
  ("budget", "expected"),
  [
    ("steps", {"large": 60, "small": 60}),
    ("operations", {"large": 60, "small": 240}),
    ("small", {"large": 15, "small": 60}),
    ("other", {"large": 30, "small": 120}),  # it need not be trained
  ],
)
def test_all_have_the_operations_of_one_or_its_steps(
  budget, expected, monkeypatch
):
  def equal_steps(steps, reference, baseline, objective, data, *, at_least):
    assert (objective, data, at_least) == ("objective", "data", 6)
    costs = [m.apply((), ()) for m in (reference, baseline)]
    return max(round(steps * costs[0] / costs[1]), at_least)

  monkeypatch.setattr(symmetry_levels, "equal_steps", equal_steps)
  train = {"steps": 60, "budget": budget, "warmup": 5}
  found = select.steps(
    ConfigDict({"train": train}),
    {name: make(name) for name in ("large", "small")},
    make,
    "objective",  # type: ignore[arg-type]
    "data",
  )
  assert found == expected
