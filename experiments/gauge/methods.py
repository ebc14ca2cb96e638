"""Operators trained with plain and with balanced L1 penalty."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.gauge.data import GaugeData
from experiments.runner.experiment import TrainingJob
from experiments.runner.select import seeds
from scalegmn_jax import devices
from scalegmn_jax.base import Networks, Operator, Params
from scalegmn_jax.batched import EditFn, edit_networks
from scalegmn_jax.eval.scores import make_scorer
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner.losses import PENALTIES, finetune_losses
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training import validation
from scalegmn_jax.training.objectives import amortized_objective

SCORES = (
  "objective", "objective_plain", "cross_entropy", "l1", "l1_balanced",
  "accuracy",
)  # fmt: skip


class Model(NamedTuple):
  """An operator, alone and mapped over networks."""

  operator: Operator
  edit: EditFn


def make_model(config: ConfigDict, data: GaugeData) -> Model:
  """The operator of a run."""
  operator = metanetworks.operator(data.target, **config.model)
  return Model(operator, edit_networks(operator))


def _job_name(penalty: str, seed: int) -> str:
  return f"{penalty}-{seed}"


def make_jobs(
  config: ConfigDict, data: GaugeData, model: Model
) -> dict[str, TrainingJob]:
  """A training for each penalty and seed, equal in all other respects."""
  images = data.images
  device_data = devices.replicate(
    (data.zoo.train, images.train_x, images.train_y)
  )

  def job(penalty, seed):
    losses = finetune_losses(data.target, l1=config.loss.l1, penalty=penalty)
    objective = amortized_objective(
      model.operator,
      losses,
      batch_networks=config.train.batch_networks,
      batch_images=config.train.batch_images,
    )
    validate_networks = validation.validation_metrics(
      losses, images.val_x, images.val_y
    )

    def validate(params):
      return validate_networks(model.edit(params, data.zoo.val))

    return TrainingJob(
      model.operator, objective, device_data, validate, config.train.steps, seed
    )

  return {
    _job_name(penalty, seed): job(penalty, seed)
    for penalty in PENALTIES
    for seed in seeds(config)
  }


def operator_rows(
  config: ConfigDict,
  data: GaugeData,
  model: Model,
  params: Mapping[str, Params],
  partial: Partial = NOTHING,
) -> list[dict[str, Any]]:
  """Scores of edited test networks, means over networks and seeds.

  Args:
    config: of the run.
    data: the test networks and test images.
    model: the operator.
    params: {name of a job: trained φ}.
    partial: keeps what has been measured.
  """
  score = make_scorer(data.target, l1=config.loss.l1)
  *_, images = data.images.device_splits()
  inputs = {
    "original": data.zoo.test,
    "balanced": gauge.balance_networks(data.target)(data.zoo.test),
  }

  def row(keys: dict[str, str], by_seed: Sequence[Networks]) -> dict[str, Any]:
    scores = [score(networks, *images) for networks in by_seed]
    means = {
      key: [float(getattr(s, key).mean()) for s in scores] for key in SCORES
    }
    return {
      **keys,
      **{key: float(np.mean(values)) for key, values in means.items()},
      "objective_std": float(np.std(means["objective"], ddof=1))
      if len(by_seed) > 1
      else None,
    }

  rows = [
    partial.remember_row(
      name, lambda name=name, n=n: row({"method": name}, [n])
    )
    for name, n in inputs.items()
  ]
  for penalty in PENALTIES:
    phis = [params[_job_name(penalty, seed)] for seed in seeds(config)]
    for name, networks in inputs.items():
      keys = {"method": "operator", "penalty": penalty, "input": name}

      def edited_row(keys=keys, networks=networks, phis=phis):
        return row(keys, [model.edit(phi, networks) for phi in phis])

      rows.append(partial.remember_row(" ".join(keys.values()), edited_row))
  return rows
