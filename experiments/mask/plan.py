"""Which weights of a network can go: learned scores, and others."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import work
from experiments.build.schema import Key, real, several, where, whole
from experiments.compression import measure, report
from experiments.mask import methods
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.report import percent
from scalegmn_jax.base import Params
from scalegmn_jax.partial import NOTHING, Partial

KEYS: dict[str, Key] = {
  "mask.sparsities": Key(
    where(
      several(real(0, 1)), lambda v: 0 < min(v) and max(v) < 1, "inside (0, 1)"
    ),
    "shares of the kernel entries that are removed",
  ),
  "mask.synflow_rounds": Key(whole(1, 10**4), "rounds of SynFlow"),
  "mask.obd_images": Key(whole(1), "images of OBD, without labels"),
  "mask.snip_images": Key(whole(1), "images of SNIP, with labels"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(
    config, "eval.test_networks", lambda v: v > 1, "at least 2, for intervals"
  )


LABELS = {
  "original": "original",
  methods.OPERATOR: "operator",
  "magnitude": "magnitude",
  "magnitude_l1_gauge": "magnitude (L1 gauge)",
  "magnitude_of_unit_norm": "magnitude (unit norm)",
  "magnitude_as_stored": "magnitude (as stored)",
  "synflow": "SynFlow",
  "obd": "OBD",
  "snip": "SNIP",
}
STYLES = {
  "magnitude_l1_gauge": "s--",
  "magnitude_of_unit_norm": "v-.",
  "magnitude_as_stored": "^:",
}
"""{method: marker and line, where another method has the same color}."""

WORDS = report.Words(
  LABELS.__getitem__,
  lambda method: (pictures.color(method), STYLES.get(method, "o-")),
  "at each share of removed kernel entries",
  "removed kernel entries",
)


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  level = percent(row["sparsity"]) if "sparsity" in row else ""
  return report.label(WORDS, row, level)


def levels(config: ConfigDict) -> list[report.Level]:
  """Columns of the table."""
  return [
    report.Level(f"{s:g}", percent(s), f"{percent(s)} removed", 100 * s,
                 {"sparsity": s})
    for s in config.mask.sparsities
  ]  # fmt: skip


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  sparsities = config.mask.sparsities
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    work.operator_work(
      methods.OPERATOR,
      config,
      target,
      methods.make_operator(config, target, sparsities[0]),
      trainings=len(select.seeds(config)) * config.train.restarts,
      steps=config.train.steps,
    ),
  ]


def plan(config: ConfigDict) -> Plan:
  """Scores that a metanetwork learns, and others, on the test networks."""
  data = measure.load(config)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    results = methods.measure_methods(config, data, params, partial)
    networks = data.zoo.networks
    counts = {"test": networks["test"], "training": networks["train"]}
    return report.outcome(
      WORDS,
      results,
      measure.original(data),
      levels(config),
      pictures.heading(counts, select.seeds(config)),
      networks,
    )

  return Plan(methods.make_jobs(config, data), evaluate)
