"""How well predicted values agree with true ones: rank, variance, error.

Letters: B networks, S seeds of one method.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from scalegmn_jax.base import InputError

Measure = Callable[[np.ndarray, np.ndarray], float]
"""(predicted [B], true [B]) -> a number; NaN if a prediction is NaN."""


def tau(predicted: np.ndarray, true: np.ndarray) -> float:
  """Kendall's τ-b: concordant less discordant pairs, corrected for ties.

  0 where all predictions are equal, as they rank nothing: what τ is on average
  for predictions that do not depend on the network.
  """
  if np.isnan(predicted).any():
    return float("nan")
  if np.ptp(predicted) == 0 or np.ptp(true) == 0:
    return 0.0
  return float(stats.kendalltau(predicted, true, variant="b").statistic)


def mse(predicted: np.ndarray, true: np.ndarray) -> float:
  """The mean squared error."""
  return float(np.square(predicted - true).mean())


def r2(predicted: np.ndarray, true: np.ndarray) -> float:
  """1 - MSE / variance of the true values; below 0 if their mean does better.

  NaN where the true values do not vary.
  """
  variance = float(np.var(true))
  return 1 - mse(predicted, true) / variance if variance else float("nan")


class Interval(NamedTuple):
  """A number and its bootstrap interval over networks."""

  value: float
  low: float
  high: float


def interval(
  measure: Measure,
  predicted: np.ndarray,
  true: np.ndarray,
  *,
  level: float = 0.95,
  resamples: int = 1000,
  seed: int = 0,
) -> Interval:
  """A measure on networks like these: percentile bootstrap over networks.

  Args:
    measure: of this module, or one's own.
    predicted: [B], or [S, B], of which the mean of the measure over S is
      taken. The interval is over networks; what seeds differ by is no part of
      it.
    true: [B].
    level: of confidence.
    resamples: of the networks, with replacement.
    seed: of the resamples.

  Raises:
    InputError: shapes do not fit, fewer than two networks, or true values that
      are not finite.
  """
  predicted, true = _checked(predicted, true)
  return _bootstrap(
    lambda rows: _mean(measure, predicted[:, rows], true[rows]),
    len(true), level, resamples, seed,
  )  # fmt: skip


def difference(
  measure: Measure,
  first: np.ndarray,
  second: np.ndarray,
  true: np.ndarray,
  *,
  level: float = 0.95,
  resamples: int = 1000,
  seed: int = 0,
) -> Interval:
  """measure(first) - measure(second) on the same networks, resampled together.

  What makes a network hard is hard for both: the interval is narrower than the
  two of `interval` suggest. The arguments are those of `interval`.
  """
  first, true = _checked(first, true)
  second, _ = _checked(second, true)
  return _bootstrap(
    lambda rows: (
      _mean(measure, first[:, rows], true[rows])
      - _mean(measure, second[:, rows], true[rows])
    ),
    len(true), level, resamples, seed,
  )  # fmt: skip


def _mean(measure: Measure, predicted: np.ndarray, true: np.ndarray) -> float:
  return float(np.mean([measure(p, true) for p in predicted]))


def _bootstrap(
  statistic: Callable[[np.ndarray], float],
  count: int,
  level: float,
  resamples: int,
  seed: int,
) -> Interval:
  value = statistic(np.arange(count))
  if np.isnan(value):
    return Interval(value, value, value)
  # The percentile interval is defined for constant predictions, too.
  found = stats.bootstrap(
    (np.arange(count),),
    statistic,
    n_resamples=resamples,
    vectorized=False,
    confidence_level=level,
    method="percentile",
    rng=np.random.default_rng(seed),
  ).confidence_interval
  return Interval(value, float(found.low), float(found.high))


def _checked(
  predicted: np.ndarray, true: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(predicted [S, B], true [B]) in float64."""
  true = np.asarray(true, np.float64)
  predicted = np.atleast_2d(np.asarray(predicted, np.float64))
  if true.ndim != 1 or predicted.shape[1:] != true.shape or len(true) < 2:
    raise InputError(
      f"predictions {list(predicted.shape)} of values {list(true.shape)}: "
      "expected [B] or [S, B] and [B], with at least two networks"
    )
  if not np.isfinite(true).all():
    raise InputError("the values to predict have NaN or infinity among them")
  return predicted, true
