"""Settings and training jobs of the experiments on INRs."""

from collections.abc import Callable, Iterable

from ml_collections import ConfigDict

from experiments import build
from experiments.runner.experiment import TrainingJob


def check(config: ConfigDict, methods: Iterable[str]) -> None:
  """Raises InputError for values that neither experiment on INRs can have.

  Args:
    config: has the section of `common.inrs`, `methods` and `learning_rates`.
    methods: the known methods.
  """
  known = tuple(methods)
  for key, good, expected in (
    ("zoo.vmap_size", lambda v: v >= 0, "0 or more"),
    ("target.omega", lambda v: v > 0, "a positive number"),
    (
      "methods",
      lambda v: len(v) > 0 and set(v) <= set(known),
      f"some of {', '.join(known)}",
    ),
    # Seeds would not be told apart from learning rates in the table.
    ("train.seeds", lambda v: not v, "none: the seed is config.seed"),
  ):
    build.need(config, key, good, expected)
  for name in tuple(config.methods):
    build.need(
      config,
      f"learning_rates.{name}",
      lambda v: len(v) > 0 and min(v) > 0,
      "positive numbers",
    )


def jobs_by_method(
  config: ConfigDict, make_job: Callable[[str, str, float], TrainingJob]
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: the job}}, a job for each learning rate.

  Args:
    config: has `methods` and `learning_rates`.
    make_job: (method, name of the job, learning rate) -> job.
  """
  return {
    method: {
      name: make_job(method, name, rate)
      for rate in config.learning_rates[method]
      for name in [f"{method}/{rate:g}"]
    }
    for method in tuple(config.methods)
  }
