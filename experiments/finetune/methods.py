"""Fine-tuning methods on the test networks and test images."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.runner import progress
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.baselines import constant
from scalegmn_jax.batched import EditFn
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import keep_better
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.inner import finetune, last_layer
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import gauge

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
  objective: Callable[[Networks], Any]
  scores: Callable[[Networks], scoring.Scores]
  at_sparsity: Callable[[Networks], np.ndarray]
  better: Callable[[Networks, Networks], Networks]
  solve: Callable[[Networks], Networks] | None


def judge_of(config: ConfigDict, target: TargetNetwork, data: Images) -> Judge:
  """The judge of a run."""
  score = scoring.make_scorer(target, l1=config.loss.l1)
  pruned = scoring.accuracy_at_sparsity(target, SHARES)
  choose = keep_better.keep_better(finetune_losses(target, l1=config.loss.l1))
  steps = config.baselines.get("last_layer_steps", 0)
  solve = last_layer.last_layer_solver(target, l1=config.loss.l1, steps=steps)
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

  tuner: finetune.FineTuner
  rates: list[float]
  tuned: finetune.TunedRates
  networks: Mapping[int, Networks]
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
  config: ConfigDict, target: TargetNetwork, zoos: build.ZooSplit, judge: Judge
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
    tuner = finetune.fine_tuner(
      target,
      optimizer=optimizer,
      schedule=schedule,
      l1=config.loss.l1,
      batch_size=c.batch_size,
      vmap_size=build.default_vmap_size(target),
    )
    rates = [r * (10 if optimizer == "sgd" else 1) for r in c.learning_rates]
    length = max(horizons) if schedule == "constant" else sum(horizons)
    with progress.bar(f"tune {tuner_label(tuner)}", length) as advance:
      tuned = finetune.tune_learning_rates(
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
    with progress.bar(
      f"test networks, {tuner_label(tuner)}", epochs
    ) as advance:
      start = time.perf_counter()
      results = finetune.run_at_tuned_rates(
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


def tuner_label(tuner: finetune.FineTuner) -> str:
  """The display name of a fine-tuning method, such as "Adam (cosine)"."""
  label = {"adam": "Adam", "sgd": "SGD"}[tuner.optimizer]
  return (
    label if tuner.schedule == "constant" else f"{label} ({tuner.schedule})"
  )


def order_of_images(config: ConfigDict) -> jax.Array:
  """The key of the minibatches of gradient descent."""
  return jax.random.fold_in(jax.random.key(config.seed), 1)


def compare(
  config: ConfigDict,
  target: TargetNetwork,
  zoos: build.ZooSplit,
  judge: Judge,
  shot: EditFn,
  params: Params,
  rivals: Mapping[str, tuple[EditFn, Params]],
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
      scoring.score_row(
        {"method": method},
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
  balance = gauge.balance_networks(target)
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
    measured.tuning[tuner_label(descent.tuner)] = descent.tuned.objective
    for h, zoo in descent.networks.items():
      add(
        f"{tuner_label(descent.tuner)}, {epoch_word(h)}",
        zoo,
        FREE.then(h, descent.seconds),
        passes=float(h),
        draw=first is None and h == max(c.epochs),
      )
    first = first or descent

  best, trained = _constants(config, target, zoos, judge)
  add("constant: best of the zoo", constant.replace_all(best, test))
  add(
    f"constant: one network, {epoch_word(c.constant_epochs)}",
    constant.replace_all(trained, test),
  )

  # What comes after methods that do not look at the data: another last layer
  # in one pass over them, or epochs of the first method.
  pretrained = trained
  if _own_tasks(zoos) and (judge.solve or c.epochs_after_constant):
    # By labels: a network that says nothing keeps its own outputs best.
    by_labels = judge.objective(zoos.train._replace(teacher=None))
    own = of_most_outputs(zoos.train, by_labels)
    pretrained = _offline(config, target, judge, own, judge.objective)

  def of_pretrained(zoo):
    return constant.replace_all(pretrained, zoo)

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
  if c.epochs_after_edit:
    starts[ONE_SHOT] = c.epochs_after_edit, edit, of_shot
  if c.epochs_after_constant:
    starts["pretrained"] = c.epochs_after_constant, of_pretrained, FREE
  assert first is not None
  for name, (horizons, begin, before) in starts.items():
    for h, zoo in _further(config, zoos, judge, first, name, begin, horizons):
      add(
        f"{name} + {tuner_label(first.tuner)}, {epoch_word(h)}",
        zoo,
        before.then(h, first.seconds),
        passes=float(h),
      )
  return measured


def ood_rows(
  judge: Judge,
  populations: Mapping[str, Networks],
  shot: EditFn,
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
      keys = {"method": f"{name}: {method}"}
      rows.append(scoring.score_row(keys, scores, original))
  return rows


def epoch_word(count: int) -> str:
  """Such as "1 epoch" and "5 epochs"."""
  return f"{count} epoch" + "s" * (count != 1)


def _cost(run: Callable[[Networks], Any], zoo: Networks) -> Seconds:
  """Of a function of networks."""
  first = jax.tree.map(lambda a: a[:1], zoo)
  return Seconds(
    median_seconds(lambda: run(first)),
    median_seconds(lambda: run(zoo)) / zoo.activation.shape[0],
  )


def _constants(config, target, zoos, judge) -> tuple[Networks, Networks]:
  """The network of the zoo that is best in the tasks of all validation
  networks, and what training makes of it: rows of methods that do not look at
  their input.
  """
  of_tasks = constant.mean_objectives(target, l1=config.loss.l1)

  def in_all_tasks(zoo):
    return of_tasks(zoo, zoos.val, *judge.val)

  best = constant.best_network(zoos.train, in_all_tasks(zoos.train))
  start = best._replace(class_to_output=None, teacher=None)
  tasks = zoos.train if _own_tasks(zoos) else None
  return best, _offline(config, target, judge, start, in_all_tasks, tasks)


def _own_tasks(zoos: build.ZooSplit) -> bool:
  """Whether what is right differs between networks."""
  return zoos.test.class_to_output is not None or zoos.test.teacher is not None


def of_most_outputs(zoo: Networks, objective: jax.Array) -> Networks:
  """The network of least objective [B] among those whose tasks tell the most
  classes apart: an easy task teaches few features."""
  if zoo.class_to_output is not None:
    classes = np.asarray(zoo.class_to_output)
    outputs = np.array([len(set(row[row >= 0])) for row in classes])
    objective = jnp.where(outputs == outputs.max(), objective, jnp.inf)
  return constant.best_network(zoo, objective)


def _offline(config, target, judge, start, evaluate, tasks=None) -> Networks:
  """A zoo of one network, trained for long."""
  c = config.baselines
  tuner = finetune.fine_tuner(
    target,
    optimizer="adam",
    schedule="constant",
    l1=config.loss.l1,
    batch_size=c.batch_size,
    supervision=tasks,
    vmap_size=build.default_vmap_size(target),
  )
  with progress.bar("one network offline", c.constant_epochs) as advance:
    weights = constant.train_offline(
      tuner,
      start,
      c.learning_rates,
      c.constant_epochs,
      order_of_images(config),
      judge.train,
      evaluate,
      advance,
    )
  return start._replace(weights=weights)


def _further(
  config: ConfigDict,
  zoos: build.ZooSplit,
  judge: Judge,
  descent: Descent,
  name: str,
  begin: Callable[[Networks], Networks],
  horizons: Sequence[int],
) -> Iterator[tuple[int, Networks]]:
  """Test networks after so many epochs of a descent that begins elsewhere."""
  key = order_of_images(config)
  with progress.bar(f"{name} + epochs", max(horizons)) as advance:
    tuned = finetune.tune_learning_rates(
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
  results = finetune.run_at_tuned_rates(
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
