"""What the models of an ablation learn: a thing to do with networks, and how
well it is done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import populations, rivals
from scalegmn_jax.base import MetaNetwork, Params, TargetNetwork, Zoo
from scalegmn_jax.baselines import iterative
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import ranking
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training.losses import task_losses
from scalegmn_jax.training.step import Task
from scalegmn_jax.training.tasks import (
  REGRESSION,
  amortized_task,
  regression_task,
)

MODELS = ("target", "balanced", *rivals.SYMMETRIES[1:])
"""From most symmetry to least; see `rivals` for all but "balanced". That is the
permutation-only model, which is given balanced networks: it does not see the
gauge either, and differs from the model without by nothing else."""


class Networks(NamedTuple):
  """Networks of one side of a split.

  Attributes:
    zoo: B networks.
    values: [B] float32, their test accuracies.
  """

  zoo: Zoo
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
  metanetwork: Callable[[str, Zoo], MetaNetwork]
  task: Callable[[MetaNetwork], Task]
  data: Callable[[Networks], Any]
  numbers: Callable[
    [MetaNetwork], Callable[[Params, Zoo, str], np.ndarray]
  ]
  objective: Callable[[np.ndarray, np.ndarray], float]
  measure: ranking.Measure


def models(config: ConfigDict, target: TargetNetwork) -> list[str]:
  """Those of the config that differ: nothing is balanced without scales."""
  scales = gauge.scaled(target.spec)
  return [m for m in config.models if scales or m != "balanced"]


def _metanetwork(
  make: Callable[..., MetaNetwork],
  model: str,
  config: ConfigDict,
  target: TargetNetwork,
  zoo: Zoo,
) -> MetaNetwork:
  """A model; `make` is `rivals.functional` or `rivals.operator`."""
  arguments = config.model.to_dict()
  if model != "balanced":
    return make(model, arguments, target, zoo.weights)
  balanced = iterative.balancer(target)(zoo)
  inner = make("permutation", arguments, target, balanced.weights)

  def apply(params, weights, activation=0):
    even = gauge.balance(target.spec, weights, activation)
    return inner.apply(params, even, activation)

  return MetaNetwork(inner.init, apply)


def predict(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Learned:
  """The test accuracy of a network. The number is the logit of it."""
  del images
  loss = REGRESSION[config.loss.name]

  def numbers(metanetwork):
    read = populations.reader(metanetwork)
    return lambda params, zoo, part: np.asarray(read(params, zoo)[:, 0])

  return Learned(
    name="tau",
    symbol="τ",
    better=1,
    steps="last",
    metanetwork=lambda model, zoo: _metanetwork(
      rivals.functional, model, config, target, zoo
    ),
    task=lambda metanetwork: regression_task(
      metanetwork, networks=config.train.networks, loss=config.loss.name
    ),
    data=lambda networks: (networks.zoo, networks.values),
    numbers=numbers,
    objective=lambda logits, values: float(loss(logits, values).mean()),
    measure=ranking.tau,
  )


def finetune(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Learned:
  """A better network. The number is the objective that it then has."""
  losses = task_losses(
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
    shot = populations.one_shot(metanetwork)
    return lambda params, zoo, part: np.asarray(
      objectives(shot(params, zoo), *parts[part])
    )

  return Learned(
    name="objective",
    symbol="objective",
    better=-1,
    steps=None,
    metanetwork=lambda model, zoo: _metanetwork(
      rivals.operator, model, config, target, zoo
    ),
    task=lambda metanetwork: amortized_task(
      metanetwork,
      losses,
      networks=config.train.networks,
      images=config.train.images,
    ),
    data=lambda networks: (networks.zoo, images.train_x, images.train_y),
    numbers=numbers,
    objective=ranking.mean,
    measure=ranking.mean,
  )


TASKS = {"predict": predict, "finetune": finetune}
"""The values of `config.task`."""
