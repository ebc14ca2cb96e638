"""Biases that make up for rounded kernels, beside rounding and training."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys
from experiments.build.schema import Key, several, some_of, whole
from experiments.compression import measure, report, runs
from experiments.quantize import methods
from experiments.runner import pictures
from experiments.runner.experiment import Plan

KEYS: dict[str, Key] = {
  "quantize.bits": Key(several(whole(2, 8)), "bits of a kernel entry"),
  "quantize.steps_per": Key(
    some_of(methods.STEPS_PER), "what has a step of rounding of its own"
  ),
  "quantize.distillation_steps": Key(
    several(whole(1, 10**6)), "steps of the methods that are trained"
  ),
  "quantize.learning_rates": Key(keys.RATES, "of their Adam"),
}
"""Keys of this experiment, see `build.schema`."""


check = runs.check

LABELS = {
  "original": "original",
  measure.OPERATOR: "operator",
  "nearest": "rounded, equal ranges",
  "nearest_balanced": "rounded, balanced",
  "nearest_as_stored": "rounded as stored",
  "biases": "biases trained",
  "distillation": "distillation",
}


def _label_of(method: str) -> str:
  """Of a method that is trained, its name ends with the number of steps."""
  if method in LABELS:
    return LABELS[method]
  kind, _, steps = method.rpartition("_")
  return f"{LABELS[kind]}, {steps} step" + "s" * (steps != "1")


COLORS = {
  measure.OPERATOR: pictures.color(measure.OPERATOR),
  "nearest": pictures.GREEN,
  "biases": pictures.ORANGE,
  "distillation": pictures.PURPLE,
}
"""{beginning of the names of methods: their color}."""


def _style_of(method: str) -> tuple[str, str]:
  return COLORS[method.partition("_")[0]], "o-"


WORDS = report.Words(
  _label_of,
  _style_of,
  "at each number of bits of a kernel entry",
  "bits of a kernel entry",
)


def _title(bits: int, per_channel: bool) -> str:
  return f"{bits} bits" + ", per channel" * per_channel


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  level = _title(row["bits"], row["per_channel"]) if "bits" in row else ""
  return report.label(WORDS, row, level)


def levels(config: ConfigDict) -> list[report.Level]:
  """Columns of the table."""
  found = []
  for place, grid in enumerate(methods.grids(config)):
    title = _title(*grid)
    found.append(report.Level(grid.name, title, title, place, grid._asdict()))
  return found


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  first = methods.grids(config)[0]
  return runs.preview(
    config, lambda target: methods.make_operator(config, target, first)
  )


def plan(config: ConfigDict) -> Plan:
  """Biases that a metanetwork corrects, and rivals, on the test networks."""
  return runs.plan(
    config, WORDS, levels(config), methods.make_jobs, methods.measure_methods
  )
