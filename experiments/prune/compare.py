"""Pruning methods: settings chosen on validation data, test accuracy."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.prune.data import PruneSubject
from experiments.prune.methods import MethodKey, Methods
from experiments.runner import progress
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, TargetNetwork
from scalegmn_jax.baselines import pruning
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner import tune_grid
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.partial import NOTHING, Partial, Result


class PruneResult(NamedTuple):
  """The result of one method on the networks of a subject.

  Attributes:
    accuracy: [sparsities, seeds, networks] on test images.
    seconds: per network and sparsity, one after another.
    data_passes: over the training images.
    settings: {sparsity: the chosen settings of each seed}.
    tuning: of each seed, [(settings, {sparsity: validation error}), ...].
  """

  accuracy: np.ndarray
  seconds: float
  data_passes: float
  settings: Mapping[str, Any]
  tuning: Sequence[Any]


Results = dict[MethodKey, PruneResult]


class _SeedResult(NamedTuple):
  """Like `PruneResult`, for one seed: accuracy [sparsities, networks]."""

  accuracy: np.ndarray
  seconds: float
  settings: Mapping[float, Any]
  tuning: Sequence[Any]


def make_comparison(
  config: ConfigDict, target: TargetNetwork, data: Images
) -> Callable[[PruneSubject, Methods], Results]:
  """Makes a function that measures methods on a subject.

  Settings have the least error on validation images, for each method and
  sparsity.

  Args:
    config: of the run.
    target: the architecture.
    data: training, validation and test images.
  """
  c = config.prune
  run = pruning.pruner(
    target,
    batch_size=c.batch_size,
    vmap_size=build.default_vmap_size(target),
  )
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  train, val, test = data.device_splits()
  network_accuracy = batched.apply_batched(
    lambda images, network: evaluate_network(target.apply, network, *images)[1],
    batch_size=1,
  )

  def accuracy(networks: Networks, images) -> np.ndarray:
    return np.asarray(network_accuracy(images, networks))

  def tune(method, networks, on_epoch, partial) -> tune_grid.GridResult:
    edited: dict[tuple, Networks] = {}

    def errors(point):
      name = " ".join(map(str, ("errors", *point)))
      found = partial.remember(
        name, lambda part: Result({}, list(errors_of(point, part).items()))
      )
      return dict(found.values)

    def errors_of(point, part):
      settings = dict(zip(method.axes, point, strict=True))
      # The learning rate of fine-tuning does not change the edit.
      edit_settings = tuple(v for k, v in settings.items() if k != "rate")
      if edit_settings not in edited:
        edited[edit_settings] = method.edit(networks, settings)
      start, values = edited[edit_settings], {}
      for share in c.sparsities:
        weights = run(
          method,
          start,
          share,
          settings,
          key,
          train,
          on_epoch,
          part.of(str(share)),
        )
        pruned = start._replace(weights=weights)
        values[share] = 1 - float(accuracy(pruned, val).mean())
      return values

    return tune_grid.tune_grid(
      lambda points: [errors(point) for point in points],
      list(method.axes.values()),
      extensions=c.extensions,
    )

  def measure(method, subject, on_epoch, partial) -> _SeedResult:
    grid = tune(method, subject.tuning, on_epoch, partial)
    networks, accuracies, settings = subject.networks, [], {}
    elapsed = 0.0

    def pruned(share) -> Result:
      start = time.monotonic()
      edited = method.edit(networks, settings[share])
      weights = jax.block_until_ready(
        run(method, edited, share, settings[share], key, train, on_epoch)
      )
      seconds = time.monotonic() - start
      measured = accuracy(networks._replace(weights=weights), test)
      return Result({"accuracy": measured}, seconds)

    for share in c.sparsities:
      point = grid.best[share]
      settings[share] = dict(zip(method.axes, point, strict=True))
      result = partial.remember(f"test {share}", lambda _, s=share: pruned(s))
      accuracies.append(result.arrays["accuracy"])
      elapsed += result.values
    tuning = [
      (dict(zip(method.axes, point, strict=True)), errors)
      for point, errors in grid.objective.items()
    ]
    return _SeedResult(
      np.stack(accuracies),
      elapsed / networks.size / len(c.sparsities),
      settings,
      tuning,
    )

  def compare(
    subject: PruneSubject, methods: Methods, partial: Partial = NOTHING
  ) -> Results:
    total = sum(
      _epochs(method, subject, len(c.sparsities))
      for by_seed in methods.values()
      for method in by_seed
    )
    results = {}
    with progress.bar("prune", total) as advance:
      for method_key, by_seed in methods.items():
        advance(method_key.method, 0)
        name = " ".join(map(str, method_key))
        seeds = [
          measure(method, subject, advance, partial.of(f"{name} {seed}"))
          for seed, method in enumerate(by_seed)
        ]
        results[method_key] = PruneResult(
          np.stack([s.accuracy for s in seeds], axis=1),
          float(np.mean([s.seconds for s in seeds])),
          by_seed[0].epochs + by_seed[0].data_passes,
          {
            f"{share:g}": [s.settings[share] for s in seeds]
            for share in c.sparsities
          },
          [s.tuning for s in seeds],
        )
    return results

  return compare


def _epochs(
  method: pruning.PruneMethod, subject: PruneSubject, sparsities: int
) -> int:
  """Epochs of all networks, if no grid grows."""
  points = math.prod(len(values) for values in method.axes.values())
  networks = points * subject.tuning.size + subject.networks.size
  return networks * sparsities * method.epochs
