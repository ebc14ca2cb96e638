"""Pruning: networks of a zoo and one network, by many methods."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import (
  NONE,
  Key,
  either,
  path,
  real,
  several,
  some_of,
  where,
  whole,
)
from experiments.prune import data as prune_data
from experiments.prune import methods, report, training
from experiments.prune.compare import make_comparison
from experiments.runner import select
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import seeds
from scalegmn_jax.base import Params
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial

_LAMBDAS = several(keys.POSITIVE)

KEYS: dict[str, Key] = {
  "train.steps": Key(whole(1), "training steps of the operator"),
  "prune.sparsities": Key(
    where(several(real(0, 1)), lambda v: max(v) < 1, "below 1"),
    "shares of zero kernel entries",
  ),
  "prune.epochs": Key(whole(2, 10**6), "of fine-tuning"),
  "prune.batch_size": Key(keys.BATCH, "images per step of fine-tuning"),
  "prune.learning_rates": Key(keys.RATES, "of Adam"),
  "prune.rounds": Key(
    whole(1, 10**6),
    "of iterative magnitude pruning, at most one per epoch",
  ),
  "prune.l1": Key(_LAMBDAS, "λ of the L1 method"),
  "prune.snip_images": Key(whole(1), "images of the method SNIP"),
  "prune.predictor_steps": Key(
    whole(1), "training steps of the accuracy predictor"
  ),
  "prune.own_steps": Key(
    whole(0), "steps of an operator of the one network; 0: none"
  ),
  "prune.ascent_steps": Key(
    whole(1, 10**6),
    "on the weights, in predicted accuracy - λ·balanced L1",
  ),
  "prune.ascent_learning_rates": Key(keys.RATES, "of Adam on the weights"),
  "prune.ascent_l1": Key(_LAMBDAS, "λ, in logits of accuracy"),
  "prune.extensions": Key(
    whole(0, 100), "extensions of a grid whose edge is the best"
  ),
  "prune.subjects": Key(some_of(prune_data.SUBJECTS), "one table for each"),
  "prune.network": Key(
    either(NONE, whole(0)), "a test network; None: the best on validation"
  ),
  "prune.network_path": Key(
    path("a test network"), "a .npy file of the one network"
  ),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  c = config.prune

  def need(keys, good, expected):
    for key in keys.split():
      build.need(config, key, good, expected)

  if "network" not in c.subjects:
    expected = "none without 'network' in config.prune.subjects"
    need(
      "prune.network prune.network_path", lambda v: v in (None, ""), expected
    )
  if c.network_path:
    expected = "none beside config.prune.network_path"
    need("prune.network", lambda v: v is None, expected)
  warmup = config.train.warmup
  more = f"more than train.warmup, {warmup}"
  need("prune.predictor_steps", lambda v: v > warmup, more)
  if c.own_steps:
    need("prune.own_steps", lambda v: v > warmup, more)
    need("train.grad_chunk", lambda v: v in (0, 1), "0 or 1")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  c = config.prune
  images = build.build_images(config)
  target = build.build_target(config, images)
  if c.network_path:
    build.build_network(c.network_path, target)
  operator = metanetworks.operator(target, **config.model)
  trainings = len(seeds(config)) * config.train.restarts
  single = "network" in c.subjects and c.own_steps
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    work.operator_work(
      "operator",
      config,
      target,
      operator,
      trainings=trainings,
      steps=config.train.steps,
    ),
    work.training_work(
      "predictor",
      metanetworks.functional(target, **config.model),
      work.network_shapes(target),
      trainings=trainings,
      steps=c.predictor_steps,
      batch=config.train.batch_networks,
    ),
    *(
      [
        work.operator_work(
          training.SINGLE,
          config,
          target,
          operator,
          trainings=config.train.restarts,
          steps=c.own_steps,
          batch=1,
        )
      ]
      if single
      else []
    ),
  ]


def plan(config: ConfigDict) -> Plan:
  """Operators and predictors of a zoo; pruning with and without them."""
  data = prune_data.load(config)
  models = training.make_metanetworks(config, data)
  sparsities = config.prune.sparsities

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    pre_edits = methods.make_pre_edits(config, data, models, params)
    compare = make_comparison(config, data.target, data.images)
    tables, lines, pictures, tuning = [], [], {}, {}
    for name, subject in data.subjects.items():
      results = compare(
        subject,
        methods.make_methods(config, data, pre_edits[name]),
        partial.of(name),
      )
      table, conclusions, pictures[f"pruning_{name}.png"] = (
        report.subject_report(
          data, name, results, sparsities, select.seeds(config)
        )
      )
      tables.append(table)
      lines += conclusions
      tuning[name] = report.tuning(results)
    if "network" in data.subjects and config.data.name == "cifar10_gs":
      tables.append(report.published())
    extra = {"zoo": data.zoo.networks, "tuning": tuning}
    return Outcome(tables, lines, pictures, extra)

  return Plan(training.make_jobs(config, data, models), evaluate)
