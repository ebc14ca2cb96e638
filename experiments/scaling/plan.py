"""Operators by the number of training networks and of training steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.build import work
from experiments.build.schema import Key, several, whole
from experiments.finetune import data, methods, training
from experiments.finetune import report as finetune_report
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from experiments.scaling import report
from experiments.scaling.report import label as label
from scalegmn_jax import batched, devices
from scalegmn_jax.base import InputError, Networks, Operator, Params
from scalegmn_jax.eval import scores
from scalegmn_jax.eval.epochs_to_match import epochs_to_match
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.prototypes import data_init
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.training import validation

KEYS: dict[str, Key] = {
  "scaling.networks": Key(several(whole(1)), "training networks"),
  "scaling.steps": Key(several(whole(1)), "training steps"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(config, "baselines.methods", lambda v: len(v) == 1, "one method")
  warmup = config.train.warmup
  build.need(
    config,
    "scaling.steps",
    lambda v: min(v) > warmup,
    f"more than train.warmup, {warmup}",
  )


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  operator = metanetworks.operator(target, **config.model)
  c = config.scaling
  count = len(tuple(c.networks)) * len(select.seeds(config))
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    *(
      work.operator_work(
        f"{steps} steps",
        config,
        target,
        operator,
        trainings=count * config.train.restarts,
        steps=steps,
      )
      for steps in c.steps
    ),
    work.descent_work(config, target, images),
  ]


def plan(config: ConfigDict) -> Plan:
  """Trains an operator for each number of networks and steps, and seed."""
  inputs = data.load_inputs(config)
  operator = metanetworks.operator(inputs.target, **config.model)
  edit = batched.edit_networks(operator)
  jobs = training_jobs(config, inputs, operator)
  test, target = inputs.zoos.test, inputs.target

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    evaluator = methods.make_evaluator(config, inputs)
    setting = methods.Setting(config, inputs, evaluator, partial)
    original = evaluator.scores(test)
    balanced = evaluator.scores(gauge.balance_networks(target)(test))
    start = float(np.mean(balanced.objective))
    (run,) = methods.tuned_runs(setting)
    rows: list[dict[str, Any]] = [
      mean_row({**run.keys, "epochs": h}, [networks], evaluator, original)
      | {"epochs_to_match": str(h)}
      for h, networks in run.networks.items()
    ]
    points = [(row["epochs"], row["objective"]) for row in rows]
    last = max(run.networks)
    for count in config.scaling.networks:
      for steps in config.scaling.steps:

        def operator_row(count=count, steps=steps):
          edited = [
            edit(params[_job_name(count, steps, seed)], test)
            for seed in select.seeds(config)
          ]
          keys = {"method": "operator", "networks": count, "steps": steps}
          return mean_row(keys, edited, evaluator, original)

        row = partial.remember_row(f"{count} {steps}", operator_row)
        epochs = epochs_to_match(points, start, row["objective"])
        text = finetune_report.epochs_to_match_text(epochs, last)
        rows.append(row | {"epochs_to_match": text})
    networks, seeds = inputs.zoos.networks, select.seeds(config)
    heading = pictures.heading({"test": networks["test"]}, seeds)
    title = report.title(networks["test"], seeds)
    return Outcome(
      [Table(title, report.COLUMNS, rows, report.SHORT)],
      [],
      {"scaling.png": report.picture(rows, heading)},
      {"zoo": networks},
    )

  return Plan(jobs, evaluate)


def training_jobs(
  config: ConfigDict, inputs: data.Inputs, operator: Operator
) -> dict[str, TrainingJob]:
  """{see `_job_name`: training on the first networks of the zoo}."""
  images, target, zoos = inputs
  c = config.scaling
  if max(c.networks) > zoos.networks["train"]:
    raise InputError(
      f"config.scaling.networks is {c.networks}: the zoo has "
      f"{zoos.networks['train']} training networks"
    )
  losses = training.operator_losses(config, inputs)
  edit = batched.edit_networks(operator)
  validate_networks = validation.validation_metrics(
    losses, images.val_x, images.val_y
  )

  def validate(params: Params) -> dict[str, float]:
    return validate_networks(edit(params, zoos.val))

  jobs = {}
  for count in c.networks:
    train = zoos.train.take(zoos.owner < count)
    device_data = devices.replicate((train, images.train_x, images.train_y))
    for seed in select.seeds(config):
      initialized = data_init.init_from_data(
        operator, train, images.train_x, seed
      )
      for steps in c.steps:
        jobs[_job_name(count, steps, seed)] = TrainingJob(
          initialized,
          training.operator_objective(config, operator, losses, steps),
          device_data,
          validate,
          steps,
          seed,
        )
  return jobs


def mean_row(
  keys: Mapping[str, Any],
  edited: Sequence[Networks],
  evaluator: methods.Evaluator,
  original: scores.Scores,
) -> dict[str, Any]:
  """A row with means over seeds.

  Args:
    keys: of the row.
    edited: the test networks as the method leaves them, for each seed.
    evaluator: test images.
    original: the scores of the original test networks.
  """
  rows = [
    scores.score_row(keys, evaluator.scores(networks), original)
    for networks in edited
  ]
  means = {
    key: float(np.mean([row[key] for row in rows]))
    for key in ("objective", "accuracy_mean", "accuracy_min")
  }
  spread = float(np.std([row["objective"] for row in rows]))
  return {**keys, "spread": spread, **means}


def _job_name(networks: int, steps: int, seed: int) -> str:
  return f"{networks}/{steps}/{seed}"
