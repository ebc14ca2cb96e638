"""The epochs of a baseline after which it matches a given objective."""

from collections.abc import Sequence


def epochs_to_match(
  points: Sequence[tuple[int, float]], start: float, objective: float
) -> float:
  """Epochs after which a training curve reaches an objective.

  The curve is linear between its points.

  Args:
    points: (epochs, objective), ascending in epochs.
    start: the objective after 0 epochs.
    objective: the objective to be reached.

  Returns:
    The epochs, a real number; infinity if the curve never reaches the
    objective.
  """
  if objective >= start:
    return 0.0
  before = (0, start)
  for epoch, value in points:
    if value <= objective:
      share = (before[1] - objective) / (before[1] - value)
      return before[0] + share * (epoch - before[0])
    before = (epoch, value)
  return float("inf")
