"""Pruning: networks of a zoo and one network, by many methods."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.prune import data as prune_data
from experiments.prune import methods, report, training
from experiments.prune.compare import make_comparison
from experiments.runner import select
from experiments.runner.experiment import Outcome, Plan
from scalegmn_jax.base import Params
from scalegmn_jax.partial import NOTHING, Partial


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  c = config.prune

  def need(keys, good, expected):
    for key in keys.split():
      build.need(config, key, good, expected)

  need(
    "prune.sparsities",
    lambda v: len(v) > 0 and 0 <= min(v) and max(v) < 1,
    "shares in [0, 1)",
  )
  need("prune.epochs", lambda v: v >= 2, "at least 2")
  need(
    "prune.batch_size prune.rounds prune.snip_images prune.predictor_steps "
    "prune.ascent_steps",
    lambda v: v >= 1,
    "at least 1",
  )
  need(
    "prune.learning_rates prune.l1 prune.ascent_learning_rates prune.ascent_l1",
    lambda v: len(v) > 0 and min(v) > 0,
    "positive numbers",
  )
  need("prune.extensions prune.own_steps", lambda v: v >= 0, "at least 0")
  need(
    "prune.subjects",
    lambda v: len(v) > 0 and set(v) <= set(prune_data.SUBJECTS),
    f"some of {', '.join(prune_data.SUBJECTS)}",
  )
  if "network" not in c.subjects:
    expected = "none without 'network' in config.prune.subjects"
    need(
      "prune.network prune.network_path", lambda v: v in (None, ""), expected
    )
  if c.network_path:
    expected = "none beside config.prune.network_path"
    need("prune.network", lambda v: v is None, expected)
  build.build_optimizer(config, c.predictor_steps)
  if c.own_steps:
    build.build_optimizer(config, c.own_steps)
    need("train.grad_chunk", lambda v: v in (0, 1), "0 or 1")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


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
