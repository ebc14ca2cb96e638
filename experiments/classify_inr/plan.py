"""Classification of images by the weights of networks that render them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.bench.machine import median_seconds
from experiments.inr import renderings
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import (
  MetaNetwork,
  Networks,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.saved import save_functional
from scalegmn_jax.symmetry import measure, phase
from scalegmn_jax.training import augmentation
from scalegmn_jax.training.objectives import classification_objective
from scalegmn_jax.zoo.inrs import Inrs


class Method(NamedTuple):
  """A row of the table.

  Attributes:
    label: of the row.
    symmetry: one of `rivals.SYMMETRIES`.
    augmented: whether training networks are varied.
    phases: of what is read: "folded"; as they were "fitted"; or "shifted" by
      up to half a turn, at random in training and as fitted in the test.
  """

  label: str
  symmetry: str
  augmented: bool
  phases: str = "folded"


METHODS = {
  "plain": Method("ScaleGMN", "target", False),
  "augmented": Method("ScaleGMN, augmented", "target", True),
  "unfolded": Method(
    "ScaleGMN, augmented, phases not folded", "target", True, "fitted"
  ),
  "shifted": Method(
    "ScaleGMN, augmented, phases shifted at random", "target", True, "shifted"
  ),
  "permutation": Method("permutation-only GMN, augmented", "permutation", True),
  "mlp": Method("flat MLP, augmented", "mlp", True),
}

COLUMNS = {
  "accuracy": ("accuracy", "{:.3f}"),
  "low": ("from", "{:.3f}"),
  "high": ("to", "{:.3f}"),
  "cross_entropy": ("CE", "{:.3f}"),
  "val_accuracy": ("val. accuracy", "{:.3f}"),
  "sign_error": ("sign error", "{:.1e}"),
  "phase_error": ("phase error", "{:.1e}"),
  "rate": ("rate", "{:g}"),
  "parameters": ("parameters", "{:d}"),
  "seconds": ("s/network", "{:.2g}"),
}

SHORT = ("accuracy", "low", "high", "sign_error", "seconds")


def check(config: ConfigDict) -> None:
  renderings.check(config, METHODS)


def plan(config: ConfigDict) -> Plan:
  given = renderings.fitted(config)
  target = given.target
  classes = int(given.train.pictures.label.max()) + 1
  device_data = jax.device_put(
    (given.train.networks, given.train.pictures.label)
  )
  # What rivals are standardized by: the weights as they will see them.
  canonical = renderings.folded(target, given.train.networks).weights
  trained = {
    name: _metanetwork(METHODS[name], config, target, classes, canonical)
    for name in tuple(config.methods)
  }
  readers = {name: batched.read_networks(m) for name, m in trained.items()}

  def maker(name: str) -> Callable[[str, float], TrainingJob]:
    method, metanetwork = METHODS[name], trained[name]
    task = classification_objective(
      metanetwork,
      networks=config.train.batch_networks,
      vary=_vary(method, config, target),
    )

    def validate(params):
      found = _measured(readers[name](params, given.val.networks), given.val)
      return {
        "val_objective": found.cross_entropy,
        "val_accuracy": found.hits.mean(),
      }

    return lambda run, rate: TrainingJob(
      metanetwork, task, device_data, validate, config.train.steps,
      config.seed, _saver(run, method, config, target, classes), rate,
    )  # fmt: skip

  runs = renderings.jobs(config, {name: maker(name) for name in trained})

  def evaluate(params: Mapping[str, Params]) -> Outcome:
    rows = []
    for name, read in readers.items():
      progress.console.print(f"measure {METHODS[name].label}")
      best = renderings.best(runs[name], params)
      row = _row(config, given, METHODS[name].label, read, best.params)
      rows.append({**row, **best.values, "rate": best.rate})
    return _outcome(config, given, rows)

  return Plan({k: v for r in runs.values() for k, v in r.items()}, evaluate)


def _arguments(config: ConfigDict, classes: int) -> dict[str, Any]:
  """Of a ScaleGMN."""
  return config.model.to_dict() | {"outputs": classes}


def _metanetwork(
  method: Method,
  config: ConfigDict,
  target: TargetNetwork,
  classes: int,
  weights: Weights,
) -> MetaNetwork:
  arguments = _arguments(config, classes)
  found = symmetry_levels.functional_with_symmetry(
    method.symmetry, arguments, target, weights
  )
  if method.phases != "folded":
    return found
  return phase.fold_before(found, target.spec, config.target.omega)


def _vary(
  method: Method, config: ConfigDict, target: TargetNetwork
) -> Callable[[jax.Array, Weights], Weights] | None:
  """What a training network becomes before it is read."""
  if not method.augmented:
    return None
  ranges = augmentation.AugmentRanges(**config.augment)

  def vary(key, weights):
    k_augment, k_shift = jax.random.split(key)
    weights = augmentation.augment(k_augment, weights, ranges)
    if method.phases != "shifted":
      return weights
    turns = phase.sample(k_shift, target.spec, reach=1)
    return phase.shift(target.spec, weights, turns, config.target.omega)

  return vary


def _saver(
  run: str,
  method: Method,
  config: ConfigDict,
  target: TargetNetwork,
  classes: int,
):
  """A ScaleGMN is left in the workdir as something to load."""
  if method.symmetry != "target":
    return None
  return lambda folder, params: save_functional(
    folder / run, target, _arguments(config, classes), params
  )


class _Measured(NamedTuple):
  """Mean nats, and whether each network's class is right [B]."""

  cross_entropy: float
  hits: np.ndarray


def _measured(logits: jax.Array, shown: Inrs) -> _Measured:
  label = shown.pictures.label
  ce = optax.softmax_cross_entropy_with_integer_labels(logits, label)
  return _Measured(float(ce.mean()), np.asarray(logits).argmax(1) == label)


SYMMETRY = 64
"""Test networks on which the error of the symmetry is measured."""


def _row(
  config: ConfigDict,
  given: renderings.Renderings,
  label: str,
  read: Callable[[Params, Networks], jax.Array],
  params: Params,
) -> dict[str, Any]:
  target, zoo = given.target, given.test.networks
  found = _measured(read(params, zoo), given.test)
  right = int(found.hits.sum())
  interval = scipy.stats.binomtest(right, len(found.hits)).proportion_ci(
    method="wilson"
  )
  first = jax.tree.map(lambda a: a[:1], zoo)
  some = jax.tree.map(lambda a: a[:SYMMETRY], zoo)
  key = jax.random.key(config.seed)
  sign_error = measure.output_error(read, target)
  before = read(params, some)
  after = read(params, renderings.shifted(target, some, key))
  return {
    "method": label,
    "accuracy": right / len(found.hits),
    "low": interval.low,
    "high": interval.high,
    "cross_entropy": found.cross_entropy,
    "sign_error": float(sign_error(params, some, key)),
    "phase_error": float(
      (jnp.abs(after - before) / before.std(0, keepdims=True)).max()
    ),
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    "seconds": median_seconds(lambda: read(params, first)),
  }


def _outcome(
  config: ConfigDict, given: renderings.Renderings, rows: list[dict[str, Any]]
) -> Outcome:
  counts = renderings.counts(given)
  psnr = float(given.test.psnr.mean())
  table = Table(
    f"INRs of {counts['test']} {config.data.name} test images, of one INR "
    f"each; {counts['train']} training INRs of "
    f"{len(set(given.train.pictures.image))} images. Accuracy with its 95 % "
    "Wilson interval",
    COLUMNS,
    rows,
    SHORT,
  )
  best = max(rows, key=lambda row: row["accuracy"])
  lines = [
    f"{best['method']} is right on {best['accuracy']:.1%} of the test images "
    f"({best['low']:.1%} to {best['high']:.1%})",
    f"The INRs render their images to {psnr:.1f} dB",
  ]
  examples = renderings.one_of_each(given)
  shown = jax.tree.map(lambda a: a[examples], given.test.networks)
  return Outcome(
    [table],
    lines,
    {
      "accuracy.png": _bars(rows),
      "inrs.png": renderings.gallery(
        {
          "image": given.test.pictures.pixels[examples],
          "INR": renderings.rendered(given, shown),
        }
      ),
    },
    {"inrs": counts, "psnr": psnr},
  )


def _bars(rows: list[dict[str, Any]]) -> Figure:
  """Accuracy of each row and its interval."""
  figure = Figure(figsize=(7, 0.5 * len(rows) + 1))
  axis = figure.subplots()
  names = [row["method"] for row in rows]
  values = np.array([row["accuracy"] for row in rows])
  beyond = [
    [row["accuracy"] - row["low"] for row in rows],
    [row["high"] - row["accuracy"] for row in rows],
  ]
  axis.barh(names, values, xerr=beyond, color="tab:blue", alpha=0.7, capsize=3)
  axis.invert_yaxis()
  axis.set(xlim=(0, 1), xlabel="accuracy on INRs of test images")
  return figure
