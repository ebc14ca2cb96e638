"""Learning curves of metanetworks with more and less symmetry.

Metanetworks with the target's own group, with permutations alone and with no
symmetry are trained with equal numbers of floating-point operations on 64, 256,
... networks. They are measured on held-out networks, original and re-gauged.
The gauge of a zoo may carry information about its networks that only
metanetworks without the symmetry can read; one method trains on balanced
networks to separate this effect.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.ablation import methods, report
from experiments.ablation.data import AblationData, load_ablation_data
from experiments.ablation.objectives import (
  OBJECTIVES,
  TRAIN_STEP,
  AblationObjective,
  NumbersFn,
)
from experiments.ablation.report import CurvePoint, PointResult
from experiments.predict_accuracy.data import LabelledNetworks
from experiments.predict_accuracy.methods import count_parameters
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import REGRESSION

label = report.label


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  largest = max(config.sizes, default=0)
  kinds = ", ".join(config.targets)
  for key, good, expected in (
    ("objective", lambda v: v in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
    (
      "models",
      lambda v: "target" in v and set(v) <= set(methods.METHODS),
      f"target and some of {', '.join(methods.METHODS[1:])}",
    ),
    ("loss.name", lambda v: v in REGRESSION, f"one of {', '.join(REGRESSION)}"),
    ("train.seeds", lambda v: min(v, default=0) >= 0, "numbers of 0 or more"),
    ("train.learning_rates", lambda v: not v or min(v) > 0, "positive numbers"),
    (
      "sizes",
      lambda v: v and min(v) > 0 and all(largest % n == 0 for n in v),
      "divisors of the largest of them",
    ),
    (
      "architectures",
      lambda v: v and all(a.partition(" ")[2] in config.targets for a in v),
      f"some '<activation> <kind>' of the kinds {kinds}",
    ),
    (
      "zoo.path",
      lambda v: not v or len(config.architectures) == 1,
      "'' for several architectures",
    ),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  """One job per point of a learning curve, seed and learning rate."""
  images = build.build_images(config)
  data, objectives = {}, {}
  numbers_fns: dict[CurvePoint, NumbersFn] = {}
  jobs: dict[CurvePoint, list[dict[str, TrainingJob]]] = {}
  for name in config.architectures:
    networks = data[name] = load_ablation_data(
      config, name, images, TRAIN_STEP[config.objective]
    )
    objective = OBJECTIVES[config.objective](config, networks.target, images)
    objectives[name] = objective
    for method in methods.applicable_methods(config, networks.target):
      steps = _steps(config, method, networks, objective)
      for size, train in networks.train.items():
        point = CurvePoint(name, method, size)
        metanetwork = objective.metanetwork(method, train.networks)
        numbers_fns[point] = objective.numbers(metanetwork)
        jobs[point] = _vary_job(
          config,
          point,
          TrainingJob(
            metanetwork,
            objective.objective(metanetwork),
            _train_data(objective, networks, size),
            _validation(objective, numbers_fns[point], networks.val),
            steps,
            seed=0,
          ),
        )

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    key = jax.random.key(config.seed)
    regauged = {
      name: measure.regauge_networks(d.target, decades=report.DECADES)(
        d.test.networks, key
      )[1]
      for name, d in data.items()
    }
    results = {}
    for point in jobs:
      name = point.architecture
      row = report.point_keys(point, data[name])
      progress.console.print(f"measure {label(row)}")

      def measure_point(point=point, name=name) -> PointResult:
        best = [select.select_best(group, params) for group in jobs[point]]
        numbers = numbers_fns[point]
        original, on_regauged = (
          np.stack([numbers(b.params, networks, "test") for b in best])
          for networks in (data[name].test.networks, regauged[name])
        )
        return PointResult(
          original,
          on_regauged,
          best[0].job.steps,
          count_parameters(best[0].params),
          [b.job.learning_rate for b in best],
        )

      results[point] = partial.remember_record(
        " ".join(map(str, point)), PointResult, measure_point
      )
    return report.outcome(config, data, objectives, results)

  all_jobs = {}
  for groups in jobs.values():
    for group in groups:
      all_jobs |= group
  return Plan(all_jobs, evaluate)


def _vary_job(
  config: ConfigDict, point: CurvePoint, job: TrainingJob
) -> list[dict[str, TrainingJob]]:
  """Copies of a job: for each seed, {name: job} of each learning rate."""
  folder = "/".join(map(str, point)).replace(" ", "-")
  return [
    {
      f"{folder}/{rate:g}/{seed}": job._replace(seed=seed, learning_rate=rate)
      for rate in select.learning_rates(config)
    }
    for seed in select.seeds(config)
  ]


def _train_data(
  objective: AblationObjective, data: AblationData, size: int
) -> Any:
  """Data of the training objective, on the device.

  Repeated to the size of the largest training set: one program serves all.
  """
  count = data.train[max(data.train)].networks.size
  train = jax.tree.map(
    lambda a: np.resize(a, (count, *a.shape[1:])), data.train[size]
  )
  return jax.device_put(objective.data(train))


def _validation(
  objective: AblationObjective, numbers: NumbersFn, val: LabelledNetworks
) -> Callable[[Params], dict[str, float]]:
  """`TrainingJob.validate`."""

  def validate(params: Params) -> dict[str, float]:
    values = numbers(params, val.networks, "val")
    return {
      "val_objective": objective.val_objective(values, val.accuracies),
      f"val_{objective.name}": objective.measure(values, val.accuracies),
    }

  return validate


def _steps(
  config: ConfigDict,
  method: str,
  data: AblationData,
  objective: AblationObjective,
) -> int:
  """Steps of a method that cost as much as `train.steps` of "target"."""
  if method == "target":
    return config.train.steps
  train = data.train[max(data.train)]
  target, metanetwork = (
    objective.metanetwork(m, train.networks) for m in ("target", method)
  )
  return symmetry_levels.equal_steps(
    config.train.steps,
    target,
    metanetwork,
    objective.objective,
    objective.data(train),
    at_least=config.train.warmup + 1,
  )
