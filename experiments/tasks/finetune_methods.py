"""Fine-tuning methods on the test networks and test images."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build, progress
from experiments.machine import median_seconds
from experiments.populations import Shot
from scalegmn_jax.base import Params, TargetNetwork, Zoo
from scalegmn_jax.baselines import constant, iterative
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import choice
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.training.losses import task_losses

ONE_SHOT = "one shot"
KEPT = "one shot, where better"
"""Names of rows: every network edited, and those only whose objective on
validation images falls."""

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


class Descent(NamedTuple):
  """Gradient descent on the test networks, tuned on validation networks.

  Attributes:
    tuner: the method.
    rates: the grid that it began with.
    tuned: what was chosen.
    networks: {epochs: the test networks after so many}.
    seconds: {"alone", "batched"}, per network and epoch.
  """

  tuner: iterative.FineTuner
  rates: list[float]
  tuned: iterative.Tuned
  networks: Mapping[int, Zoo]
  seconds: Mapping[str, float]


def descents(
  config: ConfigDict,
  target: TargetNetwork,
  zoos: build.Zoos,
  train: tuple[jax.Array, jax.Array],
  objective: Callable[[Zoo], jax.Array],
) -> Iterator[Descent]:
  """Each of the config's baseline methods, run.

  Args:
    config: of the run.
    target: the architecture.
    zoos: validation networks, and test networks.
    train: (images, labels) to learn.
    objective: of networks on validation images.
  """
  c = config.baselines
  key = order_of_images(config)
  count = zoos.test.activation.shape[0]
  first = jax.tree.map(lambda a: a[:1], zoos.test)
  horizons = tuple(c.epochs)
  for optimizer, schedule in c.methods:
    tuner = iterative.fine_tuner(
      target,
      optimizer=optimizer,
      schedule=schedule,
      l1=config.loss.l1,
      batch_size=c.batch_size,
      together=build.together(target),
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
    epochs = _epochs(tuned.rates, schedule)
    with progress.bar(f"test networks, {tuner.name}", epochs) as advance:
      start = time.perf_counter()
      results = iterative.run_tuned(
        tuner, tuned, zoos.test, key, train, advance
      )
      batched = (time.perf_counter() - start) / epochs / count
    alone = _alone(tuner, first, tuned.rates[horizons[0]], key, train)
    yield Descent(
      tuner,
      rates,
      tuned,
      {h: zoos.test._replace(weights=w) for h, w in results.items()},
      {"alone": alone, "batched": batched},
    )


def order_of_images(config: ConfigDict) -> jax.Array:
  """The key of the minibatches of gradient descent."""
  return jax.random.fold_in(jax.random.key(config.seed), 1)


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
  train, val, images = jax.device_put(
    (
      (data.train_x, data.train_y),
      (data.val_x, data.val_y),
      (data.test_x, data.test_y),
    )
  )
  test, count = zoos.test, zoos.test.activation.shape[0]
  original = score(test, *images)
  rows, accuracy, at_sparsity, tuning = [], {}, {}, {}

  def add(method, zoo, *, alone=0.0, batched=0.0, passes=0.0, draw=False):
    result = score(zoo, *images)
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
      at_sparsity[method] = pruned(zoo, *images)

  def objective(zoo):
    return score(zoo, *val).objective

  first = jax.tree.map(lambda a: a[:1], test)

  def cost(run):
    """Seconds of a function of networks, for one of them."""
    return {
      "alone": median_seconds(lambda: run(first)),
      "batched": median_seconds(lambda: run(test)) / count,
    }

  add("as is", test, draw=True)
  balance = iterative.balancer(target)
  add("balanced", balance(test), **cost(balance))
  edited = shot(params, test)
  of_shot = cost(lambda zoo: shot(params, zoo))
  add(ONE_SHOT, edited, **of_shot, draw=True)
  # An operator that is equivariant keeps the gauge of its input.
  add(f"{ONE_SHOT}, balanced", balance(edited), **of_shot)
  choose = choice.better(task_losses(target, l1=config.loss.l1))
  add(
    KEPT,
    choose(test, edited, *val),
    **cost(lambda zoo: choose(zoo, shot(params, zoo), *val)),
    passes=2 * len(data.val_y) / len(data.train_y),
  )
  for name, (apply, phi) in rivals.items():
    add(
      name,
      apply(phi, test),
      **cost(lambda zoo, a=apply, p=phi: a(p, zoo)),
    )

  c = config.baselines
  first_descent = None
  for descent in descents(config, target, zoos, train, objective):
    tuning[descent.tuner.name] = descent.tuned.objective
    for h, zoo in descent.networks.items():
      add(
        f"{descent.tuner.name}, {epoch_word(h)}",
        zoo,
        **{k: v * h for k, v in descent.seconds.items()},
        passes=float(h),
        draw=first_descent is None and h == max(c.epochs),
      )
    first_descent = first_descent or descent

  # Methods that do not look at their input, chosen on train and val only.
  key = order_of_images(config)
  of_tasks = constant.objectives(target, l1=config.loss.l1)

  def in_all_tasks(zoo):
    return of_tasks(zoo, zoos.val, *val)

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
      together=build.together(target),
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
    starts[ONE_SHOT] = (
      c.after_one_shot,
      lambda zoo: shot(params, zoo),
      of_shot,
    )
  if c.after_constant:
    if many:
      own = constant.best_network(zoos.train, objective(zoos.train))
      trained = offline(own, objective)
    starts["pretrained"] = (
      c.after_constant,
      lambda zoo: constant.instead(trained, zoo),
      {"alone": 0.0, "batched": 0.0},
    )
  assert first_descent is not None
  tuner = first_descent.tuner
  for name, (after, begin, before) in starts.items():
    with progress.bar(f"{name} + epochs", max(after)) as advance:
      tuned = iterative.tune(
        tuner,
        begin(zoos.val),
        first_descent.rates,
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
        f"{name} + {tuner.name}, {epoch_word(h)}",
        begun._replace(weights=weights),
        **{k: before[k] + h * first_descent.seconds[k] for k in before},
        passes=float(h),
      )
  return Measured(rows, accuracy, at_sparsity, tuning)


def elsewhere(
  config: ConfigDict,
  target: TargetNetwork,
  data: Images,
  populations: Mapping[str, Zoo],
  shot: Shot,
  params: Params,
) -> list[dict[str, Any]]:
  """Rows of other networks than those of the zoo: as is, and after one shot.

  Args:
    config: of the run.
    target: the architecture.
    data: images.
    populations: {what they are: networks}.
    shot: the operator.
    params: φ.
  """
  score = scoring.scorer(target, l1=config.loss.l1)
  choose = choice.better(task_losses(target, l1=config.loss.l1))
  val, test = jax.device_put(
    ((data.val_x, data.val_y), (data.test_x, data.test_y))
  )
  rows = []
  for name, zoo in populations.items():
    original = score(zoo, *test)
    edited = shot(params, zoo)
    for method, after in (
      ("as is", zoo),
      (ONE_SHOT, edited),
      (KEPT, choose(zoo, edited, *val)),
    ):
      scores = score(after, *test)
      rows.append(scoring.row(f"{name}: {method}", scores, original))
  return rows


def epoch_word(count: int) -> str:
  """Such as "1 epoch" and "5 epochs"."""
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
