"""Previews and plans of experiments that compress networks."""

from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

from experiments import build
from experiments.build import work
from experiments.compression import measure, report
from experiments.compression.measure import CompressionData, Measured
from experiments.runner import pictures, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import Operator, Params, TargetNetwork
from scalegmn_jax.partial import NOTHING, Partial


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(
    config, "eval.test_networks", lambda v: v > 1, "at least 2, for intervals"
  )


def preview(
  config: ConfigDict, make_operator: Callable[[TargetNetwork], Operator]
) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  return [
    work.image_work(config, images),
    work.zoo_work(config, target, images),
    work.operator_work(
      measure.OPERATOR,
      config,
      target,
      make_operator(target),
      trainings=len(select.seeds(config)) * config.train.restarts,
      steps=config.train.steps,
    ),
  ]


def plan(
  config: ConfigDict,
  words: report.Words,
  levels: Sequence[report.Level],
  make_jobs: Callable[[ConfigDict, CompressionData], dict[str, TrainingJob]],
  measure_methods: Callable[..., Mapping[str, Measured]],
) -> Plan:
  """An operator, and other methods, on the test networks.

  Args:
    config: of the run.
    words: texts of the experiment.
    levels: columns of the tables.
    make_jobs: the trainings of a run.
    measure_methods: (config, data, {training: φ}, partial results) -> {method:
      what is left of the test networks}.
  """
  data = measure.load(config)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    results = measure_methods(config, data, params, partial)
    networks = data.zoo.networks
    counts = {"test": networks["test"], "training": networks["train"]}
    return report.outcome(
      words,
      results,
      measure.original(data),
      levels,
      pictures.heading(counts, select.seeds(config)),
      networks,
    )

  return Plan(make_jobs(config, data), evaluate)
