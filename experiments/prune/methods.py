"""Every method of pruning: its rates chosen on validation, its accuracy."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import progress
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.baselines import constant, importance, pruning
from scalegmn_jax.batched import EditFn
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner import tune_grid
from scalegmn_jax.inner.objective import evaluate_network

UNTUNED = ", no fine-tuning"

Entrants = Mapping[str, Sequence[pruning.PruneMethod]]
"""{method: how each seed of φ does it, one if it has no φ}."""


class Subject(NamedTuple):
  """What is pruned.

  Attributes:
    title: for tables.
    chosen_on: networks on which settings are chosen, on validation images.
    networks: those of the table, on test images.
  """

  title: str
  chosen_on: Networks
  networks: Networks


class Measured(NamedTuple):
  """What one method did to the networks of a subject.

  Attributes:
    accuracy: [shares, seeds, networks] on test images.
    seconds: per network and sparsity, one after the other.
    data_passes: over the training images.
    epochs: of fine-tuning.
    settings: {sparsity: the chosen settings of each seed}.
    tuning: of each seed, [(settings, {sparsity: validation error}), ...].
  """

  accuracy: np.ndarray
  seconds: float
  data_passes: float
  epochs: int
  settings: Mapping[str, Any]
  tuning: Sequence[Any]


class Editor(NamedTuple):
  """What is done to networks before they are pruned.

  Attributes:
    edits: see `pruning.Method`, one per seed of φ.
    axes: settings of the edit and their values.
    data_passes: of the training of φ, if it was for this network alone.
  """

  edits: Sequence[Callable[[Networks, pruning.PruneSettings], Networks]]
  axes: Mapping[str, Sequence[float]] = {}
  data_passes: float = 0.0


def by_operator(shot: EditFn, operators: Sequence[Params]) -> Editor:
  """In one shot (`populations.one_shot`), for several φ."""

  def edit(params):
    return lambda zoo, settings: shot(params, zoo)

  return Editor([edit(params) for params in operators])


def by_predictor(
  climb: Callable[..., Any], predictors: Sequence[Params], config: ConfigDict
) -> Editor:
  """Up the predicted accuracy (`pruning.ascent`), for several φ."""

  climbed = batched.apply_batched(
    lambda shared, network: climb(shared[0], network, *shared[1:]),
    batch_size=1,
  )

  def edit(params):
    def up(zoo, settings):
      rate, l1 = settings["ascent_rate"], settings["ascent_l1"]
      weights = climbed((params, rate, l1), zoo)
      return zoo._replace(weights=weights)

    return up

  c = config.prune
  return Editor(
    [edit(params) for params in predictors],
    {"ascent_rate": c.ascent_learning_rates, "ascent_l1": c.ascent_l1},
  )


def by_constant(best: Networks) -> Editor:
  """One network, a zoo of one, in the place of any."""
  return Editor(
    [lambda zoo, _: constant.repeat_network(best, zoo.activation.size)]
  )


def methods(
  config: ConfigDict,
  target: TargetNetwork,
  images: int,
  editors: Mapping[str, Editor],
) -> Entrants:
  """All methods, with the epochs of the config and, where that means something,
  without any.

  Args:
    config: of the run.
    target: the architecture.
    images: number of training images.
    editors: {name: what is done before magnitude pruning}.
  """
  c = config.prune
  magnitude = importance.magnitude(target)
  rate = {"rate": c.learning_rates}
  entrants: dict[str, list[pruning.PruneMethod]] = {}

  def add(name, score, editor):
    for epochs in (c.epochs, 0):
      axes = {**editor.axes, **(rate if epochs else {})}
      entrants[name if epochs else name + UNTUNED] = [
        pruning.PruneMethod(
          pruning.once(epochs), score, axes, edit, editor.data_passes
        )
        for edit in editor.edits
      ]

  none = Editor([pruning.unedited])
  add("magnitude", magnitude, none)
  add("magnitude (L1 gauge)", importance.magnitude(target, power=1), none)
  add("magnitude (as stored)", importance.magnitude_as_stored, none)
  entrants["iterative magnitude"] = [
    pruning.PruneMethod(pruning.gradually(c.epochs, c.rounds), magnitude, rate)
  ]

  def penalized(phases):
    return [pruning.PruneMethod(phases, magnitude, rate | {"l1": c.l1})]

  entrants["L1"] = penalized(pruning.penalized_first(c.epochs))
  seen = min(c.snip_images, images)
  snip = importance.snip(target, images=seen)
  add("SNIP", snip, none._replace(data_passes=seen / images))
  for name, editor in editors.items():
    add(name, magnitude, editor)
    if editor.data_passes:
      # As many passes for plain gradient descent.
      longer = pruning.Phase(0, math.ceil(editor.data_passes), penalized=True)
      entrants[f"L1 ({longer.epochs} epochs before)"] = penalized(
        (longer, pruning.Phase(1, c.epochs))
      )
  # Fine-tuned first.
  return dict(sorted(entrants.items(), key=lambda e: not e[1][0].epochs))


def comparer(
  config: ConfigDict, target: TargetNetwork, data: Images
) -> Callable[[Subject, Entrants], dict[str, Measured]]:
  """(subject, entrants) -> what each method did.

  Settings are those of least error on validation images, method by method and
  sparsity by sparsity.
  """
  c = config.prune
  run = pruning.pruner(
    target, batch_size=c.batch_size, vmap_size=build.default_vmap_size(target)
  )
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  train, val, test = jax.device_put(
    (
      (data.train_x, data.train_y),
      (data.val_x, data.val_y),
      (data.test_x, data.test_y),
    )
  )

  accurate = batched.apply_batched(
    lambda images, network: evaluate_network(target.apply, network, *images)[1],
    batch_size=1,
  )

  def accuracy(zoo, images) -> np.ndarray:
    return np.asarray(accurate(images, zoo))

  def choose(method, zoo, on_epoch) -> tune_grid.GridResult:
    edited: dict[tuple, Networks] = {}

    def errors(point):
      settings = dict(zip(method.axes, point, strict=True))
      # The rate comes after the edit.
      which = tuple(v for k, v in settings.items() if k != "rate")
      if which not in edited:
        edited[which] = method.edit(zoo, settings)
      start, values = edited[which], {}
      for share in c.sparsities:
        weights = run(method, start, share, settings, key, train, on_epoch)
        pruned = start._replace(weights=weights)
        values[share] = 1 - float(accuracy(pruned, val).mean())
      return values

    return tune_grid.tune_grid(
      lambda points: [errors(point) for point in points],
      list(method.axes.values()),
      extensions=c.extensions,
    )

  def measure(method, subject, on_epoch):
    found = choose(method, subject.chosen_on, on_epoch)
    zoo, results, settings = subject.networks, [], {}
    start = time.perf_counter()
    for share in c.sparsities:
      point = found.best[share]
      settings[share] = dict(zip(method.axes, point, strict=True))
      edited = method.edit(zoo, settings[share])
      results.append(
        run(method, edited, share, settings[share], key, train, on_epoch)
      )
    jax.block_until_ready(results)
    count = zoo.activation.shape[0]
    seconds = (time.perf_counter() - start) / count / len(c.sparsities)
    accuracies = [accuracy(zoo._replace(weights=w), test) for w in results]
    tuning = [
      (dict(zip(method.axes, point, strict=True)), errors)
      for point, errors in found.objective.items()
    ]
    return np.stack(accuracies), seconds, settings, tuning

  def compare(subject, entrants):
    measured = {}
    total = sum(
      _epochs(method, subject, len(c.sparsities))
      for members in entrants.values()
      for method in members
    )
    with progress.bar("prune", total) as advance:
      for label, members in entrants.items():
        advance(label.removesuffix(UNTUNED), 0)
        found = [measure(m, subject, advance) for m in members]
        accuracies, seconds, settings, tuning = zip(*found, strict=True)
        measured[label] = Measured(
          np.stack(accuracies, axis=1),
          float(np.mean(seconds)),
          members[0].epochs + members[0].data_passes,
          members[0].epochs,
          {
            f"{share:g}": [s[share] for s in settings] for share in c.sparsities
          },
          tuning,
        )
    return measured

  return compare


def _epochs(method: pruning.PruneMethod, subject: Subject, shares: int) -> int:
  """Epochs of all networks, if no grid grows."""
  points = math.prod(len(values) for values in method.axes.values())
  _, chosen_on, networks = subject
  count = points * chosen_on.activation.size + networks.activation.size
  return count * shares * method.epochs
