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
from experiments.build import keys, work
from experiments.build.schema import (
  SECTION,
  Key,
  one_of,
  path,
  several,
  some_of,
  where,
  whole,
)
from experiments.gauge import data as gauge_data
from experiments.gauge import directions, methods, null_spaces, pictures, report
from experiments.gauge import l1 as gauge_l1
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import seeds
from scalegmn_jax.base import Params
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner.losses import PENALTIES
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.targets.activations import ACTIVATIONS

KEYS: dict[str, Key] = {
  **keys.targets("gauge.architectures"),
  "target.name": Key(one_of("cnn"), "architecture"),
  "target.activation": Key(some_of(ACTIVATIONS, 1, 1), "of all networks"),
  "gauge.network_path": Key(
    path("none"), "a .npy file of one more network of the target"
  ),
  "gauge.architectures": Key(
    SECTION, "arguments of more targets, see `make_target`"
  ),
  "gauge.size": Key(
    whole(1, 10**6), "networks of each architecture; one is measured"
  ),
  "gauge.epochs": Key(whole(1, 10**6), "of their training"),
  "gauge.images": Key(
    where(several(whole(1)), lambda v: list(v) == sorted(set(v)), "ascending"),
    "numbers of images for the Jacobian",
  ),
  "gauge.largest": Key(
    whole(1), "most weights for a decomposition of the Jacobian"
  ),
  "gauge.tested": Key(
    whole(1), "tangents per network along which the Jacobian is taken"
  ),
  "gauge.sample": Key(whole(1), "networks per step whose L1 norm is measured"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """No value of a key limits another one."""
  del config


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  gauge_data.check_images(config, images)
  target = build.build_target(config, images)
  gauge_data.read_network(config, target)
  others = gauge_data.other_architectures(config, images)
  gauge_data.check_unrolled([target, *(t for _, t in others.values())])
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    *(
      work.zoo_work(other, other_target, images, name)
      for name, (other, other_target) in others.items()
    ),
    work.operator_work(
      "operators",
      config,
      target,
      metanetworks.operator(target, **config.model),
      trainings=len(PENALTIES) * len(seeds(config)) * config.train.restarts,
      steps=config.train.steps,
    ),
  ]


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
