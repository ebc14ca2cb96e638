"""Generalization prediction for several architectures by one metanetwork."""

import functools
from collections.abc import Mapping

from ml_collections import ConfigDict

from experiments import build
from experiments.multi_arch import methods, report
from experiments.multi_arch.data import MultiArchData, load_multi_arch
from experiments.predict_accuracy.methods import regression_validation
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import BatchFunctional, Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.graph.batch import dataset
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.training.objectives import (
  REGRESSION,
  batch_regression_objective,
)
from scalegmn_jax.training.step import Objective

label = report.label


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  names = ", ".join(report.LABELS)
  metanetworks = ", ".join(methods.METANETWORKS)
  for key, good, expected in (
    ("methods", lambda v: set(v) <= set(report.LABELS), f"some of {names}"),
    (
      "methods",
      lambda v: set(v) & set(methods.METANETWORKS),
      f"at least one of {metanetworks}",
    ),
    ("loss.name", lambda v: v in REGRESSION, f"one of {', '.join(REGRESSION)}"),
    ("train.seeds", lambda v: min(v, default=0) >= 0, "numbers of 0 or more"),
    ("train.buckets", lambda v: v >= 1, "at least 1"),
    ("train.grad_chunk", lambda v: v == 0, "0: a batch is one graph"),
    ("zoo.unseen", lambda v: v >= 0, "at least 0"),
    (
      "architectures",
      lambda v: all(len(a) == 4 for a in v),
      "(channels, kernel sizes, strides, pool) of each",
    ),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  """One job per metanetwork and seed."""
  data = load_multi_arch(config)
  seeds, batch_size = select.seeds(config), config.train.batch_networks
  loaders = {
    seed: dataset.batch_loader(
      data.dataset,
      data.parts["train"],
      size=batch_size,
      seed=seed,
      buckets=config.train.buckets,
    )
    for seed in seeds
  }
  batches = dataset.fixed_batches(
    data.dataset,
    {part: data.parts[part] for part in ("val", *methods.EVALUATED)},
    batch_size,
  )
  functionals = {
    method: methods.build_functional(config, method, data)
    for method in config.methods
    if method in methods.METANETWORKS
  }
  read_fns = {
    method: methods.read_parts(functional, batches, data)
    for method, functional in functionals.items()
  }
  jobs = _training_jobs(config, functionals, read_fns, loaders, data)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    predictions = {}
    for method in config.methods:
      progress.console.print(f"measure {label({'method': method})}")
      if method in functionals:
        # One learning rate: nothing to select.
        predict = functools.partial(
          methods.predict_with_functional,
          read_fns[method],
          [params[name] for name in jobs[method]],
          steps=next(iter(jobs[method].values())).steps,
        )
      else:
        predict = functools.partial(methods.BASELINES[method], data)
      predictions[method] = partial.remember_record(
        method, methods.MultiArchPredictions, predict
      )
    return report.outcome(data, predictions, loaders[seeds[0]], seeds)

  all_jobs = {}
  for group in jobs.values():
    all_jobs |= group
  return Plan(all_jobs, evaluate)


def _training_jobs(
  config: ConfigDict,
  functionals: Mapping[str, BatchFunctional],
  read_fns: Mapping[str, methods.ReadPart],
  loaders: Mapping[int, dataset.BatchLoader],
  data: MultiArchData,
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name: job}}, one job per seed, all with the same compute.

  The first functional takes `config.train.steps` steps; the others take as many
  as cost the same number of operations.
  """

  def objective(functional: BatchFunctional) -> Objective:
    return batch_regression_objective(functional, loss=config.loss.name)

  reference = next(iter(functionals.values()))
  batch = next(iter(loaders.values()))(0)
  jobs = {}
  for method, functional in functionals.items():
    steps = config.train.steps
    if functional is not reference:
      steps = symmetry_levels.equal_steps(
        steps, reference, functional, objective, batch,
        at_least=config.train.warmup + 1,
      )  # fmt: skip
    validate = regression_validation(
      lambda params, read=read_fns[method]: read(params, "val"),
      data.true("val"),
      config.loss.name,
    )
    jobs[method] = {
      f"{method}/{seed}": TrainingJob(
        functional, objective(functional), loader, validate, steps, seed
      )
      for seed, loader in loaders.items()
    }
  return jobs
