"""Settings and training jobs of the experiments on INRs."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

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
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from experiments.runner.select import AnyMetaNetwork
from scalegmn_jax.base import MetaNetwork
from scalegmn_jax.training.step import Objective
from scalegmn_jax.zoo import inrs, store


def keys_of(
  metanetworks: Collection[str], baselines: Collection[str] = ()
) -> Keys:
  """The keys of an experiment on INRs, see `build.schema`.

  Args:
    metanetworks: the methods that are trained.
    baselines: the other methods.
  """
  return {
    "methods": Key(some_of((*metanetworks, *baselines)), "rows of the table"),
    "learning_rates.*": Key(
      keys.RATES,
      "candidates of a method; validation selects one; without the key: "
      "train.learning_rate",
    ),
    "steps.*": Key(
      whole(1),
      "of a method that takes others than train.steps, if train.budget is "
      "steps",
    ),
    # Seeds would not be told apart from learning rates in the table.
    "train.seeds": Key(keys.ONE_SEED, "of φ; (): config.seed"),
    "train.budget": keys.budget_of(metanetworks),
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
    "zoo.coarse": Key(
      whole(1, 1024), "width of blocks of pixels whose means are fitted"
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


def _learning_rates(config: ConfigDict, method: str) -> tuple[float, ...]:
  """Candidates of a method."""
  own = config.learning_rates.get(method, ())
  return tuple(own) or (config.train.learning_rate,)


def preview(
  config: ConfigDict,
  make: Callable[..., MetaNetwork],
  metanetworks: Collection[str],
) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins.

  Args:
    config: of the experiment.
    metanetworks: the methods that are trained.
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

  trained = [m for m in config.methods if m in metanetworks]
  fit = 0 if c.path else 3 * networks * c.epochs / c.coarse**2
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
      ", ".join(trained),
      make(target, **config.model),
      work.network_shapes(target),
      trainings=sum(len(_learning_rates(config, m)) for m in trained)
      * config.train.restarts,
      steps=config.train.steps,
      batch=config.train.batch_networks,
    ),
  ]


def steps_by_method(
  config: ConfigDict,
  metanetworks: Mapping[str, AnyMetaNetwork],
  make: Callable[[str], AnyMetaNetwork],
  objective: Callable[[AnyMetaNetwork], Objective],
  data: Any,
) -> dict[str, int]:
  """{method: number of steps}: see `select.steps`, and the section `steps`."""
  found = select.steps(config, metanetworks, make, objective, data)
  own = config.steps if config.train.budget == "steps" else {}
  return {method: own.get(method, count) for method, count in found.items()}


def jobs_by_method(
  config: ConfigDict,
  make_job: Callable[[str, str, float], TrainingJob],
  methods: Iterable[str],
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: the job}}, a job for each learning rate.

  Args:
    config: of the run.
    make_job: (method, name of the job, learning rate) -> job.
    methods: the metanetworks among the methods.
  """
  return {
    method: {
      name: make_job(method, name, rate)
      for rate in _learning_rates(config, method)
      for name in [f"{method}/{rate:g}"]
    }
    for method in methods
  }
