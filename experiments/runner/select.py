"""Seeds, learning rates and steps of a run; selection among its trainings.

All selection uses validation data.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ml_collections import ConfigDict

from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import MetaNetwork, Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.training.step import Objective

AnyMetaNetwork = TypeVar("AnyMetaNetwork", bound=MetaNetwork)


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


def steps(
  config: ConfigDict,
  metanetworks: Mapping[str, AnyMetaNetwork],
  make: Callable[[str], AnyMetaNetwork],
  objective: Callable[[AnyMetaNetwork], Objective],
  data: Any,
) -> dict[str, int]:
  """{method: number of training steps}, as `config.train.budget` says.

  With "steps" it is `config.train.steps`. Otherwise all methods have as many
  operations as one of them in that many steps: with "operations" the first one,
  else the named one, which need not be among the trained ones.

  Args:
    config: of the run.
    metanetworks: {method: metanetwork}.
    make: method -> metanetwork.
    objective: metanetwork -> its training objective.
    data: of the objective.
  """
  count, budget = int(config.train.steps), config.train.budget
  if budget == "steps" or not metanetworks:
    return dict.fromkeys(metanetworks, count)
  if budget == "operations":
    budget = next(iter(metanetworks))
  reference = metanetworks.get(budget) or make(budget)
  return {
    method: count
    if method == budget
    else symmetry_levels.equal_steps(
      count, reference, metanetwork, objective, data,
      at_least=config.train.warmup + 1,
    )
    for method, metanetwork in metanetworks.items()
  }  # fmt: skip


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
