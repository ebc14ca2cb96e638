"""Which weights of a network can go: learned scores, and others."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build.schema import Key, real, several, where, whole
from experiments.compression import measure, report, runs
from experiments.mask import methods
from experiments.runner import pictures
from experiments.runner.experiment import Plan
from experiments.runner.report import percent

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


check = runs.check

LABELS = {
  "original": "original",
  measure.OPERATOR: "operator",
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
  first = config.mask.sparsities[0]
  return runs.preview(
    config, lambda target: methods.make_operator(config, target, first)
  )


def plan(config: ConfigDict) -> Plan:
  """Scores that a metanetwork learns, and others, on the test networks."""
  return runs.plan(
    config, WORDS, levels(config), methods.make_jobs, methods.measure_methods
  )
