"""The section `train`: the optimizer of φ."""

import optax
from ml_collections import ConfigDict

from scalegmn_jax.training import optimizer


def build_optimizer(
  config: ConfigDict, steps: int, learning_rate: float | None = None
) -> optax.GradientTransformation:
  """The optimizer of φ.

  Args:
    config: config of the experiment.
    steps: number of training steps.
    learning_rate: peak learning rate; None for `config.train.learning_rate`.

  Raises:
    InputError: a value is out of its range.
  """
  c = config.train
  return optimizer.make_optimizer(
    learning_rate=c.learning_rate if learning_rate is None else learning_rate,
    steps=steps,
    warmup=c.warmup,
    weight_decay=c.weight_decay,
    clip=c.clip,
  )
