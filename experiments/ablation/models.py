"""What the models of an ablation learn: a thing to do with networks, and how
well it is done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from scalegmn_jax import batched
from scalegmn_jax.base import MetaNetwork, Networks, Params, TargetNetwork
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.inner import finetune
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training.objectives import (
  REGRESSION,
  amortized_objective,
  regression_objective,
)
from scalegmn_jax.training.step import Objective

MODELS = ("target", "balanced", *symmetry_levels.SYMMETRIES[1:])
"""From most symmetry to least; see `rivals` for all but "balanced". That is the
permutation-only model, which is given balanced networks: it does not see the
gauge either, and differs from the model without by nothing else."""


class LabelledNetworks(NamedTuple):
  """Networks of one side of a split.

  Attributes:
    zoo: B networks.
    values: [B] float32, their test accuracies.
  """

  zoo: Networks
  values: np.ndarray


class Learned(NamedTuple):
  """Letters: B networks, to each of which belongs one number.

  Attributes:
    name: of the measure.
    symbol: likewise, in tables.
    better: 1 if more of it is better, -1 if less is.
    steps: the checkpoints of training networks that are learned from: None
      for all, or "last".
    metanetwork: (one of `MODELS`, training networks) -> a model.
    task: model -> what it is trained to do.
    data: training networks -> what the task draws from.
    numbers: model -> ((φ, zoo, "val" or "test") -> [B]).
    objective: ([B], values [B]) -> what validation chooses by.
    measure: likewise, what is reported.
  """

  name: str
  symbol: str
  better: int
  steps: str | None
  metanetwork: Callable[[str, Networks], MetaNetwork]
  task: Callable[[MetaNetwork], Objective]
  data: Callable[[LabelledNetworks], Any]
  numbers: Callable[
    [MetaNetwork], Callable[[Params, Networks, str], np.ndarray]
  ]
  objective: Callable[[np.ndarray, np.ndarray], float]
  measure: regression_metrics.Metric


def models(config: ConfigDict, target: TargetNetwork) -> list[str]:
  """Those of the config that differ: nothing is balanced without scales."""
  scales = gauge.scaled_spaces(target.spec)
  return [m for m in config.models if scales or m != "balanced"]


def _metanetwork(
  make: Callable[..., MetaNetwork],
  model: str,
  config: ConfigDict,
  target: TargetNetwork,
  zoo: Networks,
) -> MetaNetwork:
  """A model; `make` is `rivals.functional` or `rivals.operator`."""
  arguments = config.model.to_dict()
  if model != "balanced":
    return make(model, arguments, target, zoo.weights)
  balanced = finetune.balancer(target)(zoo)
  inner = make("permutation", arguments, target, balanced.weights)

  def apply(params, weights, activation: jax.Array | int = 0):
    even = gauge.balance(target.spec, weights, activation)
    return inner.apply(params, even, activation)

  return inner._replace(apply=apply)


def predict_objective(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Learned:
  """The test accuracy of a network. The number is the logit of it."""
  del images
  loss = REGRESSION[config.loss.name]

  def numbers(metanetwork):
    read = batched.read_networks(metanetwork)
    return lambda params, zoo, part: np.asarray(read(params, zoo)[:, 0])

  return Learned(
    name="tau",
    symbol="τ",
    better=1,
    steps="last",
    metanetwork=lambda model, zoo: _metanetwork(
      symmetry_levels.functional_with_symmetry, model, config, target, zoo
    ),
    task=lambda metanetwork: regression_objective(
      metanetwork, networks=config.train.batch_networks, loss=config.loss.name
    ),
    data=lambda networks: (networks.zoo, networks.values),
    numbers=numbers,
    objective=lambda logits, values: float(loss(logits, values).mean()),
    measure=regression_metrics.kendall_tau,
  )


def finetune_objective(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Learned:
  """A better network. The number is the objective that it then has."""
  losses = finetune_losses(
    target, l1=config.loss.l1, penalty=config.loss.penalty
  )
  parts = {
    "val": (images.val_x, images.val_y),
    "test": (images.test_x, images.test_y),
  }

  @jax.jit
  def objectives(zoo, x, y):
    return jax.lax.map(lambda n: losses(n, x, y).objective, zoo)

  def numbers(metanetwork):
    shot = batched.edit_networks(metanetwork)
    return lambda params, zoo, part: np.asarray(
      objectives(shot(params, zoo), *parts[part])
    )

  return Learned(
    name="objective",
    symbol="objective",
    better=-1,
    steps=None,
    metanetwork=lambda model, zoo: _metanetwork(
      symmetry_levels.operator_with_symmetry, model, config, target, zoo
    ),
    task=lambda metanetwork: amortized_objective(
      metanetwork,
      losses,
      networks=config.train.batch_networks,
      images=config.train.batch_images,
    ),
    data=lambda networks: (networks.zoo, images.train_x, images.train_y),
    numbers=numbers,
    objective=regression_metrics.mean,
    measure=regression_metrics.mean,
  )


TASKS = {"predict": predict_objective, "finetune": finetune_objective}
"""The values of `config.objective`."""
