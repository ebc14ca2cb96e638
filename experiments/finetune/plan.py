"""Amortized fine-tuning: an operator, trained on a zoo, edits networks."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import Key, one_of, several, some_of, whole
from experiments.finetune import (
  data,
  dependence,
  methods,
  report,
  training,
)
from experiments.finetune.report import label as label
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan, Table
from experiments.writers import WRITERS
from scalegmn_jax.base import Params
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial

_EPOCHS_AFTER = several(whole(1, 10**6), 0)


KEYS: dict[str, Key] = {
  "writer": Key(
    one_of(*WRITERS),
    "the operator; scalegmn: as the section model says, others with what they "
    "change",
  ),
  "train.seeds": Key(keys.ONE_SEED, "of φ; (): config.seed"),
  "train.budget": keys.budget_of(WRITERS)._replace(
    doc="the operator has train.steps steps; or as many operations as this one "
    "has in them"
  ),
  "loss.supervision": Key(
    one_of(*report.SUPERVISION),
    "labels, or outputs of the original network",
  ),
  "baselines.methods": Key(
    keys.descents(0), "(optimizer, schedule) of each; (): no such rows"
  ),
  "baselines.constant_epochs": Key(
    whole(0, 10**6), "training of one constant network; 0: no constant rows"
  ),
  "baselines.last_layer_steps": Key(
    whole(0, 1000), "Newton steps; 0: no last-layer rows"
  ),
  "baselines.epochs_after_edit": Key(
    _EPOCHS_AFTER, "epochs of Adam after the operator"
  ),
  "baselines.epochs_after_constant": Key(
    _EPOCHS_AFTER, "epochs after another network's training"
  ),
  "baselines.metanetworks": Key(
    some_of([name for name in WRITERS if name != "constant"], 0),
    "other operators, trained with the same FLOPs",
  ),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for rows that need others that there are not."""
  for key in ("epochs_after_edit", "epochs_after_constant"):
    build.need(
      config,
      f"baselines.{key}",
      lambda v: not v or len(config.baselines.methods) > 0,
      "() without baselines.methods",
    )
  for key in ("epochs_after_constant", "last_layer_steps"):
    build.need(
      config,
      f"baselines.{key}",
      lambda v: not v or config.baselines.constant_epochs > 0,
      "none of them without constant_epochs, which they go on from",
    )


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  operator = work.operator_work(
    training.OPERATOR,
    config,
    target,
    metanetworks.operator(target, **config.model),
    trainings=config.train.restarts,
    steps=config.train.steps,
  )
  others = tuple(config.baselines.metanetworks)
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    *work.ood_work(config, target, images),
    # The baseline metanetworks get as many operations.
    *(operator._replace(name=name) for name in (operator.name, *others)),
    work.descent_work(config, target, images),
  ]


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
    depends = dependence.numbers(
      inputs.target, inputs.zoos.test, edit, inputs.images.device_splits()[2],
      partial,
    )  # fmt: skip
    result = outcome(config, inputs, comparison, ood, errors, depends)
    return result._replace(lines=[*result.lines, *evaluator.left_out])

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
  depends: dependence.Numbers | None,
) -> Outcome:
  """Tables, verdicts and pictures.

  Args:
    config: of the run.
    inputs: the networks.
    comparison: all methods on the test networks.
    ood: rows of the out-of-distribution networks.
    errors: see `symmetry_errors`.
    depends: see `dependence.numbers`.
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
      *report.dependence_verdicts(
        measurements, depends, inputs.zoos.test.class_to_output is not None
      ),
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
      "dependence": depends,
      "tuning": report.tuning(comparison),
    },
  )
