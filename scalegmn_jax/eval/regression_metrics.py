"""How well predicted values agree with true ones: rank, variance, error.

Letters: B networks, S seeds of one method, R resamples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import InputError

Measure = Callable[..., Any]
"""(predicted [B], true [B], counts [R, B]) -> [R]: a number for each way of
counting network b counts[r, b] times. Without counts each is counted once, and
the result is a float. NaN if a prediction is NaN."""

_BLOCK = 1024
"""Networks that are paired with all others at a time."""


def kendall_tau(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """Kendall's τ-b: concordant less discordant pairs, corrected for ties.

  0 where all predictions are equal, as they rank nothing: what τ is on average
  for predictions that do not depend on the network.

  A `Measure`. Sums over pairs are quadratic forms in the counts, so that the
  pairs of a thousand resamples are compared only once.
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
  """The mean squared error, a `Measure`."""
  return mean(np.square(predicted - true), true, counts)


def r2(
  predicted: np.ndarray, true: np.ndarray, counts: np.ndarray | None = None
) -> Any:
  """1 - MSE / variance of the true values; below 0 if their mean does better.

  NaN where the true values do not vary. A `Measure`.
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
  """The mean of numbers that are a measure already, a `Measure`."""
  if counts is None:
    return float(mean(predicted, true, _once(true))[0])
  return (counts * predicted[None]).sum(1) / counts.sum(1)


def _once(true: np.ndarray) -> np.ndarray:
  return np.ones((1, len(true)))


class Interval(NamedTuple):
  """A number and its bootstrap interval over networks."""

  value: float
  low: float
  high: float


def confidence_interval(
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
    resamples: R, of the networks, with replacement.
    seed: of the resamples.

  Raises:
    InputError: shapes do not fit, fewer than two networks, or true values that
      are not finite.
  """
  predicted, true = _checked(predicted, true)
  return _bootstrap(
    lambda counts: _mean(measure, predicted, true, counts),
    len(true), level, resamples, seed,
  )  # fmt: skip


def paired_difference(
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
    lambda counts: (
      _mean(measure, first, true, counts)
      - _mean(measure, second, true, counts)
    ),
    len(true), level, resamples, seed,
  )  # fmt: skip


def _mean(
  measure: Measure,
  predicted: np.ndarray,
  true: np.ndarray,
  counts: np.ndarray,
) -> np.ndarray:
  return np.mean([measure(p, true, counts) for p in predicted], axis=0)


def _bootstrap(
  statistic: Callable[[np.ndarray], np.ndarray],
  count: int,
  level: float,
  resamples: int,
  seed: int,
) -> Interval:
  rng = np.random.default_rng(seed)
  drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
  # The first of all is no resample but the networks themselves.
  value, *others = statistic(np.concatenate([np.ones((1, count)), drawn]))
  tail = (1 - level) / 2
  low, high = np.quantile(others, (tail, 1 - tail))
  return Interval(float(value), float(low), float(high))


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
