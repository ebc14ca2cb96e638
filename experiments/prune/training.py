"""Training of the metanetworks that prepare networks for pruning."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import build
from experiments.prune.data import PruneData
from experiments.runner.experiment import TrainingJob
from experiments.runner.select import seeds
from scalegmn_jax import devices
from scalegmn_jax.base import Functional, Networks, Operator, Params
from scalegmn_jax.batched import EditFn, edit_networks, read_networks
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.saved import save_operator
from scalegmn_jax.training import objectives, validation

SINGLE = "own_operator"
"""Name of the job that trains an operator on one network alone, as in the
precursor paper (Kuipers et al. 2025, arXiv:2510.08300)."""


class MetaNetworks(NamedTuple):
  """The metanetworks of a run.

  Attributes:
    operator: edits networks.
    edit: the operator mapped over networks.
    predictor: predicts the logit of the accuracy of a network.
  """

  operator: Operator
  edit: EditFn
  predictor: Functional


def make_metanetworks(config: ConfigDict, data: PruneData) -> MetaNetworks:
  """The operator and the predictor of a run."""
  operator = metanetworks.operator(data.target, **config.model)
  predictor = metanetworks.functional(data.target, **config.model)
  return MetaNetworks(operator, edit_networks(operator), predictor)


def job_names(config: ConfigDict, kind: str) -> list[str]:
  """Names of the jobs of "operator" or "predictor", one per seed."""
  count = len(seeds(config))
  return [f"{kind}_{i}" for i in range(count)] if count > 1 else [kind]


def make_jobs(
  config: ConfigDict, data: PruneData, models: MetaNetworks
) -> dict[str, TrainingJob]:
  """Trainings of operators and predictors, one of each per seed."""
  operator_job = _operator_jobs(config, data, models)
  predictor_job = _predictor_jobs(config, data, models.predictor)

  def save(folder, params):
    about = build.about(
      config, data.target, data.zoo.train, build.finetuning_objective(config)
    )
    save_operator(
      folder, data.target, config.model.to_dict(), params, about=about
    )

  jobs = {}
  for i, (operator, predictor, seed) in enumerate(
    zip(
      job_names(config, "operator"),
      job_names(config, "predictor"),
      seeds(config),
      strict=True,
    )
  ):
    job = operator_job(
      data.zoo.train,
      data.zoo.val,
      config.train.batch_networks,
      config.train.steps,
      seed,
    )
    jobs[operator] = job._replace(save=None if i else save)
    jobs[predictor] = predictor_job(seed)
  if "network" in data.subjects and config.prune.own_steps:
    jobs[SINGLE] = operator_job(
      data.single, data.single, 1, config.prune.own_steps, config.seed
    )
  return jobs


def _operator_jobs(
  config: ConfigDict, data: PruneData, models: MetaNetworks
) -> Callable[[Networks, Networks, int, int, int], TrainingJob]:
  """(training, validation networks, networks per step, steps, seed) -> job."""
  losses = finetune_losses(
    data.target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  images = data.images
  train = devices.replicate((images.train_x, images.train_y))
  validate_networks = validation.validation_metrics(
    losses, images.val_x, images.val_y
  )

  def make(networks, val_networks, batch_networks, steps, seed):
    def validate(params: Params) -> Mapping[str, float]:
      return validate_networks(models.edit(params, val_networks))

    objective = objectives.amortized_objective(
      models.operator,
      losses,
      batch_networks=batch_networks,
      batch_images=config.train.batch_images,
    )
    return TrainingJob(
      models.operator, objective, (networks, *train), validate, steps, seed
    )

  return make


def _predictor_jobs(
  config: ConfigDict, data: PruneData, predictor: Functional
) -> Callable[[int], TrainingJob]:
  """seed -> training of the predictor of validation accuracies."""
  val_networks = data.zoo.val
  val_accuracy = data.evaluate(val_networks, *data.val_sample)[1]
  read = read_networks(predictor)
  objective = objectives.regression_objective(
    predictor, batch_networks=config.train.batch_networks
  )

  def validate(params):
    logits = read(params, val_networks)[:, 0]
    cross_entropy = objectives.REGRESSION["cross_entropy"](logits, val_accuracy)
    error = jax.nn.sigmoid(logits) - val_accuracy
    return {
      "val_objective": float(cross_entropy.mean()),
      "val_squared_error": float(jnp.square(error).mean()),
    }

  def make(seed):
    return TrainingJob(
      predictor, objective, (data.zoo.train, data.train_accuracy), validate,
      config.prune.predictor_steps, seed,
    )  # fmt: skip

  return make
