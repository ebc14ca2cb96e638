"""How far compressed networks are from their own outputs, and the training of
an operator that brings them nearer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import progress
from experiments.runner.experiment import TrainingJob
from experiments.runner.select import seeds
from scalegmn_jax import batched, devices
from scalegmn_jax.base import (
  Network,
  Networks,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner.objective import evaluate_networks, kl_divergence
from scalegmn_jax.partial import Partial, Result
from scalegmn_jax.training.step import Objective

OPERATOR = "operator"
"""The name of the method that is trained."""

SMALL = 1e-4
"""Divergence, in nats, that is added where one is divided by another."""


class CompressionData(NamedTuple):
  """Data of a run.

  Attributes:
    images: the image set.
    target: the architecture.
    zoo: networks, each with itself as its teacher.
  """

  images: Images
  target: TargetNetwork
  zoo: build.ZooSplit


def load(config: ConfigDict) -> CompressionData:
  """Reads or generates the data of a run."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  zoo = build.build_zoos(config, target, images).keeping_outputs()
  return CompressionData(images, target, zoo)


class Measured(NamedTuple):
  """Compressed test networks on test images.

  Attributes:
    divergence: [levels, networks], KL from their own outputs in nats; of an
      operator the mean over the seeds of φ.
    accuracy: [levels, networks], share of correct labels.
    images: training images that the method reads in each network.
  """

  divergence: np.ndarray
  accuracy: np.ndarray
  images: int


def divergence_of(
  target: TargetNetwork, network: Network, compressed: Weights, x: jax.Array
) -> jax.Array:
  """KL of the outputs of a compressed network from its own, in nats."""
  own = jax.nn.softmax(target.apply(network.weights, x, network.activation))
  return kl_divergence(target.apply(compressed, x, network.activation), own)


Divergences = Callable[..., tuple[jax.Array, jax.Array]]
"""(φ, network, level, images) -> (divergence after the operator, divergence
after what it is compared with in training), in nats."""


def relative_objective(
  config: ConfigDict, divergences: Divergences, levels: Sequence[float]
) -> Objective:
  """The divergence after the operator over that after a plain compression.

  Each network of a step is compressed to one of the levels, drawn at random.
  Divergences of networks and levels differ by orders of magnitude; relative to
  the plain compression they count alike. Data: (networks, images [N, ...]).
  """
  choices = jnp.asarray(levels)
  networks_per_step = config.train.batch_networks
  images_per_step = config.train.batch_images

  def draw(key, step, data):
    del step
    networks, x = data
    k_rows, k_levels, k_images = jax.random.split(key, 3)
    rows = jax.random.randint(k_rows, (networks_per_step,), 0, networks.size)
    drawn = jax.random.choice(k_levels, choices, (networks_per_step,))
    indices = jax.random.randint(k_images, (images_per_step,), 0, len(x))
    return (networks.take(rows), drawn), x[indices]

  def loss(params, item, x):
    network, level = item
    ours, theirs = divergences(params, network, level, x)
    relative = ours / jax.lax.stop_gradient(theirs + SMALL)
    return relative, {"objective": relative, "divergence": ours}

  return Objective(draw, loss)


def job_name(seed: int) -> str:
  """The name of a training."""
  return f"seed_{seed}"


def make_jobs(
  config: ConfigDict,
  data: CompressionData,
  divergences: Divergences,
  levels: Sequence[float],
  operator: Any,
  save: Callable[..., None],
) -> dict[str, TrainingJob]:
  """A training per seed, for all levels.

  Args:
    config: of the run.
    data: of the run.
    divergences: see `Divergences`.
    levels: what an operator is trained on.
    operator: what is trained.
    save: (folder of a training, φ, description) -> None.
  """
  zoo = data.zoo
  objective = relative_objective(config, divergences, levels)
  train_x, val_x = devices.replicate((data.images.train_x, data.images.val_x))

  @jax.jit
  def measure(params, level):
    ours, theirs = jax.lax.map(
      lambda network: divergences(params, network, level, val_x), zoo.val
    )
    return ours.mean(), theirs.mean()

  def validate(params):
    """Sums over networks, as the table has them, relative to the plain one."""
    found = np.asarray([measure(params, level) for level in levels])
    ours, theirs = found.T
    return {
      "val_objective": float((ours / (theirs + SMALL)).mean()),
      "val_divergence": float(ours.mean()),
    }

  def make(seed):
    def save_one(folder, params):
      about = build.about(config, data.target, zoo.train, "KL from own outputs")
      save(folder / job_name(seed), params, about)

    return TrainingJob(
      operator, objective, (zoo.train, train_x), validate,
      config.train.steps, seed, save_one,
    )  # fmt: skip

  return {job_name(seed): make(seed) for seed in seeds(config)}


Compress = Callable[[], Weights]
"""() -> compressed weights of the test networks."""


def compress_by(
  config: ConfigDict,
  data: CompressionData,
  params: Mapping[str, Params],
  operator: Operator,
) -> list[Compress]:
  """How an operator compresses, once for each φ of the trainings."""
  edit = batched.edit_networks(operator)
  found = [params[job_name(seed)] for seed in seeds(config)]
  return [lambda p=p: edit(p, data.zoo.test).weights for p in found]


def make_measure(
  data: CompressionData, partial: Partial
) -> Callable[[str, int, Sequence[Sequence[Compress]]], Measured]:
  """(name, images that it reads, for each level how it compresses, once for
  each φ) -> what is left of the test networks. `partial` keeps results."""
  target, networks = data.target, data.zoo.test
  *_, test = data.images.device_splits()

  @jax.jit
  def evaluate(networks: Networks, x, y):
    divergence, *_ = evaluate_networks(target.apply, networks, x, y)
    return divergence, accuracies(target, networks, x, y)

  def evaluated(compress: Compress) -> np.ndarray:
    weights = compress()
    return np.stack(evaluate(networks._replace(weights=weights), *test))

  def measure(name, images, levels):
    progress.console.print(f"measure {name}")

    def compute(_: Partial) -> Result:
      values = [
        np.mean([evaluated(c) for c in several], axis=0) for several in levels
      ]
      return Result({"measured": np.stack(values, axis=1)})

    divergence, accuracy = partial.remember(name, compute).arrays["measured"]
    return Measured(divergence, accuracy, images)

  return measure


def accuracies(
  target: TargetNetwork, networks: Networks, x: jax.Array, y: jax.Array
) -> jax.Array:
  """[networks] share of correct labels, whatever the teachers say."""
  labelled = networks._replace(teacher=None)
  return evaluate_networks(target.apply, labelled, x, y)[1]


def original(data: CompressionData) -> np.ndarray:
  """[networks] test accuracy of the test networks as they are."""
  *_, test = data.images.device_splits()
  evaluate = jax.jit(functools.partial(accuracies, data.target))
  return np.asarray(evaluate(data.zoo.test, *test))
