"""Gauge freedom: directions of the weights that leave the function unchanged.

Counts the gauge directions of networks and of the MLPs that compute the same
maps, confirms by the Jacobian that outputs do not change along them, and
measures how much of an L1 penalty is gauge: in zoos, and in the training of
operators.
"""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.gauge import data as gauge_data
from experiments.gauge import directions, methods, null_spaces, pictures, report
from experiments.gauge import l1 as gauge_l1
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import seeds
from scalegmn_jax.base import Params
from scalegmn_jax.partial import NOTHING, Partial


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(config, "target.name", lambda v: v == "cnn", "'cnn'")
  build.need(
    config, "target.activation", lambda v: len(v) == 1, "one activation"
  )
  build.need(
    config,
    "gauge.images",
    lambda v: v and v[0] >= 1 and list(v) == sorted(set(v)),
    "ascending numbers from 1",
  )
  for key in ("size", "epochs", "tested", "sample", "largest"):
    build.need(config, f"gauge.{key}", lambda v: v >= 1, "at least 1")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def plan(config: ConfigDict) -> Plan:
  """Operators with both penalties; gauge freedom of networks."""
  data = gauge_data.load(config)
  model = methods.make_model(config, data)
  l1, num_seeds = config.loss.l1, len(seeds(config))

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    subjects = gauge_data.load_subjects(data)
    partial.check()
    with jax.enable_x64(True):
      subjects = gauge_data.with_mlps(subjects)
      counts = directions.direction_rows(config, subjects, data.images)
      partial.check()
      spaces = null_spaces.null_spaces(config, subjects, data.images)
    norms = gauge_l1.zoo_norms(config, data)
    final = gauge_l1.final_norms(norms)
    operators = methods.operator_rows(config, data, model, params, partial)
    tables = [
      report.direction_table(counts),
      report.null_space_table(spaces),
      report.norm_table(norms, l1),
      report.layer_table(final),
      report.operator_table(operators, data.zoo.networks, num_seeds, l1),
    ]
    figures = {
      "directions.png": pictures.directions(data.target),
      "l1.png": pictures.norms(
        final,
        look.heading({"zoo": len(final[0].norms.plain)}, [config.seed]),
      ),
    }
    if spaces:
      figures["spectrum.png"] = pictures.spectrum(spaces)
      figures["images.png"] = pictures.images(spaces)
    extra = {
      "zoo": data.zoo.networks,
      "null_space_by_images": [space.curve for space in spaces],
    }
    lines = report.conclusions(counts, spaces, final, operators, l1)
    return Outcome(tables, lines, figures, extra)

  return Plan(methods.make_jobs(config, data, model), evaluate)
