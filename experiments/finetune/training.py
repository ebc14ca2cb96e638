"""Training jobs of operators."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.finetune.data import Inputs
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from experiments.writers import WRITERS, Writing
from scalegmn_jax import batched, devices
from scalegmn_jax.base import Networks, Operator, Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner.losses import Losses, finetune_losses
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.trained import about_likeness
from scalegmn_jax.training import validation
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.training.step import Objective

MEASURED_IMAGES = 128
"""Validation images on which functions of networks are compared."""

OPERATOR = "operator"
"""Name of the training job that the experiment is about."""


class Training(NamedTuple):
  """The training jobs of a run, and functions of what they train.

  Attributes:
    jobs: {name: job}; `OPERATOR` and the baseline metanetworks.
    edits: {name of a job: (φ, networks) -> edited networks}.
    update_error: symmetry error of the operator's updates.
    function_error: symmetry error of the edited functions.
  """

  jobs: Mapping[str, TrainingJob]
  edits: Mapping[str, batched.EditFn]
  update_error: measure.ErrorFn
  function_error: measure.ErrorFn


def operator_losses(
  config: ConfigDict, inputs: Inputs
) -> Callable[..., Losses]:
  """The terms of the objective that operators are trained on."""
  return finetune_losses(
    inputs.target, l1=config.loss.l1, penalty=config.loss.penalty
  )


def operator_objective(
  config: ConfigDict,
  operator: Operator,
  losses: Callable[..., Losses],
  steps: int,
) -> Objective:
  """The objective of an operator that is trained for `steps` steps."""
  return amortized_objective(
    operator,
    losses,
    batch_networks=config.train.batch_networks,
    batch_images=config.train.batch_images,
    ramp=tuple(share * steps for share in config.loss.ramp),
    image_noise=config.train.image_noise,
  )


def _seen_images(networks: Networks, images: Images) -> np.ndarray:
  """The training images of the classes that some of the networks have."""
  if networks.class_to_output is None:
    return images.train_x
  _, seen = np.nonzero(np.asarray(networks.class_to_output) >= 0)
  return images.train_x[np.isin(images.train_y, seen)]


def training_jobs(config: ConfigDict, inputs: Inputs) -> Training:
  """The operator and the config's baseline metanetworks.

  The other metanetworks are trained for as many operations as the operator.
  """
  images, target, zoos = inputs
  losses = operator_losses(config, inputs)
  (seed,) = select.seeds(config)
  inputs_seen = _seen_images(zoos.train, images)
  writing = Writing(
    target, zoos.train, inputs_seen, config.model.to_dict(),
    config.model.basis, config.model.probes, seed,
  )  # fmt: skip
  writer = WRITERS[config.writer]
  operator = writer.make(writing)
  device_data = devices.replicate((zoos.train, images.train_x, images.train_y))
  validate_networks = validation.validation_metrics(
    losses, images.val_x, images.val_y
  )

  def objective(metanetwork, steps: int = config.train.steps) -> Objective:
    return operator_objective(config, metanetwork, losses, steps)

  def job(metanetwork, validate, steps):
    return TrainingJob(
      metanetwork, objective(metanetwork, steps), device_data, validate, steps,
      seed,
    )  # fmt: skip

  (steps,) = select.steps(
    config, {config.writer: operator}, lambda m: WRITERS[m].make(writing),
    objective, device_data,
  ).values()  # fmt: skip
  edit = batched.edit_networks(operator)
  function_error = measure.function_error(
    edit, target, images.val_x[:MEASURED_IMAGES]
  )

  def validate_operator(params: Params) -> dict[str, float]:
    error = function_error(params, zoos.val, jax.random.key(config.seed))
    metrics = validate_networks(edit(params, zoos.val))
    return metrics | {"symmetry_error": float(error.max())}

  def save(folder: Path, params: Params) -> None:
    assert writer.arguments is not None
    about = build.about(
      config, target, zoos.train, build.finetuning_objective(config)
    )
    # An operator that keeps outputs answers as any network does.
    if config.loss.get("supervision", "labels") == "labels":
      about |= about_likeness(target, operator, params, zoos.train)
    save_operator(
      folder, target, writer.arguments(writing), params, about=about
    )

  edits = {OPERATOR: edit}
  jobs = {
    OPERATOR: job(operator, validate_operator, steps)._replace(
      save=None if writer.arguments is None else save
    )
  }
  for name in config.baselines.metanetworks:
    baseline = WRITERS[name].make(writing)
    # The warm-up has to end before the training does.
    equal = symmetry_levels.equal_steps(
      steps, operator, baseline, objective, device_data,
      at_least=config.train.warmup + 1,
    )  # fmt: skip
    edits[name] = batched.edit_networks(baseline)

    def validate(params: Params, edit=edits[name]) -> dict[str, float]:
      return validate_networks(edit(params, zoos.val))

    jobs[name] = job(baseline, validate, equal)
  update_error = measure.update_error(edit, target)
  return Training(jobs, edits, update_error, function_error)
