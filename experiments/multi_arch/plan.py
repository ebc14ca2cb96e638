"""Generalization prediction for many architectures by one metanetwork."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.multi_arch import report as reports
from experiments.multi_arch.networks import MultiArchData, load_multi_arch
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan, TrainingJob
from scalegmn_jax.base import MetaNetwork, Params
from scalegmn_jax.baselines import statistics, symmetry_levels, unconstrained
from scalegmn_jax.eval import regression_metrics
from scalegmn_jax.gmn import batches
from scalegmn_jax.graph.batch import dataset as populations
from scalegmn_jax.training.objectives import (
  REGRESSION,
  batch_regression_objective,
)

TRAINED = ("scalegmn", "permutation")
"""Methods that are metanetworks."""


def check(config: ConfigDict) -> None:
  known = ", ".join(reports.LABELS)
  trained = ", ".join(TRAINED)
  for key, good, expected in (
    ("methods", lambda v: set(v) <= set(reports.LABELS), f"some of {known}"),
    ("methods", lambda v: set(v) & set(TRAINED), f"at least one of {trained}"),
    ("train.seeds", lambda v: v and min(v) >= 0, "numbers of 0 or more"),
    ("train.buckets", lambda v: v >= 1, "at least 1"),
    ("train.grad_chunk", lambda v: v == 0, "0: a batch is one graph"),
    ("zoo.unseen", lambda v: v >= 0, "at least 0"),
    (
      "architectures",
      lambda v: all(len(a) == 4 for a in v),
      "(channels, kernel sizes, strides, pool) of each",
    ),
  ):
    build.need(config, key, good, expected)


def plan(config: ConfigDict) -> Plan:
  data = load_multi_arch(config)
  size, seeds, methods = (
    config.train.batch_networks, tuple(config.train.seeds), tuple(config.methods)
  )  # fmt: skip
  dealt = populations.fixed_batches(
    data.population,
    {name: data.parts[name] for name in ("val", "test", "unseen")},
    size,
  )
  trained = {
    name: _metanetwork(name, config, data)
    for name in methods
    if name in TRAINED
  }
  loaders = {
    seed: populations.batch_loader(
      data.population,
      data.parts["train"],
      size=size,
      seed=seed,
      buckets=config.train.buckets,
    )
    for seed in seeds
  }
  first = loaders[seeds[0]]
  reference = next(iter(trained.values()))
  readers = {
    name: _reader(metanetwork, dealt) for name, metanetwork in trained.items()
  }

  def task(metanetwork):
    return batch_regression_objective(metanetwork, loss=config.loss.name)

  def validator(read):
    true = data.values[data.parts["val"]]

    def validate(params):
      logits = read(params, "val", data.parts["val"])
      predicted = _sigmoid(logits)
      objective = REGRESSION[config.loss.name](logits, true).mean()
      return {
        "val_objective": float(objective),
        "val_squared_error": regression_metrics.mse(predicted, true),
        "val_tau": regression_metrics.kendall_tau(predicted, true),
      }

    return validate

  jobs = {}
  for name, metanetwork in trained.items():
    steps = config.train.steps
    if metanetwork is not reference:
      steps = symmetry_levels.equal_steps(
        steps, reference, metanetwork, task, first(0)
      )
    for seed, load in loaders.items():
      jobs[f"{name}/{seed}"] = TrainingJob(
        metanetwork,
        task(metanetwork),
        load,
        validator(readers[name]),
        # The warm-up has to end before the training does.
        max(steps, config.train.warmup + 1),
        seed,
      )

  def evaluate(params: Mapping[str, Params]) -> Outcome:
    found = {}
    for name in methods:
      progress.console.print(f"measure {reports.LABELS[name]}")
      if name in trained:
        found[name] = reports.Predicted(
          {
            part: np.stack(
              [
                _sigmoid(
                  readers[name](
                    params[f"{name}/{seed}"], part, data.parts[part]
                  )
                )
                for seed in seeds
              ]
            )
            for part in ("test", "unseen")
          },
          sum(a.size for a in jax.tree.leaves(params[f"{name}/{first.seed}"])),
          jobs[f"{name}/{first.seed}"].steps,
        )
      else:
        found[name] = reports.Predicted(BASELINES[name](data))
    return reports.outcome(data, found, first, seeds)

  return Plan(jobs, evaluate)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
  return np.asarray(jax.nn.sigmoid(logits))


def _metanetwork(
  name: str, config: ConfigDict, data: MultiArchData
) -> MetaNetwork:
  words = data.population.vocabulary
  model = config.model.to_dict()
  if name == "scalegmn":
    return batches.functional(words, **model)
  model.pop("backward")  # has no effect on that symmetry
  rival = batches.functional(
    words, symmetry="permutation", outputs=len(words.activations), **model
  )
  return unconstrained.standardized_batch_functional(
    rival, data.population, data.parts["train"]
  )


def _reader(
  metanetwork: MetaNetwork, dealt
) -> Callable[[Params, str, np.ndarray], np.ndarray]:
  """(φ, name of a part, its networks) -> logits of these."""
  apply = jax.jit(metanetwork.apply)

  def read(params, part, numbers):
    found = {}
    for of_batch, batch in dealt[part]:
      logits = np.asarray(apply(params, batch))[:, 0]
      found |= dict(zip(of_batch.tolist(), logits, strict=False))
    return np.array([found[n] for n in numbers.tolist()])

  return read


def _statistics(data: MultiArchData) -> dict[str, np.ndarray]:
  """Layer statistics, pooled over layers."""
  words = data.population.vocabulary
  rows = []
  for one, zoo in zip(data.population.architectures, data.zoos, strict=True):
    index = [words.activations.index(n) for n in one.target.activations]
    kinds = np.array(index)[np.asarray(zoo.activation)]
    rows.append(
      statistics.pooled_layer_statistics(
        zoo._replace(activation=kinds), len(words.activations)
      )
    )
  features = np.concatenate(rows)
  train, val = (
    (features[data.parts[name]], data.values[data.parts[name]])
    for name in ("train", "val")
  )
  predict = statistics.fit_regressor(train, val).predict
  return {
    name: predict(features[data.parts[name]])[None]
    for name in ("test", "unseen")
  }


def _architecture(data: MultiArchData) -> dict[str, np.ndarray]:
  """The mean accuracy of each architecture's training networks, and of all
  training networks where there are none."""
  every = data.values[data.trained]
  means = np.full(len(data.names), every.mean())
  for number in np.unique(data.population.of[data.trained]):
    own = data.trained & (data.population.of == number)
    means[number] = data.values[own].mean()
  return {
    name: means[data.population.of[data.parts[name]]][None]
    for name in ("test", "unseen")
  }


def _constant(data: MultiArchData) -> dict[str, np.ndarray]:
  mean = data.values[data.trained].mean()
  return {
    name: np.full((1, len(data.parts[name])), mean)
    for name in ("test", "unseen")
  }


BASELINES: dict[str, Callable[[MultiArchData], dict[str, np.ndarray]]] = {
  "statistics": _statistics,
  "architecture": _architecture,
  "constant": _constant,
}
