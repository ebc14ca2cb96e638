"""Fine-tuning methods on the test networks and test images."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build, progress
from experiments.machine import median_seconds
from experiments.populations import Shot
from scalegmn_jax.base import Params, TargetNetwork, Zoo
from scalegmn_jax.baselines import constant, iterative, last_layer
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import choice
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.training.losses import task_losses

ONE_SHOT = "one shot"
KEPT = "one shot, where better"
SOLVED = "one shot + last layer"
"""Names of rows: every network edited; those only whose objective on validation
images falls; and the last layer solved for after that, on training images."""

SHARES = tuple(round(0.05 * i, 2) for i in range(20))
"""Sparsities of the accuracy-against-sparsity picture."""


class Judge(NamedTuple):
  """What methods may look at, and what they are measured by.

  Attributes:
    train, val: (images, labels).
    objective: zoo -> [B], on validation images: all that is chosen is chosen
      by it.
    scores: zoo -> `Scores` on test images, for the rows of tables alone.
    at_sparsity: zoo -> [len(SHARES)], mean accuracy on test images.
    better: (before, after) -> of each network the better on validation images.
    solve: zoo -> their last layers solved for on training images; None where
      the config has no such rows.
  """

  train: tuple[jax.Array, jax.Array]
  val: tuple[jax.Array, jax.Array]
  objective: Callable[[Zoo], Any]
  scores: Callable[[Zoo], scoring.Scores]
  at_sparsity: Callable[[Zoo], np.ndarray]
  better: Callable[[Zoo, Zoo], Zoo]
  solve: Callable[[Zoo], Zoo] | None


def judge_of(
  config: ConfigDict, target: TargetNetwork, data: Images
) -> Judge:
  """The judge of a run."""
  score = scoring.scorer(target, l1=config.loss.l1)
  pruned = scoring.accuracy_at_sparsity(target, SHARES)
  choose = choice.better(task_losses(target, l1=config.loss.l1))
  steps = config.baselines.get("last_layer", 0)
  solve = last_layer.solver(target, l1=config.loss.l1, steps=steps)
  train, val, test = jax.device_put(
    (
      (data.train_x, data.train_y),
      (data.val_x, data.val_y),
      (data.test_x, data.test_y),
    )
  )
  return Judge(
    train,
    val,
    lambda zoo: score(zoo, *val).objective,
    lambda zoo: score(zoo, *test),
    lambda zoo: pruned(zoo, *test),
    lambda before, after: choose(before, after, *val),
    (lambda zoo: solve(zoo, *train)) if steps else None,
  )


class Seconds(NamedTuple):
  """Of a network that is edited by itself, and of one among all."""

  alone: float = 0.0
  batched: float = 0.0

  def then(self, epochs: int, of_each: "Seconds") -> "Seconds":
    """And so many epochs after it."""
    return Seconds(
      self.alone + epochs * of_each.alone,
      self.batched + epochs * of_each.batched,
    )


FREE = Seconds()


class Descent(NamedTuple):
  """Gradient descent on the test networks, tuned on validation networks.

  Attributes:
    tuner: the method.
    rates: the grid that it began with.
    tuned: what was chosen.
    networks: {epochs: the test networks after so many}.
    seconds: per network and epoch.
  """

  tuner: iterative.FineTuner
  rates: list[float]
  tuned: iterative.Tuned
  networks: Mapping[int, Zoo]
  seconds: Seconds


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


def descents(
  config: ConfigDict, target: TargetNetwork, zoos: build.Zoos, judge: Judge
) -> Iterator[Descent]:
  """Each of the config's baseline methods, run.

  Args:
    config: of the run.
    target: the architecture.
    zoos: validation networks, and test networks.
    judge: images to learn, and to choose by.
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
        judge.train,
        judge.objective,
        on_epoch=advance,
      )
    epochs = _epochs(tuned.rates, schedule)
    with progress.bar(f"test networks, {tuner.name}", epochs) as advance:
      start = time.perf_counter()
      results = iterative.run_tuned(
        tuner, tuned, zoos.test, key, judge.train, advance
      )
      batched = (time.perf_counter() - start) / epochs / count
    alone = _alone(tuner, first, tuned.rates[horizons[0]], key, judge.train)
    yield Descent(
      tuner,
      rates,
      tuned,
      {h: zoos.test._replace(weights=w) for h, w in results.items()},
      Seconds(alone, batched),
    )


def order_of_images(config: ConfigDict) -> jax.Array:
  """The key of the minibatches of gradient descent."""
  return jax.random.fold_in(jax.random.key(config.seed), 1)


def compare(
  config: ConfigDict,
  target: TargetNetwork,
  zoos: build.Zoos,
  judge: Judge,
  shot: Shot,
  params: Params,
  rivals: Mapping[str, tuple[Shot, Params]],
) -> Measured:
  """Runs and measures every method of the config.

  Args:
    config: of the run.
    target: the architecture.
    zoos: networks; test networks are used for the rows alone.
    judge: images.
    shot: the operator, see `populations.one_shot`; with `params` the subject
      of the table.
    params: φ.
    rivals: {name: (shot, its φ)}, other trained metanetworks.
  """
  c, test = config.baselines, zoos.test
  original = judge.scores(test)
  measured = Measured([], {}, {}, {})

  def add(method, zoo, seconds=FREE, *, passes=0.0, draw=False):
    result = judge.scores(zoo)
    measured.rows.append(
      scoring.row(
        method,
        result,
        original,
        seconds_alone=seconds.alone,
        seconds_batched=seconds.batched,
        data_passes=passes,
      )
    )
    measured.accuracy[method] = result.accuracy
    if draw:
      measured.at_sparsity[method] = judge.at_sparsity(zoo)

  def edit(zoo):
    return shot(params, zoo)

  add("as is", test, draw=True)
  balance = iterative.balancer(target)
  add("balanced", balance(test), _cost(balance, test))
  edited, of_shot = edit(test), _cost(edit, test)
  add(ONE_SHOT, edited, of_shot, draw=True)
  # An operator that is equivariant keeps the gauge of its input.
  add(f"{ONE_SHOT}, balanced", balance(edited), of_shot)
  add(
    KEPT,
    judge.better(test, edited),
    _cost(lambda zoo: judge.better(zoo, edit(zoo)), test),
    passes=2 * len(judge.val[1]) / len(judge.train[1]),
  )
  for name, (apply, phi) in rivals.items():
    seconds = _cost(lambda zoo, a=apply, p=phi: a(p, zoo), test)
    add(name, apply(phi, test), seconds)

  first = None
  for descent in descents(config, target, zoos, judge):
    measured.tuning[descent.tuner.name] = descent.tuned.objective
    for h, zoo in descent.networks.items():
      add(
        f"{descent.tuner.name}, {epoch_word(h)}",
        zoo,
        FREE.then(h, descent.seconds),
        passes=float(h),
        draw=first is None and h == max(c.epochs),
      )
    first = first or descent

  best, trained = _constants(config, target, zoos, judge)
  add("constant: best of the zoo", constant.instead(best, test))
  add(
    f"constant: one network, {epoch_word(c.constant_epochs)}",
    constant.instead(trained, test),
  )

  # What comes after methods that do not look at the data: another last layer
  # in one pass over them, or epochs of the first method.
  pretrained = trained
  if _own_tasks(zoos) and (judge.solve or c.after_constant):
    # By labels: a network that says nothing keeps its own outputs best.
    by_labels = judge.objective(zoos.train._replace(teacher=None))
    own = of_most_outputs(zoos.train, by_labels)
    pretrained = _offline(config, target, judge, own, judge.objective)

  def of_pretrained(zoo):
    return constant.instead(pretrained, zoo)

  if judge.solve is not None:
    for name, begin in (
      ("last layer", lambda zoo: zoo),
      (SOLVED, edit),
      ("pretrained + last layer", of_pretrained),
    ):

      def run(zoo, begin=begin, solve=judge.solve):
        return solve(begin(zoo))

      add(name, run(test), _cost(run, test), passes=1.0)
  starts = {}
  if c.after_one_shot:
    starts[ONE_SHOT] = c.after_one_shot, edit, of_shot
  if c.after_constant:
    starts["pretrained"] = c.after_constant, of_pretrained, FREE
  assert first is not None
  for name, (horizons, begin, before) in starts.items():
    for h, zoo in _further(
      config, zoos, judge, first, name, begin, horizons
    ):
      add(
        f"{name} + {first.tuner.name}, {epoch_word(h)}",
        zoo,
        before.then(h, first.seconds),
        passes=float(h),
      )
  return measured


def elsewhere(
  judge: Judge,
  populations: Mapping[str, Zoo],
  shot: Shot,
  params: Params,
) -> list[dict[str, Any]]:
  """Rows of other networks than those of the zoo: as is, and after one shot.

  Args:
    judge: images.
    populations: {what they are: networks}.
    shot: the operator.
    params: φ.
  """
  rows = []
  for name, zoo in populations.items():
    original = judge.scores(zoo)
    edited = shot(params, zoo)
    methods = {
      "as is": zoo,
      ONE_SHOT: edited,
      KEPT: judge.better(zoo, edited),
    }
    if judge.solve is not None:
      methods[SOLVED] = judge.solve(edited)
    for method, after in methods.items():
      scores = judge.scores(after)
      rows.append(scoring.row(f"{name}: {method}", scores, original))
  return rows


def epoch_word(count: int) -> str:
  """Such as "1 epoch" and "5 epochs"."""
  return f"{count} epoch" + "s" * (count != 1)


def _cost(run: Callable[[Zoo], Any], zoo: Zoo) -> Seconds:
  """Of a function of networks."""
  first = jax.tree.map(lambda a: a[:1], zoo)
  return Seconds(
    median_seconds(lambda: run(first)),
    median_seconds(lambda: run(zoo)) / zoo.activation.shape[0],
  )


def _constants(config, target, zoos, judge) -> tuple[Zoo, Zoo]:
  """The network of the zoo that is best in the tasks of all validation
  networks, and what training makes of it: rows of methods that do not look at
  their input.
  """
  of_tasks = constant.objectives(target, l1=config.loss.l1)

  def in_all_tasks(zoo):
    return of_tasks(zoo, zoos.val, *judge.val)

  best = constant.best_network(zoos.train, in_all_tasks(zoos.train))
  start = best._replace(classes=None, teacher=None)
  tasks = zoos.train if _own_tasks(zoos) else None
  return best, _offline(config, target, judge, start, in_all_tasks, tasks)


def _own_tasks(zoos: build.Zoos) -> bool:
  """Whether what is right differs between networks."""
  return zoos.test.classes is not None or zoos.test.teacher is not None


def of_most_outputs(zoo: Zoo, objective: jax.Array) -> Zoo:
  """The network of least objective [B] among those whose tasks tell the most
  classes apart: an easy task teaches few features."""
  if zoo.classes is not None:
    classes = np.asarray(zoo.classes)
    outputs = np.array([len(set(row[row >= 0])) for row in classes])
    objective = jnp.where(outputs == outputs.max(), objective, jnp.inf)
  return constant.best_network(zoo, objective)


def _offline(config, target, judge, start, evaluate, tasks=None) -> Zoo:
  """A zoo of one network, trained for long."""
  c = config.baselines
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
      tuner,
      start,
      c.rates,
      c.constant_epochs,
      order_of_images(config),
      judge.train,
      evaluate,
      advance,
    )
  return start._replace(weights=weights)


def _further(
  config: ConfigDict,
  zoos: build.Zoos,
  judge: Judge,
  descent: Descent,
  name: str,
  begin: Callable[[Zoo], Zoo],
  horizons: Sequence[int],
) -> Iterator[tuple[int, Zoo]]:
  """Test networks after so many epochs of a descent that begins elsewhere."""
  key = order_of_images(config)
  with progress.bar(f"{name} + epochs", max(horizons)) as advance:
    tuned = iterative.tune(
      descent.tuner,
      begin(zoos.val),
      descent.rates,
      tuple(horizons),
      key,
      judge.train,
      judge.objective,
      on_epoch=advance,
    )
  begun = begin(zoos.test)
  results = iterative.run_tuned(
    descent.tuner, tuned, begun, key, judge.train
  )
  for horizon, weights in results.items():
    yield horizon, begun._replace(weights=weights)


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
