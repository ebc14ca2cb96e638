"""Amortized fine-tuning: an operator, trained on a zoo, edits networks."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.finetune import data, methods, report, training
from experiments.finetune.report import label as label
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan, Table
from scalegmn_jax.base import Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.inner import finetune
from scalegmn_jax.inner.losses import PENALTIES
from scalegmn_jax.partial import NOTHING, Partial


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  metanetworks = [s for s in symmetry_levels.SYMMETRIES if s != "target"]
  build.need(
    config,
    "baselines.metanetworks",
    lambda v: set(v) <= set(metanetworks),
    f"some of {', '.join(metanetworks)}",
  )
  build.need(
    config,
    "loss.supervision",
    lambda v: v in report.SUPERVISION,
    f"one of {', '.join(report.SUPERVISION)}",
  )
  build.need(
    config,
    "train.seeds",
    lambda v: len(v) <= 1,
    "at most one seed: this experiment trains one operator",
  )
  check_training(config)


def check_training(config: ConfigDict) -> None:
  """Checks the objective of operators and the methods of gradient descent."""
  build.need(
    config,
    "loss.penalty",
    lambda v: v in PENALTIES,
    f"one of {', '.join(PENALTIES)}",
  )
  build.need(config, "loss.l1", lambda v: v >= 0, "0 or more")
  build.need(
    config,
    "loss.ramp",
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 1,
    "0 <= begin <= end <= 1, shares of the steps",
  )
  known = [(o, s) for o in finetune.OPTIMIZERS for s in finetune.SCHEDULES]
  build.need(
    config,
    "baselines.methods",
    lambda v: len(v) > 0 and set(v) <= set(known),
    "some of " + ", ".join(map(str, known)),
  )


def plan(config: ConfigDict) -> Plan:
  """Trains the operator and baseline metanetworks, and compares all methods."""
  inputs = data.load_inputs(config)
  populations = data.load_ood(config, inputs)
  trained = training.training_jobs(config, inputs)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    edits = {
      name: functools.partial(edit, params[name])
      for name, edit in trained.edits.items()
    }
    edit = edits.pop(training.OPERATOR)
    evaluator = methods.make_evaluator(config, inputs)
    setting = methods.Setting(config, inputs, evaluator, partial)
    comparison = methods.compare(setting, edit, edits)
    ood = methods.ood_rows(evaluator, populations, edit, partial.of("ood"))
    errors = symmetry_errors(config, inputs, trained, params[training.OPERATOR])
    return outcome(config, inputs, comparison, ood, errors)

  return Plan(trained.jobs, evaluate)


def symmetry_errors(
  config: ConfigDict,
  inputs: data.Inputs,
  trained: training.Training,
  params: Params,
) -> dict[str, np.ndarray]:
  """{"functions", "weights": symmetry error of each test network}."""
  args = params, inputs.zoos.test, jax.random.key(config.seed)
  return {
    "functions": trained.function_error(*args),
    "weights": trained.update_error(*args),
  }


def outcome(
  config: ConfigDict,
  inputs: data.Inputs,
  comparison: methods.Comparison,
  ood: Sequence[Mapping[str, Any]],
  errors: Mapping[str, np.ndarray],
) -> Outcome:
  """Tables, verdicts and pictures.

  Args:
    config: of the run.
    inputs: the networks.
    comparison: all methods on the test networks.
    ood: rows of the out-of-distribution networks.
    errors: see `symmetry_errors`.
  """
  measurements, networks = comparison.measurements, inputs.zoos.networks
  main = Table(
    report.title(networks, config.loss.supervision, config.loss.l1),
    report.COLUMNS,
    [m.row for m in measurements],
    report.SHORT,
  )
  others = Table(
    "regauged and out-of-distribution networks x test images",
    {key: report.COLUMNS[key] for key in report.OOD_COLUMNS},
    ood,
    report.OOD_SHORT,
    "networks",
  )
  return Outcome(
    [main, others],
    [
      *report.verdicts(measurements),
      report.symmetry_verdict(errors["functions"], errors["weights"]),
    ],
    report.pictures(
      measurements,
      pictures.heading(
        {"test": networks["test"], "training": networks["train"]},
        select.seeds(config),
      ),
    ),
    {
      "zoo": networks,
      "symmetry_error": {key: e.tolist() for key, e in errors.items()},
      "tuning": report.tuning(comparison),
    },
  )
