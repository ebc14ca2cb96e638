"""Settings and training jobs of the experiments on INRs."""

from collections.abc import Callable, Iterable

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import (
  EMPTY,
  FLAG,
  Key,
  Keys,
  either,
  one_of,
  real,
  several,
  some_of,
  whole,
)
from experiments.inr.data import make_target
from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import InputError, MetaNetwork
from scalegmn_jax.zoo import inrs, store


def keys_of(methods: Iterable[str]) -> Keys:
  """The keys of an experiment on INRs, see `build.schema`.

  Args:
    methods: the known methods.
  """
  return {
    "methods": Key(some_of(tuple(methods)), "rows of the table"),
    "learning_rates.*": Key(keys.RATES, "candidates; validation selects one"),
    "steps.*": Key(whole(1), "of a method that takes others than train.steps"),
    # Seeds would not be told apart from learning rates in the table.
    "train.seeds": Key(EMPTY, "none: the seed is config.seed"),
    "zoo.train_images": Key(whole(1), "the first training images"),
    "zoo.val_images": Key(whole(1), "the first validation images"),
    "zoo.test_images": Key(whole(1), "the first test images"),
    "zoo.views": Key(whole(1, 10**6), "networks per training image"),
    "zoo.epochs": Key(whole(1), "of the fit"),
    "zoo.batch_size": Key(whole(0), "pixels per step; 0: all"),
    "zoo.learning_rate": Key(keys.RATE, "of the fit"),
    "zoo.init": Key(
      one_of(*inrs.INITS), "initialization, see zoo.inrs.cached_inrs"
    ),
    "zoo.shared_init": Key(FLAG, "one initialization for all networks"),
    "zoo.schedule": Key(
      one_of(*inrs.SCHEDULES), "of the learning rate of the fit"
    ),
    "zoo.stop_psnr": Key(
      real(0, 1000), "dB at which a network is left as it is; 0: never"
    ),
    "zoo.epochs_per_call": Key(
      whole(1), "epochs of one compiled call, a divisor of zoo.epochs"
    ),
    "zoo.offset": Key(
      real(-1e6, 1e6), "added to outputs; 0.5 in the public data sets"
    ),
    "zoo.axes": Key(
      either(EMPTY, several(whole(0, 1), 2, 2)),
      "order of (row, column); (1, 0): networks of (x, y)",
    ),
    "zoo.omega": Key(
      several(real(0, 1e4, above=True), 0),
      "of each hidden layer, or one for all; (): target.omega",
    ),
    "zoo.vmap_size": Key(
      whole(0, 10**6), "networks fitted side by side; 0: the fastest"
    ),
  }


def check(config: ConfigDict) -> None:
  """Raises InputError for a method without learning rates."""
  for name in tuple(config.methods):
    if name not in config.learning_rates:
      raise InputError(f"config.learning_rates.{name} is missing")


def preview(
  config: ConfigDict, make: Callable[..., MetaNetwork]
) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins.

  Args:
    config: of the experiment.
    make: `metanetworks.functional` or `metanetworks.operator`.
  """
  c = config.zoo
  images = build.build_images(config)
  target = make_target(config, images)
  height, width, _ = images.train_x.shape[1:]
  networks = c.train_images * c.views + c.val_images + c.test_images
  weights = work.count_weights(target)
  if c.path:
    networks = len(store.read_zoo(c.path).weights)

  def pixel_flops() -> float:
    return height * width * work.image_flops(target)

  fit = 0 if c.path else 3 * networks * c.epochs
  rates = config.learning_rates
  return [
    work.image_work(config, images),
    build.Work(
      "zoo",
      f"{networks:,} networks of {weights:,} weights",
      lambda: fit * pixel_flops(),
      disk=4.0 * networks * weights * bool(fit),
      memory=4.0 * networks * weights,
    ),
    work.training_work(
      ", ".join(config.methods),
      make(target, **config.model),
      work.network_shapes(target),
      trainings=sum(len(tuple(rates[name])) for name in config.methods)
      * config.train.restarts,
      steps=config.train.steps,
      batch=config.train.batch_networks,
    ),
  ]


def jobs_by_method(
  config: ConfigDict, make_job: Callable[[str, str, float], TrainingJob]
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: the job}}, a job for each learning rate.

  Args:
    config: has `methods`, `learning_rates` and `steps`.
    make_job: (method, name of the job, learning rate) -> job, which gets the
      steps of its method if `steps` has them.
  """

  def job(method, name, rate):
    made = make_job(method, name, rate)
    return made._replace(steps=config.steps.get(method, made.steps))

  return {
    method: {
      name: job(method, name, rate)
      for rate in config.learning_rates[method]
      for name in [f"{method}/{rate:g}"]
    }
    for method in tuple(config.methods)
  }
