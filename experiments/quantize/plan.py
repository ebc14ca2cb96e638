"""Biases that make up for rounded kernels, beside rounding and training."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import Key, several, some_of, whole
from experiments.compression import measure, report
from experiments.quantize import methods
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan
from scalegmn_jax.base import Params
from scalegmn_jax.partial import NOTHING, Partial

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


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(
    config, "eval.test_networks", lambda v: v > 1, "at least 2, for intervals"
  )


LABELS = {
  "original": "original",
  methods.OPERATOR: "operator",
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
  methods.OPERATOR: pictures.color(methods.OPERATOR),
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
  images = build.build_images(config)
  target = build.build_target(config, images)
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    work.operator_work(
      methods.OPERATOR,
      config,
      target,
      methods.make_operator(config, target, methods.grids(config)[0]),
      trainings=len(select.seeds(config)) * config.train.restarts,
      steps=config.train.steps,
    ),
  ]


def plan(config: ConfigDict) -> Plan:
  """Biases that a metanetwork corrects, and rivals, on the test networks."""
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
