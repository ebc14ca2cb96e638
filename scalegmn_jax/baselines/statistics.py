"""Regression and classification on layer statistics of networks.

This is the baseline of Unterthiner et al., "Predicting Neural Network Accuracy
from Weights", arXiv:2002.11448: a regressor on mean, variance and quantiles of
each weight tensor.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import InputError, Networks

TINY = 1e-12
"""The least probability of a class of a classifier."""

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

BOOSTING = {
  "learning_rate": (0.03, 0.1),
  "max_leaf_nodes": (4, 15),
  "min_samples_leaf": (5, 20),
  "max_iter": (100, 300),
}
"""Grid of hyper-parameters of the boosted trees."""

RIDGE = {"alpha": (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)}
"""Grid of hyper-parameters of ridge regression on standardized features."""


def layer_statistics(networks: Networks, activations: int = 1) -> np.ndarray:
  """Mean, variance and `QUANTILES` of every weight tensor, [B, F].

  The statistics are invariant under permutations, but not under scaling. If
  there are several activations, one-hot features of the activation are added.

  Args:
    networks: B networks.
    activations: number of activations of the target.
  """
  columns = []
  for leaf in jax.tree.leaves(jax.device_get(networks.weights)):
    values = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
    columns += [values.mean(1), values.var(1)]
    columns += list(np.quantile(values, QUANTILES, axis=1))
  if activations > 1:
    columns += list(np.eye(activations)[:, np.asarray(networks.activation)])
  return np.stack(columns, axis=1)


def pooled_layer_statistics(
  networks: Networks, activations: int = 1
) -> np.ndarray:
  """Statistics that are defined for networks of every architecture, [B, F].

  They are `layer_statistics` of all biases, the first kernel, all kernels and
  the last kernel, the number of kernels and the logarithm of the number of
  weights.

  Args:
    networks: B networks of one architecture.
    activations: number of activations.
  """
  leaves = [
    np.asarray(leaf)
    for leaf in jax.tree.leaves(jax.device_get(networks.weights))
  ]
  kernels = [a.reshape(len(a), -1) for a in leaves if a.ndim > 2]
  biases = [a for a in leaves if a.ndim == 2]
  pooled = {
    "biases": np.concatenate(biases, axis=1),
    "first": kernels[0],
    "kernels": np.concatenate(kernels, axis=1),
    "last": kernels[-1],
  }
  size = sum(a.shape[1] for a in (*kernels, *biases))
  counts = np.array([[len(kernels), np.log(size)]])
  return np.concatenate(
    [
      layer_statistics(Networks(pooled, networks.activation), activations),
      np.repeat(counts, len(kernels[0]), axis=0),
    ],
    axis=1,
  )


LOGISTIC = {"C": (1e-3, 1e-2, 1e-1, 1.0, 1e1)}
"""Grid of hyper-parameters of logistic regression on standardized features."""

CLASSES_BOOSTING = {"max_leaf_nodes": (4, 15), "max_iter": (100,)}
"""Grid of the boosted trees of a classifier; there is a tree per class."""


class Regressor(NamedTuple):
  """A regressor chosen on validation networks.

  Attributes:
    predict: features [B, F] -> values [B].
    name: the model and its hyper-parameters.
    error: mean squared error on the validation networks.
  """

  predict: Callable[[np.ndarray], np.ndarray]
  name: str
  error: float


def fit_regressor(
  train: tuple[np.ndarray, np.ndarray],
  val: tuple[np.ndarray, np.ndarray],
  *,
  seed: int = 0,
) -> Regressor:
  """Fits boosted trees and ridge regression; returns the best on validation.

  Args:
    train: (features [B, F], values [B]) of training networks.
    val: (features [B', F], values [B']) of validation networks.
    seed: random seed of the trees.

  Raises:
    InputError: features are not finite.
  """
  # Imported here, because the import takes seconds.
  from sklearn.ensemble import HistGradientBoostingRegressor
  from sklearn.linear_model import Ridge
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  _check(train, val)

  def boosting(**hyper: Any):
    hyper |= {"early_stopping": False, "random_state": seed}
    return HistGradientBoostingRegressor(**hyper)

  def ridge(**hyper: Any):
    return make_pipeline(StandardScaler(), Ridge(**hyper))

  def regressor(name: str, model: Any) -> Regressor:
    error = float(np.square(model.predict(val[0]) - val[1]).mean())
    return Regressor(model.predict, name, error)

  kinds = ("trees", boosting, BOOSTING), ("ridge", ridge, RIDGE)
  candidates = [regressor(*fitted) for fitted in _fitted(kinds, train)]
  return min(candidates, key=lambda c: c.error)


class Classifier(NamedTuple):
  """A classifier chosen on validation networks.

  Attributes:
    predict: features [B, F] -> logits [B, K] of the classes 0 to K - 1.
    name: the model and its hyper-parameters.
    accuracy: on the validation networks.
  """

  predict: Callable[[np.ndarray], np.ndarray]
  name: str
  accuracy: float


def fit_classifier(
  train: tuple[np.ndarray, np.ndarray],
  val: tuple[np.ndarray, np.ndarray],
  *,
  seed: int = 0,
) -> Classifier:
  """Fits boosted trees and logistic regression; the best on validation.

  Args:
    train: (features [B, F], classes [B]) of training networks, which have all
      classes.
    val: (features [B', F], classes [B']) of validation networks.
    seed: random seed of the trees.

  Raises:
    InputError: features are not finite.
  """
  # Imported here, because the import takes seconds.
  from sklearn.ensemble import HistGradientBoostingClassifier
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  _check(train, val)

  def boosting(**hyper: Any):
    hyper |= {"early_stopping": False, "random_state": seed}
    return HistGradientBoostingClassifier(**hyper)

  def logistic(**hyper: Any):
    return make_pipeline(
      StandardScaler(), LogisticRegression(**hyper, max_iter=1000)
    )

  def classifier(name: str, model: Any) -> Classifier:
    def logits(features: np.ndarray) -> np.ndarray:
      return np.log(np.maximum(model.predict_proba(features), TINY))

    accuracy = float((model.predict(val[0]) == val[1]).mean())
    return Classifier(logits, name, accuracy)

  kinds = (
    ("trees", boosting, CLASSES_BOOSTING),
    ("logistic", logistic, LOGISTIC),
  )
  candidates = [classifier(*fitted) for fitted in _fitted(kinds, train)]
  return max(candidates, key=lambda c: c.accuracy)


def _one_thread() -> Any:
  """A context in which numerical libraries have one thread.

  The threads of boosted trees wait busily for each other: on hundreds of
  networks one of them is two to nine times as fast, and where other programs
  are busy a hundred times.
  """
  # A part of scikit-learn, imported with it.
  from threadpoolctl import threadpool_limits

  return threadpool_limits(1)


def _check(*parts: tuple[np.ndarray, np.ndarray]) -> None:
  """Raises InputError for features that are not finite."""
  if not all(np.isfinite(x).all() for x, _ in parts):
    raise InputError("layer statistics: weights too large for their variance")


_Kind = tuple[str, Callable[..., Any], Mapping[str, Sequence[float]]]
"""(name, hyper-parameters -> model of scikit-learn, their grid)."""


def _fitted(
  kinds: Sequence[_Kind], train: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[str, Any]]:
  """(name with hyper-parameters, fitted model) for every point of each grid."""
  for kind, make, grid in kinds:
    for values in itertools.product(*grid.values()):
      hyper = dict(zip(grid, values, strict=True))
      text = ", ".join(f"{k}={v:g}" for k, v in hyper.items())
      with _one_thread():
        model = make(**hyper).fit(*train)
      yield f"{kind}: {text}", model
