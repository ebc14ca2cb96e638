"""Fine-tuning methods on the test networks and test images."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build, progress
from experiments.machine import median_seconds
from experiments.populations import Shot
from scalegmn_jax.base import Params, TargetNetwork
from scalegmn_jax.baselines import constant, iterative
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import scores as scoring

SHARES = tuple(round(0.05 * i, 2) for i in range(20))
"""Sparsities of the accuracy-against-sparsity picture."""


class Measured(NamedTuple):
  """Attributes:
  rows: of the table, see `scores.row`.
  accuracy: {method: [B]} on test images, for the pictures.
  at_sparsity: {method: [len(SHARES)]}.
  tuning: {method: {rate: {epochs: validation objective}}}.
  """

  rows: list[dict[str, Any]]
  accuracy: dict[str, np.ndarray]
  at_sparsity: dict[str, np.ndarray]
  tuning: dict[str, Any]


def compare(
  config: ConfigDict,
  target: TargetNetwork,
  data: Images,
  zoos: build.Zoos,
  shot: Shot,
  params: Params,
  rivals: Mapping[str, tuple[Shot, Params]],
) -> Measured:
  """Runs and measures every method of the config.

  Args:
    config: of the run.
    target: the architecture.
    data: images; test images are used for the rows alone.
    zoos: networks; test networks are used for the rows alone.
    shot: the operator, see `populations.one_shot`; with `params` the subject
      of the table.
    params: φ.
    rivals: {name: (shot, its φ)}, other trained metanetworks.
  """
  score = scoring.scorer(target, l1=config.loss.l1)
  pruned = scoring.accuracy_at_sparsity(target, SHARES)
  test_x, test_y, val_x, val_y, train_x, train_y = jax.device_put(
    (
      data.test_x,
      data.test_y,
      data.val_x,
      data.val_y,
      data.train_x,
      data.train_y,
    )
  )
  test, count = zoos.test, zoos.test.activation.shape[0]
  original = score(test, test_x, test_y)
  rows, accuracy, at_sparsity, tuning = [], {}, {}, {}

  def add(method, zoo, *, alone=0.0, batched=0.0, passes=0.0, draw=False):
    result = score(zoo, test_x, test_y)
    rows.append(
      scoring.row(
        method,
        result,
        original,
        seconds_alone=alone,
        seconds_batched=batched,
        data_passes=passes,
      )
    )
    accuracy[method] = result.accuracy
    if draw:
      at_sparsity[method] = pruned(zoo, test_x, test_y)

  def objective(zoo):
    return score(zoo, val_x, val_y).objective

  first = jax.tree.map(lambda a: a[:1], test)
  add("as is", test, draw=True)
  balance = iterative.balancer(target)
  add(
    "balanced",
    balance(test),
    alone=median_seconds(lambda: balance(first)),
    batched=median_seconds(lambda: balance(test)) / count,
  )

  edited = shot(params, test)
  cost = {
    "alone": median_seconds(lambda: shot(params, first)),
    "batched": median_seconds(lambda: shot(params, test)) / count,
  }
  add("one shot", edited, **cost, draw=True)
  # An operator that is equivariant keeps the gauge of its input.
  add("one shot, balanced", balance(edited), **cost)
  for name, (apply, phi) in rivals.items():
    add(
      name,
      apply(phi, test),
      alone=median_seconds(lambda a=apply, p=phi: a(p, first)),
      batched=median_seconds(lambda a=apply, p=phi: a(p, test)) / count,
    )

  c = config.baselines
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  train = (train_x, train_y)
  horizons = tuple(c.epochs)
  first_method = None
  for i, (optimizer, schedule) in enumerate(c.methods):
    tuner = iterative.fine_tuner(
      target,
      optimizer=optimizer,
      schedule=schedule,
      l1=config.loss.l1,
      batch_size=c.batch_size,
    )
    rates = [r * (10 if optimizer == "sgd" else 1) for r in c.rates]
    length = max(horizons) if schedule == "constant" else sum(horizons)
    with progress.bar(f"tune {tuner.name}", length) as advance:
      tuned = iterative.tune(
        tuner,
        zoos.val,
        rates,
        horizons,
        key,
        train,
        objective,
        on_epoch=advance,
      )
    tuning[tuner.name] = tuned.objective
    epochs = _epochs(tuned.rates, schedule)
    with progress.bar(f"test networks, {tuner.name}", epochs) as advance:
      start = time.perf_counter()
      results = iterative.run_tuned(tuner, tuned, test, key, train, advance)
      batched = (time.perf_counter() - start) / epochs / count
    alone = _alone(tuner, first, tuned.rates[horizons[0]], key, train)
    if i == 0:
      first_method = tuner, rates, {"alone": alone, "batched": batched}
    for h, weights in results.items():
      add(
        f"{tuner.name}, {_epoch_word(h)}",
        test._replace(weights=weights),
        alone=alone * h,
        batched=batched * h,
        passes=float(h),
        draw=i == 0 and h == max(horizons),
      )

  # Methods that do not look at their input, chosen on train and val only.
  of_tasks = constant.objectives(target, l1=config.loss.l1)

  def in_all_tasks(zoo):
    return of_tasks(zoo, zoos.val, val_x, val_y)

  many = test.classes is not None or test.teacher is not None
  best = constant.best_network(zoos.train, in_all_tasks(zoos.train))
  add("constant: best of the zoo", constant.instead(best, test))

  def offline(start, evaluate, tasks=None):
    tuner = iterative.fine_tuner(
      target,
      optimizer="adam",
      schedule="constant",
      l1=config.loss.l1,
      batch_size=c.batch_size,
      tasks=tasks,
    )
    with progress.bar("one network offline", c.constant_epochs) as advance:
      weights = constant.trained_offline(
        tuner, start, c.rates, c.constant_epochs, key, train, evaluate, advance
      )
    return start._replace(weights=weights)

  trained = offline(
    best._replace(classes=None, teacher=None),
    in_all_tasks,
    zoos.train if many else None,
  )
  add(
    f"constant: one network, {c.constant_epochs} epochs",
    constant.instead(trained, test),
  )
  # Methods that go on from there, for a few epochs.
  starts = {}
  if c.after_one_shot:
    starts["one shot"] = c.after_one_shot, lambda zoo: shot(params, zoo), cost
  if c.after_constant:
    if many:
      own = constant.best_network(zoos.train, objective(zoos.train))
      trained = offline(own, objective)
    starts["pretrained"] = (
      c.after_constant,
      lambda zoo: constant.instead(trained, zoo),
      {"alone": 0.0, "batched": 0.0},
    )
  assert first_method is not None
  tuner, rates, epoch_cost = first_method
  for name, (after, begin, before) in starts.items():
    with progress.bar(f"{name} + epochs", max(after)) as advance:
      tuned = iterative.tune(
        tuner,
        begin(zoos.val),
        rates,
        tuple(after),
        key,
        train,
        objective,
        on_epoch=advance,
      )
    begun = begin(test)
    results = iterative.run_tuned(tuner, tuned, begun, key, train)
    for h, weights in results.items():
      add(
        f"{name} + {tuner.name}, {_epoch_word(h)}",
        begun._replace(weights=weights),
        **{k: before[k] + h * epoch_cost[k] for k in before},
        passes=float(h),
      )
  return Measured(rows, accuracy, at_sparsity, tuning)


def _epoch_word(count: int) -> str:
  return f"{count} epoch" + "s" * (count != 1)


def _epochs(rates: Mapping[int, float], schedule: str) -> int:
  """Epochs that `run_tuned` takes."""
  if schedule != "constant":
    return sum(rates)
  chosen = set(rates.values())
  return sum(max(h for h, r in rates.items() if r == c) for c in chosen)


def _alone(tuner, first, rate, key, train) -> float:
  """Seconds per epoch of one network by itself."""

  def run():
    return tuner.run(first, jnp.full(1, rate), [1], key, train)

  return median_seconds(run, runs=3)
