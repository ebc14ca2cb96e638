"""Generalization prediction: the test accuracy of networks from weights."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import (
  FLAG,
  Key,
  path,
  several,
  some_of,
  text,
  whole,
)
from experiments.predict_accuracy import methods, report
from experiments.predict_accuracy.data import load_accuracy_data
from experiments.readers import READERS
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax import batched, devices
from scalegmn_jax.base import Params
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import regression_objective
from scalegmn_jax.zoo import store

label = report.label


KEYS: dict[str, Key] = {
  "methods": Key(
    some_of(report.LABELS),
    "rows of the table; metanetworks get the FLOPs of the first one",
  ),
  "loss.name": Key(keys.REGRESSION_LOSS, "of the prediction"),
  "probes.count": keys.PROBES,
  "train.budget": keys.budget_of(("operations", *READERS)),
  "train.seeds": Key(keys.SEEDS, "of φ; config.seed: of the zoo and its split"),
  "zoo.more": Key(
    several(text(), 0), "folders of more networks of the same architecture"
  ),
  "zoo.split": Key(
    path("split by network"), "CSV file with the published order"
  ),
  "zoo.step": Key(
    whole(-1), "the checkpoint to read; -1: the last of each network"
  ),
  "zoo.regauge": Key(
    FLAG,
    "act on each network with a random element of its symmetry group: a "
    "permutation, and multipliers within 0.1 and 10 or signs",
  ),
  "zoo.fractions": keys.KEYS["zoo.fractions"]._replace(
    doc="shares of the networks; all held-out networks are used"
  ),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(
    config,
    "methods",
    lambda v: (
      config.train.budget != "operations" or not set(v).isdisjoint(READERS)
    ),
    f"at least one of {', '.join(READERS)}, whose operations all others get",
  )
  build.need(
    config,
    "zoo.split",
    lambda v: not (v and config.zoo.more),
    "'' with zoo.more",
  )


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  for folder in config.zoo.more:
    store.read_zoo(folder)
  if config.zoo.split:
    order = Path(config.zoo.split)
    build.need(config, "zoo.split", lambda _: order.is_file(), "a CSV file")
  trained = [m for m in config.methods if m in READERS]
  seeds, rates = select.seeds(config), select.learning_rates(config)
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    work.training_work(
      ", ".join(trained),
      metanetworks.functional(target, **config.model),
      work.network_shapes(target),
      trainings=len(trained) * len(seeds) * len(rates) * config.train.restarts,
      steps=config.train.steps,
      batch=config.train.batch_networks,
    ),
  ]


def plan(config: ConfigDict) -> Plan:
  """One job per metanetwork, seed and learning rate."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  data = load_accuracy_data(config, target, images)
  train_data = devices.replicate((data.train.networks, data.train.accuracies))

  reading = methods.reading_of(config, target, data.train, images)
  functionals = {
    method: READERS[method].make(reading)
    for method in config.methods
    if method in READERS
  }
  read_fns = {m: batched.read_networks(f) for m, f in functionals.items()}
  objective = functools.partial(
    regression_objective,
    batch_networks=config.train.batch_networks,
    loss=config.loss.name,
  )
  steps = select.steps(
    config, functionals, lambda m: READERS[m].make(reading), objective,
    train_data,
  )  # fmt: skip
  jobs: dict[str, list[dict[str, TrainingJob]]] = {}
  for method, functional in functionals.items():
    job = TrainingJob(
      functional,
      objective(functional),
      train_data,
      methods.accuracy_validation(config, read_fns[method], data.val),
      steps[method],
      seed=0,
    )
    jobs[method] = methods.vary_job(
      config, method, reading, data.train.networks, job
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
        if READERS[method].arguments is not None:
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
