"""Averages of networks of different seeds, aligned and not."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import (
  SECTION,
  Key,
  real,
  several,
  whole,
)
from experiments.merge import data, methods, report
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan
from scalegmn_jax.base import Params
from scalegmn_jax.partial import NOTHING, Partial

KEYS: dict[str, Key] = {
  **keys.targets("merge.architectures"),
  "zoo.size": Key(whole(2), "networks of each architecture and width"),
  "merge.architectures": Key(
    SECTION, "arguments of targets, see `make_target`"
  ),
  "merge.widths": Key(
    several(whole(1, 1024)), "factors of the widths of their layers"
  ),
  "merge.points": Key(whole(3, 1000), "networks on a line between two"),
  "merge.images": Key(whole(1), "inputs for alignment by images"),
  "merge.measured": Key(whole(1), "training images that losses are of"),
  "merge.decades": Key(
    real(0, 10), "multipliers of the other gauge are in 10**±decades"
  ),
  "inr.pictures": Key(whole(0), "pictures to which SIRENs are fitted; 0: none"),
  "inr.hidden": Key(keys.LAYER_SIZES, "sizes of their hidden layers"),
  "inr.omega": Key(keys.POSITIVE, "factor before the sine"),
  "inr.epochs": Key(whole(1), "of the fit"),
  "inr.learning_rate": Key(keys.RATE, "of the fit"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  for name in config.merge.architectures:
    build.need(
      config,
      f"merge.architectures.{name}.name",
      lambda v: v in data.WIDE,
      f"one of {', '.join(data.WIDE)}",
    )


label = report.label


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  return [
    work.image_work(config, images),
    *(
      work.zoo_work(other, target, images, f"{name}, {width}x")
      for (name, width), (other, target) in data.architectures(
        config, images
      ).items()
    ),
  ]


def plan(config: ConfigDict) -> Plan:
  """No trainings of metanetworks: networks are trained, and averaged."""
  images = build.build_images(config)
  found = data.architectures(config, images)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    del params
    rows: list[dict[str, Any]] = []

    def measure(name, width, target, groups):
      progress.console.print(f"measure {name}, {width}x")
      subject = data.Subject(name, width, target, groups)
      rows.extend(methods.rows_of(config, subject, partial))

    for (name, width), (other, target) in found.items():
      measure(name, width, target, [data.classifiers(other, target, images)])
    for width in config.merge.widths if config.inr.pictures else ():
      target = data.siren(config, images, width)
      groups = data.fitted(config, target, images)
      measure(data.INR, width, target, groups)
    networks = sum(row["networks"] for row in rows if row["method"] == "plain")
    heading = f"{networks} networks, seed {config.seed}"
    return Outcome(
      [report.table(rows)],
      report.conclusions(rows),
      {"barriers.png": report.picture(rows, heading)},
      {},
    )

  return Plan({}, evaluate)
