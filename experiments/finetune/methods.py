"""Fine-tuning methods, measured on the test networks and test images.

Keys of a row, from which `report.label` makes the displayed text:

  method      "original"     the networks without any edit
              "balanced"     the balanced gauge, which keeps the functions
              "operator"     the trained operator
              "permutation", "mlp"
                             an operator with less symmetry
              "keep_better"  the edited network where it has the lower
                             validation objective, the network before elsewhere
              "adam", "sgd"  gradient descent on each network
              "constant"     one network in place of all
              "common"       one network in place of all that is written, in
                             each network's own order of the classes
              "last_layer"   the last layer solved for on training images
  after       the edit that the method starts from: "operator", or "pretrained"
              (one trained network in place of all). Absent: the original
              networks.
  epochs      epochs of gradient descent: "adam", "sgd", and the constant that
              is trained.
  schedule    of the learning rate: "constant" or "cosine"; "adam" and "sgd".
  source      of the constant: "best_of_zoo" or "trained".
  population  name of the networks, in the table of out-of-distribution
              networks.
"""

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.finetune import dependence
from experiments.finetune.data import Inputs
from experiments.runner import interrupt, progress
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.baselines import constant
from scalegmn_jax.eval import keep_better, scores
from scalegmn_jax.inner import finetune, last_layer
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.partial import NOTHING, Partial, Result
from scalegmn_jax.symmetry import gauge

Edit = Callable[[Networks], Networks]
"""Networks -> edited networks with the same supervision."""

Keys = Mapping[str, Any]
"""The keys of a row, see above."""

SHARES = tuple(round(0.05 * i, 2) for i in range(20))
"""Sparsities of the picture of accuracy against sparsity."""


class Evaluator(NamedTuple):
  """The images that methods see, and the measures that they are compared by.

  Attributes:
    train: training (images, labels).
    val: validation (images, labels).
    objective: networks -> [B], on validation images; every choice is made by
      it.
    scores: networks -> `Scores` on test images, only for rows of tables.
    accuracy_at_sparsity: networks -> [len(SHARES), B], accuracy on test images.
    keep_better: (before, after) -> the better version of each network on
      validation images.
    solve_last_layer: networks -> networks with the last layer solved for on
      training images; None if there are no such rows.
    left_out: sentences on rows of the config that there are not.
  """

  train: tuple[jax.Array, jax.Array]
  val: tuple[jax.Array, jax.Array]
  objective: Callable[[Networks], jax.Array]
  scores: Callable[[Networks], scores.Scores]
  accuracy_at_sparsity: Callable[[Networks], np.ndarray]
  keep_better: Callable[[Networks, Networks], Networks]
  solve_last_layer: Edit | None
  left_out: Sequence[str] = ()


def make_evaluator(config: ConfigDict, inputs: Inputs) -> Evaluator:
  """The evaluator of a run."""
  target, l1 = inputs.target, config.loss.l1
  score = scores.make_scorer(target, l1=l1)
  prune = scores.accuracy_at_sparsity(target, SHARES)
  choose = keep_better.keep_better(finetune_losses(target, l1=l1))
  train, val, test = inputs.images.device_splits()
  solve_last_layer, left_out = _last_layer(config, target, train)
  return Evaluator(
    train=train,
    val=val,
    objective=lambda networks: jnp.asarray(score(networks, *val).objective),
    scores=lambda networks: score(networks, *test),
    accuracy_at_sparsity=lambda networks: prune(networks, *test),
    keep_better=lambda before, after: choose(before, after, *val),
    solve_last_layer=solve_last_layer,
    left_out=left_out,
  )


def _last_layer(
  config: ConfigDict, target: TargetNetwork, data: tuple[jax.Array, jax.Array]
) -> tuple[Edit | None, list[str]]:
  """`Evaluator.solve_last_layer` and `Evaluator.left_out`."""
  steps = config.baselines.get("last_layer_steps", 0)
  if not steps:
    return None, []
  try:
    solve = last_layer.last_layer_solver(
      target, l1=config.loss.l1, steps=steps, check=interrupt.check
    )
  except InputError as error:
    return None, [f"No rows of the last layer: {error}"]
  return lambda networks: solve(networks, *data), []


class Setting(NamedTuple):
  """The part of a run that all methods share.

  Attributes:
    config: of the run.
    inputs: networks; the test networks are used only for rows of tables.
    evaluator: images and measures.
    partial: keeps what has been measured.
  """

  config: ConfigDict
  inputs: Inputs
  evaluator: Evaluator
  partial: Partial = NOTHING

  @property
  def test(self) -> Networks:
    """The test networks."""
    return self.inputs.zoos.test

  @property
  def image_order(self) -> jax.Array:
    """The key of the minibatches of gradient descent."""
    return jax.random.fold_in(jax.random.key(self.config.seed), 1)


class Seconds(NamedTuple):
  """Seconds per network.

  Attributes:
    alone: if one network is edited at a time.
    batched: if all networks are edited side by side.
  """

  alone: float = 0.0
  batched: float = 0.0

  def plus_epochs(self, epochs: int, per_epoch: "Seconds") -> "Seconds":
    """The seconds after further epochs of gradient descent."""
    return Seconds(
      self.alone + epochs * per_epoch.alone,
      self.batched + epochs * per_epoch.batched,
    )


NO_SECONDS = Seconds()


def time_edit(edit: Callable[[Networks], Any], networks: Networks) -> Seconds:
  """The seconds that an edit takes per network."""
  first = networks.take(slice(1))
  return Seconds(
    median_seconds(lambda: edit(first)),
    median_seconds(lambda: edit(networks)) / networks.size,
  )


class Candidate(NamedTuple):
  """The test networks as one method leaves them.

  The functions are not called for a method that has been measured before.

  Attributes:
    keys: of its row.
    networks: () -> the edited test networks.
    seconds: () -> the seconds that the method takes.
    data_passes: passes over the training images per network.
    at_sparsity: whether accuracy against sparsity is measured.
  """

  keys: Keys
  networks: Callable[[], Networks]
  seconds: Callable[[], Seconds] = lambda: NO_SECONDS
  data_passes: float = 0.0
  at_sparsity: bool = False


class Start(NamedTuple):
  """An edit that other methods start from.

  Attributes:
    name: the value of the key "after"; empty for the original networks.
    edit: networks -> the networks that the method starts from.
    seconds: () -> the seconds that the edit takes.
  """

  name: str
  edit: Edit
  seconds: Callable[[], Seconds] = lambda: NO_SECONDS

  def keys(self, method: str, **more: Any) -> dict[str, Any]:
    """The keys of a method that starts here."""
    after = {"after": self.name} if self.name else {}
    return {"method": method, **after, **more}


ORIGINAL = Start("", lambda networks: networks)


class TunedRun(NamedTuple):
  """Gradient descent on the test networks, tuned on validation networks.

  Attributes:
    keys: "method" and "schedule".
    tuner: the method.
    rates: the grid of learning rates before it grew.
    tuned: the chosen learning rates.
    networks: {epochs: test networks after that many epochs}.
    seconds: per network and epoch.
  """

  keys: Keys
  tuner: finetune.FineTuner
  rates: Sequence[float]
  tuned: finetune.TunedRates
  networks: Mapping[int, Networks]
  seconds: Seconds


class Measurement(NamedTuple):
  """A method, measured on the test networks and test images.

  Attributes:
    row: of the table: the keys and the numbers of `scores.score_row`.
    objective: [B].
    at_sparsity: accuracy [len(SHARES), B], None if not measured.
  """

  row: Mapping[str, Any]
  objective: np.ndarray
  at_sparsity: np.ndarray | None = None


class Comparison(NamedTuple):
  """All methods of a config.

  Attributes:
    measurements: one per row of the table.
    tuning: for each method of gradient descent its keys and the validation
      objectives {rate: {epochs: objective}}.
  """

  measurements: list[Measurement]
  tuning: list[dict[str, Any]]


def compare(
  setting: Setting, edit: Edit, metanetworks: Mapping[str, Edit]
) -> Comparison:
  """Runs and measures every method of the config.

  Args:
    setting: networks and images.
    edit: the trained operator.
    metanetworks: {name: edit}, the baseline metanetworks.
  """
  c, test = setting.config.baselines, setting.test
  original = _scores_of_original(setting.evaluator, test, setting.partial)
  operator = Start("operator", edit, _seconds_of(setting, "operator", edit))
  measurements: list[Measurement] = []

  def measure(candidates: Iterable[Candidate]) -> None:
    for candidate in candidates:
      measurements.append(
        _measure(setting.evaluator, candidate, original, setting.partial)
      )

  measure(operator_candidates(setting, operator))
  measure(common_candidates(setting, operator))
  measure(metanetwork_candidates(setting, metanetworks))
  runs = list(tuned_runs(setting))
  for run in runs:
    measure(descent_candidates(run, at_sparsity=run is runs[0]))
  starts = [(operator, c.epochs_after_edit)]
  if c.constant_epochs:
    best, trained = constant_networks(setting)
    measure(constant_candidates(setting, best, trained))
    pretrained = pretrained_start(setting, trained)
    measure(last_layer_candidates(setting, (ORIGINAL, operator, pretrained)))
    starts.append((pretrained, c.epochs_after_constant))
  for start, horizons in starts:
    if horizons:
      measure(further_candidates(setting, runs[0], start, horizons))
  return Comparison(
    with_gains(measurements),
    [{**run.keys, "objective": run.tuned.objective} for run in runs],
  )


def _seconds_of(
  setting: Setting, name: str, edit: Edit
) -> Callable[[], Seconds]:
  """() -> the seconds that an edit of the test networks takes."""

  def compute(_: Partial) -> Result:
    return Result({}, time_edit(edit, setting.test))

  @functools.cache
  def seconds() -> Seconds:
    return Seconds(*setting.partial.remember(f"seconds {name}", compute).values)

  return seconds


def _scores_of_original(
  evaluator: Evaluator, networks: Networks, partial: Partial
) -> scores.Scores:
  found = partial.remember(
    "original scores", lambda _: Result(evaluator.scores(networks)._asdict())
  )
  return scores.Scores(**found.arrays)


def with_gains(measurements: Sequence[Measurement]) -> list[Measurement]:
  """The measurements with "gain_over_constant" in their rows.

  The gain is the objective of the best constant minus the objective of the
  method: above zero where the method is better. The best constant is chosen by
  its test objective, in favour of the constant. Without constants there are no
  gains.
  """
  best = best_constant(measurements)
  if best is None:
    return list(measurements)
  reference = best.row["objective"]
  return [
    m._replace(
      row={**m.row, "gain_over_constant": reference - m.row["objective"]}
    )
    for m in measurements
  ]


def best_constant(measurements: Iterable[Measurement]) -> Measurement | None:
  """The constant with the least test objective; None without one."""
  return min(
    (m for m in measurements if m.row["method"] == "constant"),
    key=lambda m: m.row["objective"],
    default=None,
  )


def ood_rows(
  evaluator: Evaluator,
  populations: Mapping[str, Networks],
  edit: Edit,
  partial: Partial = NOTHING,
) -> list[dict[str, Any]]:
  """Rows of out-of-distribution networks, original and edited.

  Args:
    evaluator: images.
    populations: {name: networks}.
    edit: the trained operator.
    partial: keeps what has been measured.
  """
  rows = []
  operator = Start("operator", edit)
  for name, networks in populations.items():
    part = partial.of(name)
    original = _scores_of_original(evaluator, networks, part)
    edited = functools.cache(functools.partial(edit, networks))
    solve = evaluator.solve_last_layer
    candidates = [
      Candidate({"method": "original"}, lambda n=networks: n),
      Candidate({"method": "operator"}, edited),
      Candidate(
        operator.keys("keep_better"),
        lambda n=networks, e=edited: evaluator.keep_better(n, e()),
      ),
    ]
    if solve is not None:
      candidates.append(
        Candidate(operator.keys("last_layer"), lambda e=edited, s=solve: s(e()))
      )
    for candidate in candidates:
      measurement = _measure(evaluator, candidate, original, part)
      rows.append({"population": name, **measurement.row})
  return rows


def _measure(
  evaluator: Evaluator,
  candidate: Candidate,
  original: scores.Scores,
  partial: Partial,
) -> Measurement:
  def compute(_: Partial) -> Result:
    networks, seconds = candidate.networks(), candidate.seconds()
    result = evaluator.scores(networks)
    row = scores.score_row(
      candidate.keys,
      result,
      original,
      seconds_alone=seconds.alone,
      seconds_batched=seconds.batched,
      data_passes=candidate.data_passes,
    )
    arrays = {"objective": np.asarray(result.objective)}
    if candidate.at_sparsity:
      arrays["at_sparsity"] = evaluator.accuracy_at_sparsity(networks)
    return Result(arrays, row)

  name = json.dumps(candidate.keys, sort_keys=True)
  arrays, row = partial.remember(name, compute)
  return Measurement(row, arrays["objective"], arrays.get("at_sparsity"))


def operator_candidates(
  setting: Setting, operator: Start
) -> Iterator[Candidate]:
  """The original networks and the operator, each also balanced; the better of
  the two."""
  evaluator, test = setting.evaluator, setting.test
  balance = gauge.balance_networks(setting.inputs.target)
  yield Candidate({"method": "original"}, lambda: test, at_sparsity=True)
  yield Candidate(
    {"method": "balanced"},
    lambda: balance(test),
    lambda: time_edit(balance, test),
  )
  edited = functools.cache(lambda: operator.edit(test))
  yield Candidate(
    {"method": "operator"}, edited, operator.seconds, at_sparsity=True
  )
  # An equivariant operator keeps the gauge of its input.
  yield Candidate(
    operator.keys("balanced"), lambda: balance(edited()), operator.seconds
  )

  def edit_where_better(networks: Networks) -> Networks:
    return evaluator.keep_better(networks, operator.edit(networks))

  yield Candidate(
    operator.keys("keep_better"),
    lambda: evaluator.keep_better(test, edited()),
    lambda: time_edit(edit_where_better, test),
    data_passes=2 * len(evaluator.val[1]) / len(evaluator.train[1]),
  )


def common_candidates(setting: Setting, operator: Start) -> Iterator[Candidate]:
  """What is common to all that is written, see `dependence.common_network`."""
  target, val, test = (
    setting.inputs.target,
    setting.inputs.zoos.val,
    setting.test,
  )
  if not all(dependence.applies(target, n) for n in (val, test)):
    return

  def networks() -> Networks:
    one = dependence.common_network(
      target, val, operator.edit, setting.evaluator.objective
    )
    return dependence.in_place_of_all(target, one, test)

  yield Candidate(operator.keys("common"), networks)


def metanetwork_candidates(
  setting: Setting, metanetworks: Mapping[str, Edit]
) -> Iterator[Candidate]:
  """The baseline metanetworks."""
  test = setting.test
  for name, edit in metanetworks.items():
    yield Candidate(
      {"method": name},
      functools.partial(edit, test),
      functools.partial(time_edit, edit, test),
    )


def tuned_runs(setting: Setting) -> Iterator[TunedRun]:
  """Runs each of the config's methods of gradient descent on test networks."""
  config, evaluator, test = setting.config, setting.evaluator, setting.test
  c, target = config.baselines, setting.inputs.target
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
    name = f"{optimizer} ({schedule})"
    partial = setting.partial.of(name)
    length = max(horizons) if schedule == "constant" else sum(horizons)
    with progress.bar(f"tune {name}", length) as advance:
      tuned = finetune.tune_learning_rates(
        tuner,
        setting.inputs.zoos.val,
        rates,
        horizons,
        setting.image_order,
        evaluator.train,
        evaluator.objective,
        on_epoch=advance,
        partial=partial.of("tune"),
      )
    epochs = _total_epochs(tuned.rates, schedule)
    trajectories = partial.of("test")
    resumed = trajectories.exists()
    with progress.bar(f"test networks, {name}", epochs) as advance:
      start = time.monotonic()
      weights = finetune.run_at_tuned_rates(
        tuner,
        tuned,
        test,
        setting.image_order,
        evaluator.train,
        advance,
        trajectories,
      )
      elapsed = time.monotonic() - start

    def seconds(
      _, tuner=tuner, rate=tuned.rates[horizons[0]],
      batched=None if resumed else elapsed / epochs,
    ):  # fmt: skip
      if batched is None:
        batched = _epoch_seconds(setting, tuner, rate, test, runs=1)
      alone = _epoch_seconds(setting, tuner, rate, test.take(slice(1)), runs=3)
      return Result({}, Seconds(alone, batched / test.size))

    yield TunedRun(
      tuner.key,
      tuner,
      rates,
      tuned,
      {h: test._replace(weights=w) for h, w in weights.items()},
      Seconds(*partial.remember("seconds", seconds).values),
    )


def _total_epochs(rates: Mapping[int, float], schedule: str) -> int:
  """Epochs of `finetune.run_at_tuned_rates`."""
  if schedule != "constant":
    return sum(rates)
  chosen = set(rates.values())
  return sum(max(h for h, r in rates.items() if r == c) for c in chosen)


def _epoch_seconds(
  setting: Setting,
  tuner: finetune.FineTuner,
  rate: float,
  networks: Networks,
  runs: int,
) -> float:
  """Seconds per epoch of some networks."""
  rates = jnp.full(networks.size, rate)

  def run():
    return tuner.run(
      networks, rates, [1], setting.image_order, setting.evaluator.train
    )

  return median_seconds(run, runs=runs)


def descent_candidates(
  run: TunedRun, *, at_sparsity: bool = False
) -> Iterator[Candidate]:
  """Gradient descent after each number of epochs.

  Args:
    run: the method.
    at_sparsity: whether the last candidate is measured against sparsity.
  """
  last = max(run.networks)
  for epochs, networks in run.networks.items():
    yield Candidate(
      {**run.keys, "epochs": epochs},
      lambda n=networks: n,
      lambda e=epochs: NO_SECONDS.plus_epochs(e, run.seconds),
      data_passes=float(epochs),
      at_sparsity=at_sparsity and epochs == last,
    )


def constant_networks(setting: Setting) -> tuple[Networks, Networks]:
  """Networks to put in place of all others: edits that ignore their input.

  Returns:
    (the training network with the least mean objective under the supervision
    of the validation networks, the same network after further training).
  """
  config, zoos = setting.config, setting.inputs.zoos
  mean_objectives = constant.mean_objectives(
    setting.inputs.target, l1=config.loss.l1
  )

  def evaluate(networks: Networks) -> jax.Array:
    return mean_objectives(networks, zoos.val, *setting.evaluator.val)

  objectives = _remember_array(
    setting, "constant objectives", lambda: evaluate(zoos.train)
  )
  best = constant.best_network(zoos.train, objectives)
  start = best._replace(class_to_output=None, teacher=None)
  supervision = zoos.train if _supervision_differs(zoos.test) else None
  return best, _train_one(setting, "constant", start, evaluate, supervision)


def _remember_array(
  setting: Setting, name: str, compute: Callable[[], jax.Array]
) -> jax.Array:
  found = setting.partial.remember(
    name, lambda _: Result({"array": np.asarray(compute())})
  )
  return jnp.asarray(found.arrays["array"])


def constant_candidates(
  setting: Setting, best: Networks, trained: Networks
) -> Iterator[Candidate]:
  """The constants, see `constant_networks`."""
  epochs = setting.config.baselines.constant_epochs
  yield Candidate(
    {"method": "constant", "source": "best_of_zoo"},
    lambda: constant.replace_all(best, setting.test),
  )
  yield Candidate(
    {"method": "constant", "source": "trained", "epochs": epochs},
    lambda: constant.replace_all(trained, setting.test),
  )


def pretrained_start(setting: Setting, trained: Networks) -> Start:
  """One trained network in place of all, as the start of further training.

  Where the supervision differs between networks, the constant `trained` is a
  compromise; then one network is trained under its own supervision instead.
  """
  zoos, evaluator = setting.inputs.zoos, setting.evaluator
  needed = (
    evaluator.solve_last_layer is not None
    or setting.config.baselines.epochs_after_constant
  )
  network = trained
  if needed and _supervision_differs(zoos.test):
    # By labels: a network with constant outputs is its own best student.
    by_labels = _remember_array(
      setting,
      "objectives by labels",
      lambda: evaluator.objective(zoos.train._replace(teacher=None)),
    )
    start = best_with_most_outputs(zoos.train, by_labels)
    network = _train_one(setting, "pretrained", start, evaluator.objective)
  return Start("pretrained", functools.partial(constant.replace_all, network))


def best_with_most_outputs(
  networks: Networks, objective: jax.Array
) -> Networks:
  """The network of least objective [B] among those with the most outputs.

  An easy task, with few classes to tell apart, teaches few features.
  """
  if networks.class_to_output is not None:
    classes = np.asarray(networks.class_to_output)
    outputs = np.array([len(set(row[row >= 0])) for row in classes])
    objective = jnp.where(outputs == outputs.max(), objective, jnp.inf)
  return constant.best_network(networks, objective)


def _supervision_differs(networks: Networks) -> bool:
  """Whether the right outputs differ between networks."""
  return networks.class_to_output is not None or networks.teacher is not None


def _train_one(
  setting: Setting,
  name: str,
  start: Networks,
  evaluate: Callable[[Networks], jax.Array],
  supervision: Networks | None = None,
) -> Networks:
  """One network, trained for `config.baselines.constant_epochs`.

  Args:
    setting: images.
    name: of the training, to be resumed.
    start: one network.
    evaluate: networks -> objectives [B] on validation images.
    supervision: networks whose labels or teachers take turns in training; None
      for the supervision of `start`.
  """
  config, target = setting.config, setting.inputs.target
  c = config.baselines
  tuner = finetune.fine_tuner(
    target,
    optimizer="adam",
    schedule="constant",
    l1=config.loss.l1,
    batch_size=c.batch_size,
    supervision=supervision,
    vmap_size=build.default_vmap_size(target),
  )
  with progress.bar("one network offline", c.constant_epochs) as advance:
    weights = constant.train_offline(
      tuner,
      start,
      c.learning_rates,
      c.constant_epochs,
      setting.image_order,
      setting.evaluator.train,
      evaluate,
      advance,
      setting.partial.of(name),
    )
  return start._replace(weights=weights)


def last_layer_candidates(
  setting: Setting, starts: Iterable[Start]
) -> Iterator[Candidate]:
  """The last layer solved for after each of several edits."""
  solve = setting.evaluator.solve_last_layer
  if solve is None:
    return
  for start in starts:

    def run(networks: Networks, start=start) -> Networks:
      return solve(start.edit(networks))

    yield Candidate(
      start.keys("last_layer"),
      functools.partial(run, setting.test),
      functools.partial(time_edit, run, setting.test),
      data_passes=1.0,
    )


def further_candidates(
  setting: Setting, run: TunedRun, start: Start, horizons: Sequence[int]
) -> Iterator[Candidate]:
  """Gradient descent that starts from edited networks.

  Args:
    setting: networks and images.
    run: the method, which is tuned again for this start.
    start: the edit.
    horizons: epochs after it.
  """
  zoos, evaluator = setting.inputs.zoos, setting.evaluator
  partial = setting.partial.of(f"{start.name} + epochs")
  with progress.bar(f"{start.name} + epochs", max(horizons)) as advance:
    tuned = finetune.tune_learning_rates(
      run.tuner,
      start.edit(zoos.val),
      run.rates,
      tuple(horizons),
      setting.image_order,
      evaluator.train,
      evaluator.objective,
      on_epoch=advance,
      partial=partial.of("tune"),
    )
  networks = start.edit(zoos.test)
  results = finetune.run_at_tuned_rates(
    run.tuner,
    tuned,
    networks,
    setting.image_order,
    evaluator.train,
    partial=partial.of("test"),
  )
  for epochs, weights in results.items():
    yield Candidate(
      start.keys(**run.keys, epochs=epochs),
      lambda w=weights: networks._replace(weights=w),
      lambda e=epochs: start.seconds().plus_epochs(e, run.seconds),
      data_passes=float(epochs),
    )
