"""Regression metrics and their bootstrap intervals."""

import itertools

import numpy as np
import pytest
from scipy import stats

from scalegmn_jax.base import InputError
from scalegmn_jax.eval import regression_metrics

TRUE = np.array([0.1, 0.4, 0.4, 0.7, 0.9, 0.2])
METRICS = (
  regression_metrics.kendall_tau,
  regression_metrics.mse,
  regression_metrics.r2,
  regression_metrics.mean,
)
PREDICTED = np.array([0.2, 0.3, 0.5, 0.5, 0.8, 0.1])


def signs(x):
  return np.array([np.sign(b - a) for a, b in itertools.combinations(x, 2)])


def test_tau_against_its_definition_and_scipy():
  """τ-b, with ties on both sides."""
  x, y = signs(PREDICTED), signs(TRUE)
  expected = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
  assert 0 < expected < 1
  np.testing.assert_allclose(
    regression_metrics.kendall_tau(PREDICTED, TRUE), expected, 1e-12
  )
  np.testing.assert_allclose(
    regression_metrics.kendall_tau(-PREDICTED, TRUE), -expected, 1e-12
  )
  np.testing.assert_allclose(
    stats.kendalltau(PREDICTED, TRUE).statistic, expected, 1e-12
  )


@pytest.mark.parametrize("metric", METRICS)
def test_counts_repeat_networks(metric, monkeypatch):
  monkeypatch.setattr(
    regression_metrics, "_BLOCK", 4
  )  # more than one block of pairs
  rng = np.random.default_rng(0)
  rows = rng.integers(0, 6, (5, 6))
  counts = np.stack([np.bincount(r, minlength=6) for r in rows])
  result = metric(PREDICTED, TRUE, counts)
  expected = [metric(PREDICTED[r], TRUE[r]) for r in rows]
  np.testing.assert_allclose(result, expected, 1e-10)
  assert len(set(result.round(6))) > 1


def test_tau_depends_only_on_the_order():
  transformed = np.exp(3 * PREDICTED)
  assert regression_metrics.kendall_tau(
    transformed, TRUE
  ) == regression_metrics.kendall_tau(PREDICTED, TRUE)
  assert regression_metrics.mse(transformed, TRUE) > regression_metrics.mse(
    PREDICTED, TRUE
  )


def test_r2_of_the_truth_and_of_its_mean():
  assert regression_metrics.r2(TRUE, TRUE) == 1
  np.testing.assert_allclose(
    regression_metrics.r2(np.full(6, TRUE.mean()), TRUE), 0, atol=1e-12
  )
  assert regression_metrics.r2(np.full(6, TRUE.mean() + 0.3), TRUE) < -0.5
  assert np.isnan(regression_metrics.r2(TRUE, np.ones(6)))


def test_tau_of_a_constant_is_zero():
  result = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, np.full(6, 0.4), TRUE
  )
  assert result == (0, 0, 0)
  assert regression_metrics.kendall_tau(PREDICTED, np.ones(6)) == 0


def test_nan_predictions_give_nan():
  spoilt = np.where(np.arange(6) == 2, np.nan, PREDICTED)
  for metric in METRICS:
    assert np.isnan(
      regression_metrics.confidence_interval(metric, spoilt, TRUE)
    ).all()


def noisy(seed, count, noise):
  rng = np.random.default_rng(seed)
  true = rng.uniform(size=count)
  return true + noise * rng.normal(size=count), true


def test_intervals_have_their_coverage():
  """τ of normal pairs with correlation ρ is 2/π asin ρ."""
  rho, covered = 0.7, 0
  expected = 2 / np.pi * np.arcsin(rho)
  for seed in range(60):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, 80))
    y = rho * x + np.sqrt(1 - rho**2) * z
    result = regression_metrics.confidence_interval(
      regression_metrics.kendall_tau, y, x, level=0.8, resamples=200
    )
    assert result.low <= result.value <= result.high
    covered += result.low <= expected <= result.high
  assert 38 <= covered <= 56  # 48 expected, ±3 standard deviations


def test_intervals_narrow_with_networks_and_repeat_with_the_seed():
  few, many = (
    regression_metrics.confidence_interval(
      regression_metrics.kendall_tau, *noisy(0, count, 0.2), resamples=200
    )
    for count in (30, 300)
  )
  assert few.high - few.low > 2 * (many.high - many.low)
  again = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, *noisy(0, 30, 0.2), resamples=200
  )
  other = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, *noisy(0, 30, 0.2), resamples=200, seed=1
  )
  assert again == few != other


def test_several_seeds_give_the_mean_metric():
  first, true = noisy(0, 50, 0.1)
  second = true + np.random.default_rng(1).normal(size=50)
  result = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau,
    np.stack([first, second]),
    true,
    resamples=50,
  )
  mean = (
    regression_metrics.kendall_tau(first, true)
    + regression_metrics.kendall_tau(second, true)
  ) / 2
  np.testing.assert_allclose(result.value, mean, 1e-12)


def test_paired_differences():
  """Narrower than a single interval; zero between equal predictions."""
  good, true = noisy(0, 60, 0.15)
  worse = good + 0.05 * np.random.default_rng(1).normal(size=60)
  result = regression_metrics.paired_difference(
    regression_metrics.kendall_tau, good, worse, true, resamples=200
  )
  single = regression_metrics.confidence_interval(
    regression_metrics.kendall_tau, good, true, resamples=200
  )
  apart = regression_metrics.kendall_tau(
    good, true
  ) - regression_metrics.kendall_tau(worse, true)
  np.testing.assert_allclose(result.value, apart, 1e-12)
  assert result.high - result.low < single.high - single.low
  same = regression_metrics.paired_difference(
    regression_metrics.kendall_tau, good, good, true, resamples=20
  )
  assert same == (0, 0, 0)


@pytest.mark.parametrize(
  ("predicted", "true", "message"),
  (
    (PREDICTED[:4], TRUE, r"shape \[1, 4\] and true \[6\]"),
    (PREDICTED[:1], TRUE[:1], "with B >= 2"),
    (PREDICTED, np.where(TRUE > 0.8, np.nan, TRUE), "NaN or infinite"),
  ),
)
def test_bad_values(predicted, true, message):
  with pytest.raises(InputError, match=message):
    regression_metrics.confidence_interval(
      regression_metrics.kendall_tau, predicted, true
    )
  with pytest.raises(InputError):
    regression_metrics.paired_difference(
      regression_metrics.kendall_tau, predicted, predicted, true
    )
