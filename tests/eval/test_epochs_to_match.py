"""Epochs of a training curve until it reaches an objective."""

import math

import pytest

from scalegmn_jax.eval.epochs_to_match import epochs_to_match

CURVE = [(1, 0.8), (5, 0.6), (25, 0.5), (50, 0.55)]


@pytest.mark.parametrize(
  ("objective", "epochs"),
  [(1.0, 0), (1.2, 0), (0.9, 0.5), (0.7, 3), (0.6, 5), (0.5, 25)],
)
def test_first_crossing_linear_between_points(objective, epochs):
  assert epochs_to_match(CURVE, 1.0, objective) == pytest.approx(epochs)


def test_infinite_beyond_the_curve():
  assert epochs_to_match(CURVE, 1.0, 0.49) == math.inf
