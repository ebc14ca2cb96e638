"""Generalization prediction: the test accuracy of networks from weights."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.predict_accuracy import methods, report
from experiments.predict_accuracy.data import load_accuracy_data
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import REGRESSION, regression_objective
from scalegmn_jax.training.step import Objective

label = report.label


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  names = ", ".join(report.LABELS)
  metanetworks = ", ".join(methods.SYMMETRY)
  for key, good, expected in (
    ("methods", lambda v: set(v) <= set(report.LABELS), f"some of {names}"),
    (
      "methods",
      lambda v: set(v) & set(methods.SYMMETRY),
      f"at least one of {metanetworks}",
    ),
    ("loss.name", lambda v: v in REGRESSION, f"one of {', '.join(REGRESSION)}"),
    ("train.seeds", lambda v: min(v, default=0) >= 0, "numbers of 0 or more"),
    ("train.learning_rates", lambda v: not v or min(v) > 0, "positive numbers"),
    ("zoo.split", lambda v: not (v and config.zoo.more), "'' with zoo.more"),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  """One job per metanetwork, seed and learning rate."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  data = load_accuracy_data(config, target, images)
  train_data = jax.device_put((data.train.networks, data.train.accuracies))

  def objective(functional: Any) -> Objective:
    return regression_objective(
      functional,
      batch_networks=config.train.batch_networks,
      loss=config.loss.name,
    )

  functionals = {
    method: methods.build_functional(config, method, target, data.train)
    for method in config.methods
    if method in methods.SYMMETRY
  }
  read_fns = {m: batched.read_networks(f) for m, f in functionals.items()}
  reference = next(iter(functionals.values()))
  jobs: dict[str, list[dict[str, TrainingJob]]] = {}
  for method, functional in functionals.items():
    steps = config.train.steps
    if functional is not reference:
      steps = symmetry_levels.equal_steps(
        steps, reference, functional, objective, train_data,
        at_least=config.train.warmup + 1,
      )  # fmt: skip
    job = TrainingJob(
      functional,
      objective(functional),
      train_data,
      methods.accuracy_validation(config, read_fns[method], data.val),
      steps,
      seed=0,
    )
    jobs[method] = methods.vary_job(
      config, method, target, data.train.networks, job
    )

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    predictions, errors = {}, {}
    for method in config.methods:
      progress.console.print(f"measure {label({'method': method})}")
      if method in functionals:
        read, networks = read_fns[method], data.test.networks
        best = [select.select_best(group, params) for group in jobs[method]]
        predict = functools.partial(
          methods.predict_with_functional, read, best, networks
        )
        if method in methods.SCALEGMN:
          error = measure.output_error(read, target)
          key = jax.random.key(config.seed)
          errors[method] = float(error(best[0].params, networks, key))
      else:
        predict = functools.partial(methods.BASELINES[method], target, data)
      result = partial.remember_record(
        method, methods.AccuracyPredictions, predict
      )
      if result is not None:
        predictions[method] = result
    return report.outcome(config, data, predictions, errors)

  all_jobs = {}
  for groups in jobs.values():
    all_jobs |= dict(item for group in groups for item in group.items())
  return Plan(all_jobs, evaluate)
