"""Metrics of predicted values and their bootstrap intervals over networks.

Shapes: B networks, S seeds of one method, R resamples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import InputError

Metric = Callable[..., Any]
"""(predicted [B], true [B], counts [R, B]) -> [R]: the metric of each resample
r, in which network b occurs counts[r, b] times. Without counts, each network
occurs once and the result is a float. NaN if a prediction is NaN."""

_BLOCK = 1024
"""Number of networks that are paired with all others at a time."""


def kendall_tau(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """Kendall's τ-b, a `Metric`: rank correlation, corrected for ties.

  τ is 0 if all predictions are equal, its mean for predictions that do not
  depend on the network. Sums over pairs are quadratic forms in the counts: all
  resamples share one comparison of pairs.
  """
  if counts is None:
    return float(kendall_tau(predicted, true, _once(true))[0])
  if np.isnan(predicted).any():
    return np.full(len(counts), np.nan)
  counts = np.asarray(counts, np.float64)
  both, left, right = np.zeros((3, len(counts)))
  for start in range(0, len(true), _BLOCK):
    part = slice(start, start + _BLOCK)
    x, y = (np.sign(v[part, None] - v[None]) for v in (predicted, true))
    for total, pairs in ((both, x * y), (left, x * x), (right, y * y)):
      total += ((counts[:, part] @ pairs) * counts).sum(1)
  return both / np.sqrt(np.where(left * right > 0, left * right, np.inf))


def mse(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """Mean squared error, a `Metric`."""
  return mean(np.square(predicted - true), true, counts)


def r2(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """Coefficient of determination, a `Metric`: 1 - MSE / variance.

  It is negative if the mean of the true values has a lower MSE, and NaN if the
  true values do not vary.
  """
  if counts is None:
    return float(r2(predicted, true, _once(true))[0])
  average = mean(true, true, counts)
  deviation = np.square(true[None] - average[:, None])
  variance = (counts * deviation).sum(1) / counts.sum(1)
  varies = variance > 1e-12 * np.square(true).max()
  return 1 - mse(predicted, true, counts) / np.where(varies, variance, np.nan)


def mean(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """Mean of the values in `predicted`, a `Metric`; `true` gives the shape."""
  if counts is None:
    return float(mean(predicted, true, _once(true))[0])
  return (counts * predicted[None]).sum(1) / counts.sum(1)


def _once(true: np.ndarray) -> np.ndarray:
  """Counts [1, B] in which each network occurs once."""
  return np.ones((1, len(true)))


class Interval(NamedTuple):
  """A metric and its bootstrap confidence interval.

  Attributes:
    value: the metric on the networks.
    low: lower end of the interval.
    high: upper end of the interval.
  """

  value: float
  low: float
  high: float


def confidence_interval(
  metric: Metric,
  predicted: np.ndarray,
  true: np.ndarray,
  *,
  level: float = 0.95,
  resamples: int = 1000,
  seed: int = 0,
) -> Interval:
  """Percentile bootstrap interval of a metric over networks.

  Args:
    metric: a function of this module or a user's own.
    predicted: [B], or [S, B] for the mean of the metric over S seeds. The
      interval does not include the variation between seeds.
    true: [B].
    level: confidence level.
    resamples: R; networks are drawn with replacement.
    seed: random seed of the resamples.

  Raises:
    InputError: shapes do not match, there are fewer than two networks, or true
      values are not finite.
  """
  predicted, true = _checked(predicted, true)
  return _bootstrap(
    lambda counts: _mean(metric, predicted, true, counts),
    len(true), level, resamples, seed,
  )  # fmt: skip


def paired_difference(
  metric: Metric,
  first: np.ndarray,
  second: np.ndarray,
  true: np.ndarray,
  *,
  level: float = 0.95,
  resamples: int = 1000,
  seed: int = 0,
) -> Interval:
  """Bootstrap interval of metric(first) - metric(second).

  Both predictions are evaluated on the same resamples. The errors of two
  methods are correlated, because a network is hard for both; the interval is
  therefore narrower than two separate intervals suggest.

  Args:
    metric: a function of this module or a user's own.
    first: predictions [B] or [S, B].
    second: predictions [B] or [S', B].
    true: [B].
    level: confidence level.
    resamples: R; networks are drawn with replacement.
    seed: random seed of the resamples.

  Raises:
    InputError: see `confidence_interval`.
  """
  first, true = _checked(first, true)
  second, _ = _checked(second, true)
  return _bootstrap(
    lambda counts: (
      _mean(metric, first, true, counts)
      - _mean(metric, second, true, counts)
    ),
    len(true), level, resamples, seed,
  )  # fmt: skip


def _mean(
  metric: Metric,
  predicted: np.ndarray,
  true: np.ndarray,
  counts: np.ndarray,
) -> np.ndarray:
  """Mean of the metric over seeds, [R]."""
  return np.mean([metric(p, true, counts) for p in predicted], axis=0)


def _bootstrap(
  statistic: Callable[[np.ndarray], np.ndarray],
  count: int,
  level: float,
  resamples: int,
  seed: int,
) -> Interval:
  """Percentile bootstrap of counts [R, B] -> [R]."""
  rng = np.random.default_rng(seed)
  drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
  # The first row counts each network once: the metric itself.
  value, *others = statistic(np.concatenate([np.ones((1, count)), drawn]))
  tail = (1 - level) / 2
  low, high = np.quantile(others, (tail, 1 - tail))
  return Interval(float(value), float(low), float(high))


def _checked(
  predicted: np.ndarray, true: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Validates and converts: (predicted [S, B], true [B]) in float64."""
  true = np.asarray(true, np.float64)
  predicted = np.atleast_2d(np.asarray(predicted, np.float64))
  if true.ndim != 1 or predicted.shape[1:] != true.shape or len(true) < 2:
    raise InputError(
      f"predicted has shape {list(predicted.shape)} and true "
      f"{list(true.shape)}, expected [B] or [S, B] and [B] with B >= 2"
    )
  if not np.isfinite(true).all():
    raise InputError("true has NaN or infinite values, expected finite numbers")
  return predicted, true
