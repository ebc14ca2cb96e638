"""Seeds and learning rates of a run, and selection among its trainings.

All selection uses validation data.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import Params


def seeds(config: ConfigDict) -> tuple[int, ...]:
  """Seeds of φ; each one is a training.

  `config.train.seeds`, or `config.seed` alone if that is empty.
  """
  return tuple(config.train.seeds) or (int(config.seed),)


def learning_rates(config: ConfigDict) -> tuple[float, ...]:
  """Candidate learning rates; validation selects one.

  `config.train.learning_rates`, or `config.train.learning_rate` alone if that
  is empty.
  """
  return tuple(config.train.learning_rates) or (config.train.learning_rate,)


class Selected(NamedTuple):
  """The training with the best validation objective.

  Attributes:
    name: its key in `Plan.jobs`.
    job: the training.
    params: its φ.
    metrics: validation metrics of φ, from `job.validate`.
  """

  name: str
  job: TrainingJob
  params: Params
  metrics: Mapping[str, float]


def select_best(
  jobs: Mapping[str, TrainingJob], params: Mapping[str, Params]
) -> Selected:
  """Selects the training with the least "val_objective".

  Args:
    jobs: {name: training}, for instance one per learning rate.
    params: {name: trained φ}, of these trainings and possibly of others.
  """
  candidates = [
    Selected(name, job, params[name], job.validate(params[name]))
    for name, job in jobs.items()
  ]
  return min(candidates, key=lambda c: c.metrics["val_objective"])
