"""Methods that predict the test accuracy of a network from its weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.typing
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.predict_accuracy.data import AccuracyData, LabelledNetworks
from experiments.readers import READERS, Reading
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.baselines import statistics
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.saved import save_functional
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training.objectives import REGRESSION


class AccuracyPredictions(NamedTuple):
  """Predicted accuracies of the test networks by one method.

  Attributes:
    accuracies: [S, B], for each seed.
    seconds: per network, one at a time.
    num_parameters: of the metanetwork.
    steps: of its training.
    selected: the learning rate of each seed, or the regressor; selected on
      validation networks.
  """

  accuracies: np.ndarray
  seconds: float
  num_parameters: int | None = None
  steps: int | None = None
  selected: Sequence[float | str | None] = ()


def reading_of(
  config: ConfigDict,
  target: TargetNetwork,
  train: LabelledNetworks,
  images: Images,
) -> Reading:
  """What the functionals of a run are made for.

  Args:
    config: of the run.
    target: the architecture.
    train: the training networks.
    images: their images; probes begin as training images.
  """
  return Reading(
    target, train.networks.weights, images.train_x, 1, config.model.to_dict(),
    config.probes.count, config.seed,
  )  # fmt: skip


def vary_job(
  config: ConfigDict,
  method: str,
  reading: Reading,
  networks: Networks,
  job: TrainingJob,
) -> list[dict[str, TrainingJob]]:
  """Copies of a job: for each seed, {name: job} of each learning rate.

  Jobs of invariant functionals save them, and what `networks`, the training
  networks, are.
  """

  target, arguments = reading.target, READERS[method].arguments

  def save(name: str) -> Callable[[Path, Params], Any] | None:
    if arguments is None:
      return None
    model = arguments(reading)

    def write(folder, params):
      objective = f"{config.loss.name} of the test accuracy"
      save_functional(
        folder / name, target, model, params, link="sigmoid",
        about=build.about(config, target, networks, objective),
      )  # fmt: skip

    return write

  groups = []
  for seed in select.seeds(config):
    groups.append({})
    for rate in select.learning_rates(config):
      name = f"{method}/{rate:g}/{seed}"
      groups[-1][name] = job._replace(
        seed=seed,
        learning_rate=rate,
        save=save(name),
      )
  return groups


def accuracy_validation(
  config: ConfigDict, read: batched.ReadFn, val: LabelledNetworks
) -> Callable[[Params], dict[str, float]]:
  """`TrainingJob.validate` of a functional; `read` as in `read_networks`."""
  return regression_validation(
    lambda params: read(params, val.networks)[:, 0],
    val.accuracies,
    config.loss.name,
  )


def regression_validation(
  read_logits: Callable[[Params], jax.typing.ArrayLike],
  accuracies: np.ndarray,
  loss: str,
) -> Callable[[Params], dict[str, float]]:
  """`TrainingJob.validate` of a functional that predicts accuracies.

  Args:
    read_logits: φ -> logits [B] of the validation networks.
    accuracies: [B], of the validation networks.
    loss: a key of `REGRESSION`.
  """

  def validate(params: Params) -> dict[str, float]:
    logits: Any = read_logits(params)
    true: Any = accuracies
    predicted = np.asarray(jax.nn.sigmoid(logits))
    objective = REGRESSION[loss](logits, true).mean()
    return {
      "val_objective": float(objective),
      "val_squared_error": regression_metrics.mse(predicted, accuracies),
      "val_tau": regression_metrics.kendall_tau(predicted, accuracies),
    }

  return validate


def predict_seeds(
  read_logits: Callable[[Params], jax.typing.ArrayLike],
  params: Sequence[Params],
) -> np.ndarray:
  """Predicted accuracies [S, B] with the parameters φ of each of S seeds.

  Args:
    read_logits: φ -> logits [B].
    params: S times φ.
  """
  return np.stack(
    [np.asarray(jax.nn.sigmoid(jnp.asarray(read_logits(p)))) for p in params]
  )


def count_parameters(params: Params) -> int:
  """The number of parameters in φ."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def predict_with_functional(
  read: batched.ReadFn, selected: Sequence[select.Selected], networks: Networks
) -> AccuracyPredictions:
  """Predictions of a trained functional.

  Args:
    read: see `batched.read_networks`.
    selected: the best training job of each seed.
    networks: test networks.
  """
  params = [best.params for best in selected]
  first = networks.take(slice(1))
  return AccuracyPredictions(
    predict_seeds(lambda p: read(p, networks)[:, 0], params),
    median_seconds(lambda: read(params[0], first)),
    count_parameters(params[0]),
    selected[0].job.steps,
    [best.job.learning_rate for best in selected],
  )


def _predict_with_statistics(
  features: Callable[[Networks], np.ndarray], data: AccuracyData
) -> AccuracyPredictions:
  """Predictions of a regressor on features of each network."""

  def labelled(part: LabelledNetworks) -> tuple[np.ndarray, np.ndarray]:
    return features(part.networks), part.accuracies

  regressor = statistics.fit_regressor(labelled(data.train), labelled(data.val))
  networks = data.test.networks
  first = networks.take(slice(1))
  return AccuracyPredictions(
    regressor.predict(features(networks))[None],
    median_seconds(lambda: regressor.predict(features(first))),
    selected=[regressor.name],
  )


def _statistics(
  target: TargetNetwork, data: AccuracyData
) -> AccuracyPredictions:
  """A regressor on layer statistics of the weights as stored."""
  kinds = len(target.activations)
  return _predict_with_statistics(
    lambda networks: statistics.layer_statistics(networks, kinds), data
  )


def _balanced_statistics(
  target: TargetNetwork, data: AccuracyData
) -> AccuracyPredictions | None:
  """A regressor on layer statistics of balanced networks.

  None without a scale group: balancing would change nothing.
  """
  if not gauge.scaled_spaces(target.spec):
    return None
  balance = gauge.balance_networks(target)
  kinds = len(target.activations)
  return _predict_with_statistics(
    lambda networks: statistics.layer_statistics(balance(networks), kinds), data
  )


def _constant(target: TargetNetwork, data: AccuracyData) -> AccuracyPredictions:
  """The mean accuracy of the training networks."""
  del target
  mean = data.train.accuracies.mean()
  return AccuracyPredictions(
    np.full((1, len(data.test.accuracies)), mean), seconds=0.0
  )


BASELINES: Mapping[
  str, Callable[[TargetNetwork, AccuracyData], AccuracyPredictions | None]
] = {
  "statistics": _statistics,
  "balanced statistics": _balanced_statistics,
  "constant": _constant,
}
"""Methods that are not metanetworks; None where one does not apply."""
