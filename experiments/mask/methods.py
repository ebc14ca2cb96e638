"""What removes weights: operators, and scores without and with data."""

import functools
from collections.abc import Callable, Mapping
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
)
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.data.images import Images
from scalegmn_jax.gmn import masks, metanetworks
from scalegmn_jax.gmn.options import Options
from scalegmn_jax.inner.objective import evaluate_networks, kl_divergence
from scalegmn_jax.partial import Partial, Result
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import kernels
from scalegmn_jax.training.step import Objective

OPERATOR = "operator"
"""The name of the method that is trained."""


class MaskData(NamedTuple):
  """Data of a run.

  Attributes:
    images: the image set.
    target: the architecture.
    zoo: networks, each with itself as its teacher.
  """

  images: Images
  target: TargetNetwork
  zoo: build.ZooSplit


class Measured(NamedTuple):
  """Test networks without the removed weights, on test images.

  Attributes:
    divergence: [sparsities, networks], KL from their own outputs in nats; of an
      operator the mean over the seeds of φ.
    accuracy: [sparsities, networks], share of correct labels.
    images: training images that the method reads in each network.
  """

  divergence: np.ndarray
  accuracy: np.ndarray
  images: int


def load(config: ConfigDict) -> MaskData:
  """Reads or generates the data of a run."""
  images = build.build_images(config)
  target = build.build_target(config, images)
  zoo = build.build_zoos(config, target, images).keeping_outputs()
  return MaskData(images, target, zoo)


def arguments(config: ConfigDict, sparsity: float) -> dict[str, Any]:
  """The arguments of the operator of a sparsity."""
  mask = {"writes": "mask", "sparsity": sparsity}
  return config.model.to_dict() | mask


def make_scorer(config: ConfigDict, target: TargetNetwork) -> masks.Scorer:
  """What is trained; its φ fits the operator of any sparsity."""
  return metanetworks.scorer(target, Options(**config.model))


def job_name(seed: int) -> str:
  """The name of a training."""
  return f"seed_{seed}"


SMALL = 1e-4
"""Divergence, in nats, that is added where one is divided by another."""


def make_divergences(
  config: ConfigDict, target: TargetNetwork
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """(φ, network, sparsity, images) -> KL from own outputs, in nats, after the
  learned mask and after the mask of balanced magnitude."""
  scorer, spec = make_scorer(config, target), target.spec

  def divergences(params, network: Network, sparsity, x):
    weights, activation = network.weights, network.activation
    own = jax.nn.softmax(target.apply(weights, x, activation))
    count = jnp.round(sparsity * kernels.count(spec, weights)).astype(int)

    def after(scores):
      mask = masks.mask_highest(spec, scores, count)
      left = jax.tree.map(jnp.multiply, weights, mask)
      return kl_divergence(target.apply(left, x, activation), own)

    magnitudes = masks.log_magnitudes(spec, weights, activation)
    return after(scorer.apply(params, weights, activation)), after(magnitudes)

  return divergences


def relative_objective(config: ConfigDict, target: TargetNetwork) -> Objective:
  """The divergence after a mask over that after the mask of magnitude.

  Each network of a step is pruned to one of the sparsities, drawn at random.
  Divergences of networks and sparsities differ by orders of magnitude; relative
  to pruning by magnitude they count alike. Data: (networks, images [N, ...]).
  """
  divergences = make_divergences(config, target)
  sparsities = jnp.asarray(config.mask.sparsities)
  networks_per_step = config.train.batch_networks
  images_per_step = config.train.batch_images

  def draw(key, step, data):
    del step
    networks, x = data
    k_rows, k_sparsities, k_images = jax.random.split(key, 3)
    rows = jax.random.randint(k_rows, (networks_per_step,), 0, networks.size)
    drawn = jax.random.choice(k_sparsities, sparsities, (networks_per_step,))
    indices = jax.random.randint(k_images, (images_per_step,), 0, len(x))
    return (networks.take(rows), drawn), x[indices]

  def loss(params, item, x):
    network, sparsity = item
    ours, theirs = divergences(params, network, sparsity, x)
    relative = ours / jax.lax.stop_gradient(theirs + SMALL)
    return relative, {"objective": relative, "divergence": ours}

  return Objective(draw, loss)


def make_jobs(config: ConfigDict, data: MaskData) -> dict[str, TrainingJob]:
  """A training per seed, for all sparsities."""
  target, zoo, sparsities = data.target, data.zoo, config.mask.sparsities
  objective = relative_objective(config, target)
  divergences = make_divergences(config, target)
  train_x, val_x = devices.replicate((data.images.train_x, data.images.val_x))

  @jax.jit
  def measure(params, sparsity):
    ours, theirs = jax.lax.map(
      lambda network: divergences(params, network, sparsity, val_x), zoo.val
    )
    return ours.mean(), theirs.mean()

  def validate(params):
    """Sums over networks, as the table has them, relative to magnitude."""
    found = np.asarray([measure(params, s) for s in sparsities])
    ours, theirs = found.T
    return {
      "val_objective": float((ours / (theirs + SMALL)).mean()),
      "val_divergence": float(ours.mean()),
    }

  def make(seed):
    def save(folder, params):
      about = build.about(config, target, zoo.train, "KL from own outputs")
      for sparsity in sparsities:
        place = folder / job_name(seed) / f"sparsity_{sparsity:g}"
        place.mkdir(exist_ok=True)
        save_operator(
          place, target, arguments(config, sparsity), params, about=about
        )

    return TrainingJob(
      make_operator(config, target, sparsities[0]), objective,
      (zoo.train, train_x), validate, config.train.steps, seed, save,
    )  # fmt: skip

  return {job_name(seed): make(seed) for seed in seeds(config)}


def make_operator(
  config: ConfigDict, target: TargetNetwork, sparsity: float
) -> Operator:
  """The operator of a sparsity."""
  return metanetworks.operator(target, **arguments(config, sparsity))


def make_scores(
  config: ConfigDict, data: MaskData
) -> dict[str, tuple[pruning.PruneMethod, int]]:
  """{method: (how it prunes, training images that it reads)}."""
  c, target = config.mask, data.target
  available = len(data.images.train_x)
  obd, snip = (min(n, available) for n in (c.obd_images, c.snip_images))
  once = pruning.once(0)

  def by(score, images=0, phases=once):
    return pruning.PruneMethod(phases, score), images

  return {
    "magnitude": by(importance.magnitude(target)),
    "magnitude_l1_gauge": by(importance.magnitude(target, power=1)),
    "magnitude_of_unit_norm": by(importance.magnitude_of_unit_norm(target)),
    "magnitude_as_stored": by(importance.magnitude_as_stored),
    "synflow": by(
      importance.synflow(target), phases=pruning.in_rounds(c.synflow_rounds)
    ),
    "obd": by(importance.obd(target, images=obd), obd),
    "snip": by(importance.snip(target, images=snip), snip),
  }


def measure_methods(
  config: ConfigDict,
  data: MaskData,
  params: Mapping[str, Params],
  partial: Partial,
) -> dict[str, Measured]:
  """{method: what is left of the test networks}, the operator first."""
  target, networks = data.target, data.zoo.test
  train, _, test = data.images.device_splits()
  # No method has epochs of fine-tuning.
  run = pruning.pruner(target, batch_size=1)
  key = jax.random.key(config.seed)

  @jax.jit
  def evaluate(networks: Networks, x, y):
    divergence, *_ = evaluate_networks(target.apply, networks, x, y)
    return divergence, accuracies(target, networks, x, y)

  def pruned(method: pruning.PruneMethod, sparsity: float) -> np.ndarray:
    edited = method.edit(networks, {})
    weights = run(method, edited, sparsity, {}, key, train)
    return np.stack(evaluate(networks._replace(weights=weights), *test))

  def measured(
    name: str, images: int, methods: Callable[[float], Any]
  ) -> Measured:
    progress.console.print(f"measure {name}")

    def compute(_: Partial) -> Result:
      values = [
        np.mean([pruned(m, sparsity) for m in methods(sparsity)], axis=0)
        for sparsity in config.mask.sparsities
      ]
      return Result({"values": np.stack(values, axis=1)})

    divergence, accuracy = partial.remember(name, compute).arrays["values"]
    return Measured(divergence, accuracy, images)

  scores = make_scores(config, data)
  by_magnitude, _ = scores["magnitude"]

  def trained(sparsity):
    """What the operator has removed are the entries of magnitude 0."""
    edit = batched.edit_networks(make_operator(config, target, sparsity))

    def by(params):
      return by_magnitude._replace(
        edit=lambda networks, _: edit(params, networks)
      )

    return [by(params[job_name(seed)]) for seed in seeds(config)]

  results = {OPERATOR: measured(OPERATOR, 0, trained)}
  for name, (method, images) in scores.items():
    results[name] = measured(name, images, lambda _, m=method: [m])
  return results


def accuracies(
  target: TargetNetwork, networks: Networks, x: jax.Array, y: jax.Array
) -> jax.Array:
  """[networks] share of correct labels, whatever the teachers say."""
  labelled = networks._replace(teacher=None)
  return evaluate_networks(target.apply, labelled, x, y)[1]


def original(data: MaskData) -> np.ndarray:
  """[networks] test accuracy of the test networks as they are."""
  *_, test = data.images.device_splits()
  evaluate = jax.jit(functools.partial(accuracies, data.target))
  return np.asarray(evaluate(data.zoo.test, *test))
