"""Learning curves of metanetworks with more and less symmetry.

Metanetworks with the target's own group, with permutations alone and with no
symmetry are trained with equal numbers of floating-point operations on 64, 256,
... networks. They are measured on held-out networks, original and re-gauged.
The gauge of a zoo may carry information about its networks that only
metanetworks without the symmetry can read; one method trains on balanced
networks to separate this effect.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.ablation import methods, report
from experiments.ablation.data import (
  AblationData,
  load_ablation_data,
  zoo_config,
)
from experiments.ablation.objectives import (
  OBJECTIVES,
  TRAIN_STEP,
  AblationObjective,
  NumbersFn,
)
from experiments.ablation.report import CurvePoint, PointResult
from experiments.build import keys, work
from experiments.build.schema import (
  Key,
  one_of,
  several,
  some_of,
  text,
  where,
  whole,
)
from experiments.predict_accuracy.data import LabelledNetworks
from experiments.predict_accuracy.methods import count_parameters
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax import devices
from scalegmn_jax.base import Networks, Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import measure
from scalegmn_jax.targets.activations import ACTIVATIONS

label = report.label


KEYS: dict[str, Key] = {
  **keys.targets("targets"),
  "objective": Key(one_of(*OBJECTIVES), "of the metanetworks"),
  "architectures": Key(
    several(
      text(
        lambda v: v.partition(" ")[0] in ACTIVATIONS, "'<activation> <kind>'"
      )
    ),
    "activation, key of targets",
  ),
  "models": Key(
    where(some_of(methods.METHODS), lambda v: "target" in v, "with target"),
    "symmetries of the metanetworks",
  ),
  "sizes": Key(several(whole(1)), "training networks"),
  "zoo.size": Key(whole(1), "the largest of `sizes` and the networks of eval"),
  "loss.name": Key(keys.REGRESSION_LOSS, "of prediction"),
  "loss.l1": Key(keys.PENALTY, "λ, of fine-tuning"),
  "train.seeds": Key(keys.SEEDS, "of φ; config.seed: of the zoo and its split"),
  "train.steps": Key(whole(1), "of ScaleGMN; other models get the same FLOPs"),
  "train.batch_images": Key(keys.BATCH, "of fine-tuning, per step"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  largest = max(config.sizes, default=0)
  kinds = ", ".join(config.targets)
  for key, good, expected in (
    (
      "sizes",
      lambda v: all(largest % n == 0 for n in v),
      "divisors of the largest of them",
    ),
    (
      "architectures",
      lambda v: all(a.partition(" ")[2] in config.targets for a in v),
      f"some '<activation> <kind>' of the kinds {kinds}",
    ),
    (
      "zoo.path",
      lambda v: not v or len(config.architectures) == 1,
      "'' for several architectures",
    ),
  ):
    build.need(config, key, good, expected)


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  parts = [work.image_work(config, images)]
  runs = len(select.seeds(config)) * len(select.learning_rates(config))
  for name in config.architectures:
    zoo = zoo_config(config, name)
    target = build.build_target(zoo, images)
    models = methods.applicable_methods(config, target)
    arguments = {
      "trainings": runs
      * len(models)
      * len(tuple(config.sizes))
      * config.train.restarts,
      "steps": config.train.steps,
    }
    title = f"{name}: {', '.join(models)}"
    if config.objective == "finetune":
      operator = metanetworks.operator(target, **config.model)
      training = work.operator_work(
        title, config, target, operator, **arguments
      )
    else:
      training = work.training_work(
        title,
        metanetworks.functional(target, **config.model),
        work.network_shapes(target),
        batch=config.train.batch_networks,
        **arguments,
      )
    parts += [work.zoo_work(zoo, target, images, name), training]
  return parts


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

      measure_point = functools.partial(
        _measure_point,
        [select.select_best(group, params) for group in jobs[point]],
        numbers_fns[point],
        (data[name].test.networks, regauged[name]),
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


def _measure_point(
  best: Sequence[select.Selected],
  numbers: NumbersFn,
  networks: tuple[Networks, Networks],
) -> PointResult:
  """Measures one point of a learning curve on test images.

  Args:
    best: the selected training of each seed.
    numbers: see `NumbersFn`.
    networks: test networks, and the same networks in another gauge.
  """
  original, on_regauged = (
    np.stack([numbers(b.params, n, "test") for b in best]) for n in networks
  )
  return PointResult(
    original,
    on_regauged,
    best[0].job.steps,
    count_parameters(best[0].params),
    [b.job.learning_rate for b in best],
  )


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
  return devices.replicate(objective.data(train))


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
