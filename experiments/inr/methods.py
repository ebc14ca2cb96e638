"""Settings and training jobs of the experiments on INRs."""

from collections.abc import Callable, Iterable

from ml_collections import ConfigDict

from experiments.build import keys
from experiments.build.schema import EMPTY, Key, Keys, some_of, whole
from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import InputError


def keys_of(methods: Iterable[str]) -> Keys:
  """The keys of an experiment on INRs, see `build.schema`.

  Args:
    methods: the known methods.
  """
  return {
    "methods": Key(some_of(tuple(methods)), "rows of the table"),
    "learning_rates.*": Key(keys.RATES, "candidates; validation selects one"),
    # Seeds would not be told apart from learning rates in the table.
    "train.seeds": Key(EMPTY, "none: the seed is config.seed"),
    "zoo.train_images": Key(whole(1), "the first training images"),
    "zoo.val_images": Key(whole(1), "the first validation images"),
    "zoo.test_images": Key(whole(1), "the first test images"),
    "zoo.views": Key(whole(1, 10**6), "networks per training image"),
    "zoo.epochs": Key(whole(1), "of the fit"),
    "zoo.batch_size": Key(whole(0), "pixels per step; 0: all"),
    "zoo.learning_rate": Key(keys.RATE, "of the fit"),
    "zoo.vmap_size": Key(
      whole(0, 10**6), "networks fitted side by side; 0: the fastest"
    ),
  }


def check(config: ConfigDict) -> None:
  """Raises InputError for a method without learning rates."""
  for name in tuple(config.methods):
    if name not in config.learning_rates:
      raise InputError(f"config.learning_rates.{name} is missing")


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
