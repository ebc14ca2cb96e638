"""Generalization prediction for several architectures by one metanetwork."""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.build import keys, work
from experiments.build.schema import Key, Kind, several, some_of, whole
from experiments.multi_arch import methods, report
from experiments.multi_arch.data import (
  MultiArchData,
  architecture_name,
  check_unseen,
  load_multi_arch,
  make_targets,
)
from experiments.predict_accuracy.methods import regression_validation
from experiments.readers import PROBING
from experiments.runner import progress, select
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import BatchFunctional, Params
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.batch import dataset
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.training.objectives import (
  batch_regression_objective,
)
from scalegmn_jax.training.step import Objective
from scalegmn_jax.zoo import collection

label = report.label


def _is_architecture(value: Any) -> bool:
  sizes = several(whole(1, 2**20))
  return (
    several(Kind(lambda _: True, ""), 4, 4).good(value)
    and all(map(sizes.good, value[:3]))
    and keys.POOL.good(value[3])
  )


KEYS: dict[str, Key] = {
  "architectures": Key(
    Kind(
      several(Kind(_is_architecture, "")).good,
      "(channels, kernel sizes, strides, pool) of each",
    ),
    "of the CNNs: channels, kernel sizes, strides, pool",
  ),
  "methods": Key(some_of(report.LABELS), "rows of the table"),
  "loss.name": Key(keys.REGRESSION_LOSS, "of the prediction"),
  "probes.count": keys.PROBES,
  "train.seeds": Key(
    keys.SEEDS, "of φ; config.seed: of the zoos and their splits"
  ),
  "train.grad_chunk": Key(whole(0, 0), "0: a batch is one graph"),
  "train.buckets": Key(whole(1, 1000), "shapes of batches, each compiled once"),
  "zoo.size": Key(whole(1), "networks of each architecture"),
  "zoo.fractions": keys.KEYS["zoo.fractions"]._replace(
    doc="shares of each architecture; all held-out networks are used"
  ),
  "zoo.unseen": Key(
    whole(0, 10**6), "architectures at the end, unseen in training"
  ),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  build.need(
    config,
    "methods",
    lambda v: not set(v).isdisjoint(methods.METANETWORKS),
    f"at least one of {', '.join(methods.METANETWORKS)}",
  )


def preview(config: ConfigDict) -> list[build.Work]:
  """The work of a run; finds mistakes before it begins."""
  if config.zoo.path:
    members = collection.read_collection(config.zoo.path)
    parts, targets = [], [member.target for member in members]
  else:
    images = build.build_images(config)
    targets = make_targets(config, images)
    parts = [
      work.image_work(config, images),
      *(
        work.zoo_work(config, target, images, architecture_name(target))
        for target in targets
      ),
    ]
  check_unseen(config, targets)
  middle = sorted(targets, key=work.count_weights)[len(targets) // 2]
  trained = [m for m in config.methods if m in methods.METANETWORKS]
  training = work.training_work(
    ", ".join(trained),
    metanetworks.functional(middle, **config.model),
    work.network_shapes(middle),
    trainings=len(trained) * len(select.seeds(config)) * config.train.restarts,
    steps=config.train.steps,
    batch=config.train.batch_networks,
  )
  return [*parts, training]


def plan(config: ConfigDict) -> Plan:
  """One job per metanetwork and seed."""
  data = load_multi_arch(config)
  seeds, batch_size = select.seeds(config), config.train.batch_networks
  loaders = {
    seed: dataset.batch_loader(
      data.dataset,
      data.parts["train"],
      size=batch_size,
      seed=seed,
      buckets=config.train.buckets,
    )
    for seed in seeds
  }
  batches = dataset.fixed_batches(
    data.dataset,
    {part: data.parts[part] for part in ("val", *methods.EVALUATED)},
    batch_size,
  )
  images = None
  if not set(config.methods).isdisjoint(PROBING):
    images = build.build_images(config)
  functionals = {
    method: methods.build_functional(config, method, data, images)
    for method in config.methods
    if method in methods.METANETWORKS
  }
  read_fns = {
    method: methods.read_parts(functional, batches, data)
    for method, functional in functionals.items()
  }
  jobs = _training_jobs(config, functionals, read_fns, loaders, data)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    predictions = {}
    for method in config.methods:
      progress.console.print(f"measure {label({'method': method})}")
      if method in functionals:
        # One learning rate: nothing to select.
        predict = functools.partial(
          methods.predict_with_functional,
          read_fns[method],
          [params[name] for name in jobs[method]],
          steps=next(iter(jobs[method].values())).steps,
        )
      else:
        predict = functools.partial(methods.BASELINES[method], data)
      predictions[method] = partial.remember_record(
        method, methods.MultiArchPredictions, predict
      )
    return report.outcome(data, predictions, loaders[seeds[0]], seeds)

  all_jobs = {}
  for group in jobs.values():
    all_jobs |= group
  return Plan(all_jobs, evaluate)


def _training_jobs(
  config: ConfigDict,
  functionals: Mapping[str, BatchFunctional],
  read_fns: Mapping[str, methods.ReadPart],
  loaders: Mapping[int, dataset.BatchLoader],
  data: MultiArchData,
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name: job}}, one job per seed.

  The first functional takes `config.train.steps` steps. The others take as many
  as cost the same number of operations; those with probes, whose operations are
  counted for one network of a batch only, take the same number of steps.
  """

  def objective(functional: BatchFunctional) -> Objective:
    return batch_regression_objective(functional, loss=config.loss.name)

  reference = next(iter(functionals.values()))
  batch = next(iter(loaders.values()))(0)
  jobs = {}
  for method, functional in functionals.items():
    steps = config.train.steps
    if functional is not reference and method not in PROBING:
      steps = symmetry_levels.equal_steps(
        steps, reference, functional, objective, batch,
        at_least=config.train.warmup + 1,
      )  # fmt: skip
    validate = regression_validation(
      lambda params, read=read_fns[method]: read(params, "val"),
      data.true("val"),
      config.loss.name,
    )
    jobs[method] = {
      f"{method}/{seed}": TrainingJob(
        functional, objective(functional), loader, validate, steps, seed
      )
      for seed, loader in loaders.items()
    }
  return jobs
