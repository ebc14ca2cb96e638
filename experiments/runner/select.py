"""Seeds and learning rates of a run, and the choice among its trainings.

Everything that a run chooses is chosen here, on validation data: the learning
rate of a method, and the best of several trainings.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import Params


def seeds(config: ConfigDict) -> tuple[int, ...]:
  """Seeds of φ, each of which is a training of its own.

  `config.train.seeds`, or `config.seed` alone where that is empty.
  """
  return tuple(config.train.seeds) or (int(config.seed),)


def learning_rates(config: ConfigDict) -> tuple[float, ...]:
  """Learning rates of which validation keeps one.

  `config.train.learning_rates`, or `config.train.learning_rate` alone where
  that is empty.
  """
  return tuple(config.train.learning_rates) or (config.train.learning_rate,)


class Selected(NamedTuple):
  """The training that was best on validation data.

  Attributes:
    name: its key in `Plan.jobs`.
    job: the training.
    params: its φ.
    metrics: what `job.validate` measures of φ.
  """

  name: str
  job: TrainingJob
  params: Params
  metrics: Mapping[str, float]


def select_best(
  jobs: Mapping[str, TrainingJob], params: Mapping[str, Params]
) -> Selected:
  """The training with the least "val_objective".

  Args:
    jobs: {name: training}, for instance one per learning rate.
    params: {name: its φ}, of these trainings and possibly of others.
  """
  candidates = [
    Selected(name, job, params[name], job.validate(params[name]))
    for name, job in jobs.items()
  ]
  return min(candidates, key=lambda c: c.metrics["val_objective"])
