"""Functionals that classify INRs, their training and their measurement."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.typing
import numpy as np
import optax
import scipy.stats
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.inr.data import InrSplit, fold_phases, shift_phases
from experiments.inr.methods import jobs_by_method, steps_by_method
from experiments.readers import READERS, Reading
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from scalegmn_jax import devices
from scalegmn_jax.base import Functional, Networks, Params, Weights
from scalegmn_jax.baselines import statistics
from scalegmn_jax.batched import ReadFn
from scalegmn_jax.saved import save_functional
from scalegmn_jax.symmetry import measure, phase
from scalegmn_jax.training import augmentation
from scalegmn_jax.training.objectives import classification_objective
from scalegmn_jax.zoo.inrs import Inrs


class Method(NamedTuple):
  """How a functional reads INRs and is trained.

  Attributes:
    reader: one of `readers.READERS`.
    augmented: whether training networks are augmented.
    phases: "folded"; "fitted", as the fit left them; or "shifted" by up to half
      a turn, at random in training and as fitted in the test.
  """

  reader: str
  augmented: bool
  phases: str = "folded"


METHODS = {
  "plain": Method("scalegmn", False),
  "augmented": Method("scalegmn", True),
  "unfolded": Method("scalegmn", True, "fitted"),
  "shifted": Method("scalegmn", True, "shifted"),
  **{
    # Answers to probes have no phases.
    name: Method(name, True, "fitted" if name == "probes" else "folded")
    for name in READERS
    if name != "scalegmn"  # as "augmented"
  },
}
"""Methods that are metanetworks."""

SYMMETRY_NETWORKS = 64
"""Test networks on which symmetry errors are measured."""


def reading_of(config: ConfigDict, inrs: InrSplit) -> Reading:
  """What the functionals of a run are made for: a logit per class."""
  # Baselines standardize their input: by the weights as they will read them.
  folded = fold_phases(inrs.target, inrs.train.networks).weights
  # Probes begin as random points of the images.
  points = np.random.RandomState(config.seed).uniform(
    inrs.grid.min(0), inrs.grid.max(0), (config.probes.count, 2)
  )
  return Reading(
    inrs.target, folded, points, int(inrs.train.pictures.label.max()) + 1,
    config.model.to_dict(), config.probes.count, *select.seeds(config),
  )  # fmt: skip


def make_functionals(
  config: ConfigDict, reading: Reading
) -> dict[str, Functional]:
  """{method: functional with a logit per class}."""
  return {
    name: make_functional(config, reading, name)
    for name in config.methods
    if name in METHODS
  }


def make_functional(
  config: ConfigDict, reading: Reading, method: str
) -> Functional:
  """The functional of one of `METHODS`."""
  functional = READERS[METHODS[method].reader].make(reading)
  if METHODS[method].phases != "folded":
    return functional
  return phase.fold_before(functional, reading.target.spec, config.target.omega)


def make_jobs(
  config: ConfigDict,
  inrs: InrSplit,
  reading: Reading,
  functionals: Mapping[str, Functional],
  read: Mapping[str, ReadFn],
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: job}}, a job per learning rate.

  Args:
    config: of the run.
    inrs: networks and the labels of their images.
    reading: what the functionals were made for.
    functionals: {method: functional with a logit per class}.
    read: {method: the functional mapped over networks}.
  """
  data = devices.replicate((inrs.train.networks, inrs.train.pictures.label))

  objective = functools.partial(
    classification_objective, batch_networks=config.train.batch_networks
  )
  steps = steps_by_method(
    config, functionals, functools.partial(make_functional, config, reading),
    objective, data,
  )  # fmt: skip

  def make_job(method, name, learning_rate):
    def validate(params):
      scores = _score(read[method](params, inrs.val.networks), inrs.val)
      return {
        "val_objective": scores.cross_entropy,
        "val_accuracy": scores.correct.mean(),
      }

    arguments = READERS[METHODS[method].reader].arguments

    def save(folder, params):
      assert arguments is not None
      networks = inrs.train.networks
      if METHODS[method].phases == "folded":
        networks = networks._replace(weights=reading.weights)
      about = build.about(
        config, inrs.target, networks, "cross-entropy of the class",
        inrs.train.pictures.pixels.shape[1:],
      )  # fmt: skip
      save_functional(
        folder / name, inrs.target, arguments(reading), params,
        about=about,
      )  # fmt: skip

    vary = _augment(config, inrs, METHODS[method])
    return TrainingJob(
      functionals[method], objective(functionals[method], vary=vary), data,
      validate, steps[method], reading.seed,
      None if arguments is None else save, learning_rate,
    )  # fmt: skip

  return jobs_by_method(config, make_job, functionals)


def _augment(
  config: ConfigDict, inrs: InrSplit, method: Method
) -> Callable[[jax.Array, Weights], Weights] | None:
  """(key, weights) -> weights of another network of the same class."""
  if not method.augmented:
    return None
  spec = inrs.target.spec
  ranges = augmentation.AugmentRanges(**config.augment)

  def augment(key, weights):
    k_augment, k_shift = jax.random.split(key)
    weights = augmentation.augment(k_augment, weights, ranges)
    if method.phases != "shifted":
      return weights
    turns = phase.sample(k_shift, spec, reach=1)
    return phase.shift(spec, weights, turns, config.target.omega)

  return augment


class _Scores(NamedTuple):
  """Mean cross-entropy in nats; [B], whether each network's class is right."""

  cross_entropy: float
  correct: np.ndarray


def _score(logits: jax.Array, inrs: Inrs) -> _Scores:
  label = inrs.pictures.label
  ce = optax.softmax_cross_entropy_with_integer_labels(logits, label)
  return _Scores(float(ce.mean()), np.asarray(logits).argmax(1) == label)


def _accuracy_row(logits: jax.typing.ArrayLike, inrs: Inrs) -> dict[str, Any]:
  """The numbers of a row that concern the logits [B, classes]."""
  scores = _score(jnp.asarray(logits), inrs)
  correct, total = int(scores.correct.sum()), len(scores.correct)
  interval = scipy.stats.binomtest(correct, total).proportion_ci(
    method="wilson"
  )
  return {
    "accuracy": correct / total,
    "low": interval.low,
    "high": interval.high,
    "cross_entropy": scores.cross_entropy,
  }


def _statistics(inrs: InrSplit) -> dict[str, Any]:
  """A classifier on layer statistics of networks in canonical phases."""

  def features(networks: Networks) -> np.ndarray:
    return statistics.layer_statistics(fold_phases(inrs.target, networks))

  def labelled(part: Inrs) -> tuple[np.ndarray, np.ndarray]:
    return features(part.networks), part.pictures.label

  classifier = statistics.fit_classifier(
    labelled(inrs.train), labelled(inrs.val)
  )

  def read(networks: Networks) -> np.ndarray:
    return classifier.predict(features(networks))

  one = inrs.test.networks.take(slice(1))
  return _accuracy_row(read(inrs.test.networks), inrs.test) | {
    "val_accuracy": classifier.accuracy,
    "seconds": median_seconds(lambda: read(one)),
    "selected": classifier.name,
  }


def _constant(inrs: InrSplit) -> dict[str, Any]:
  """The frequencies of the classes of training networks."""
  share = np.bincount(inrs.train.pictures.label) / inrs.sizes["train"]
  logits = np.log(np.maximum(share, statistics.TINY))[None]
  return _accuracy_row(logits.repeat(inrs.sizes["test"], 0), inrs.test)


BASELINES: Mapping[str, Callable[[InrSplit], dict[str, Any]]] = {
  "statistics": _statistics,
  "constant": _constant,
}
"""Methods that are not metanetworks: networks -> numbers of a row."""


def measure_row(
  inrs: InrSplit, read: ReadFn, params: Params, seed: int
) -> dict[str, Any]:
  """The numbers of a row: a functional on test networks.

  Args:
    inrs: the networks.
    read: the functional, see `batched.read_networks`.
    params: φ.
    seed: of the group elements by which symmetry errors are measured.
  """
  networks = inrs.test.networks
  one, sample = networks.take(slice(1)), networks.take(slice(SYMMETRY_NETWORKS))
  key = jax.random.key(seed)
  original = read(params, sample)
  shifted = read(params, shift_phases(inrs.target, sample, key))
  distance = jnp.abs(shifted - original) / original.std(0, keepdims=True)
  return _accuracy_row(read(params, networks), inrs.test) | {
    "sign_error": float(
      measure.output_error(read, inrs.target)(params, sample, key)
    ),
    "phase_error": float(distance.max()),
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    "seconds": median_seconds(lambda: read(params, one)),
  }
