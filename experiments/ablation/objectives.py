"""Objectives of the ablation: predict accuracies, or fine-tune networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.ablation.methods import build_metanetwork
from experiments.predict_accuracy.data import LabelledNetworks
from scalegmn_jax import batched
from scalegmn_jax.base import MetaNetwork, Networks, Params, TargetNetwork
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.training.objectives import (
  REGRESSION,
  amortized_objective,
  regression_objective,
)
from scalegmn_jax.training.step import Objective
from scalegmn_jax.zoo.split import Step

NumbersFn = Callable[[Params, Networks, str], np.ndarray]
"""(φ, networks, "val" or "test") -> one number per network, [B]."""


class AblationObjective(NamedTuple):
  """An objective, and the measure of metanetworks trained on it.

  A metanetwork gives each of B networks one number: a prediction, or the
  objective of the network after its edit.

  Attributes:
    name: of the measure.
    symbol: of the measure, in tables.
    sign: 1 if a greater measure is better, -1 if a smaller one is.
    metanetwork: (method, training networks) -> metanetwork.
    objective: metanetwork -> training objective.
    data: training networks -> data of the training objective.
    numbers: metanetwork -> its `NumbersFn`.
    val_objective: (numbers [B], accuracies [B]) -> the value that selects
      among jobs.
    measure: (numbers [B], accuracies [B]) -> the value that is reported.
  """

  name: str
  symbol: str
  sign: int
  metanetwork: Callable[[str, Networks], MetaNetwork]
  objective: Callable[[MetaNetwork], Objective]
  data: Callable[[LabelledNetworks], Any]
  numbers: Callable[[MetaNetwork], NumbersFn]
  val_objective: Callable[[np.ndarray, np.ndarray], float]
  measure: regression_metrics.Metric


def predict_objective(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> AblationObjective:
  """Prediction of the test accuracy; the number of a network is its logit."""
  del images
  loss = REGRESSION[config.loss.name]

  def numbers(functional):
    read = batched.read_networks(functional)
    return lambda params, networks, part: np.asarray(
      read(params, networks)[:, 0]
    )

  return AblationObjective(
    name="tau",
    symbol="τ",
    sign=1,
    metanetwork=lambda method, networks: build_metanetwork(
      symmetry_levels.functional_with_symmetry, method, config, target, networks
    ),
    objective=lambda functional: regression_objective(
      functional,
      batch_networks=config.train.batch_networks,
      loss=config.loss.name,
    ),
    data=lambda train: (train.networks, train.accuracies),
    numbers=numbers,
    val_objective=lambda logits, accuracies: float(
      loss(logits, accuracies).mean()
    ),
    measure=regression_metrics.kendall_tau,
  )


def finetune_objective(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> AblationObjective:
  """Fine-tuning; the number of a network is its objective after the edit."""
  losses = finetune_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  images_of = {
    "val": (images.val_x, images.val_y),
    "test": (images.test_x, images.test_y),
  }

  @jax.jit
  def objectives(networks, x, y):
    return batched.map_networks(
      lambda network, x, y: losses(network, x, y).objective,
      networks,
      shared=(x, y),
    )

  def numbers(operator):
    edit = batched.edit_networks(operator)
    return lambda params, networks, part: np.asarray(
      objectives(edit(params, networks), *images_of[part])
    )

  return AblationObjective(
    name="objective",
    symbol="objective",
    sign=-1,
    metanetwork=lambda method, networks: build_metanetwork(
      symmetry_levels.operator_with_symmetry, method, config, target, networks
    ),
    objective=lambda operator: amortized_objective(
      operator,
      losses,
      batch_networks=config.train.batch_networks,
      batch_images=config.train.batch_images,
    ),
    data=lambda train: (train.networks, images.train_x, images.train_y),
    numbers=numbers,
    val_objective=regression_metrics.mean,
    measure=regression_metrics.mean,
  )


OBJECTIVES = {"predict": predict_objective, "finetune": finetune_objective}
"""The values of `config.objective`."""

TRAIN_STEP: dict[str, Step] = {"predict": "last", "finetune": None}
"""{objective: checkpoints of training networks, None for all}."""
