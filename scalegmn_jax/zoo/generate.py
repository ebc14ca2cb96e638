"""Training of zoo networks, with hyper-parameters drawn at random.

The ranges follow the Small CNN Zoo (Unterthiner et al. 2020,
arXiv:2002.11448, appendix A).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax import batched, compilation
from scalegmn_jax.base import (
  InputError,
  Network,
  Networks,
  TargetNetwork,
  Weights,
  random_array,
)
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.inner.objective import evaluate_network, training_divergence
from scalegmn_jax.partial import NOTHING, Partial, Result
from scalegmn_jax.symmetry.spec import output_size, trained

OPTIMIZERS = ("adam", "sgd", "rmsprop")
INITIALIZERS = (
  "glorot_normal",
  "he_normal",
  "truncated_normal",
  "orthogonal",
  "normal",
)
OWN = "target"
"""The initializer that is the `init` of the target."""


@dataclasses.dataclass(frozen=True)
class TrainingRanges:
  """Ranges of the settings with which zoo networks are trained.

  Attributes:
    learning_rate, l2, init_std: log-uniform (low, high).
    dropout: uniform (low, high).
    train_fraction, optimizer, initializer: uniform over the listed values.
    classes_per_network: how many classes of an image set each network has,
      uniform (low, high); see `draw_classes`. Empty: all networks have the
      same labels.
    outputs_per_network: into how many outputs these classes are grouped,
      uniform (low, high). Empty: every class has an output.
  """

  learning_rate: tuple[float, float] = (5e-4, 5e-2)
  l2: tuple[float, float] = (1e-8, 1e-2)
  init_std: tuple[float, float] = (1e-3, 0.5)
  dropout: tuple[float, float] = (0.0, 0.7)
  train_fraction: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
  optimizer: tuple[str, ...] = OPTIMIZERS
  initializer: tuple[str, ...] = INITIALIZERS
  classes_per_network: tuple[int, ...] = ()
  outputs_per_network: tuple[int, ...] = ()


MEASURED = 5000
"""Number of images on which losses and accuracies of a zoo are measured."""


class NetworkSettings(NamedTuple):
  """Hyper-parameters of networks, each [B]; scalars for one network.

  Attributes:
    learning_rate, l2, dropout, init_std, train_fraction: float32.
    optimizer, initializer, activation: int32 indices into `OPTIMIZERS`,
      `(*INITIALIZERS, OWN)` and the activations of the target.
  """

  learning_rate: jax.Array
  l2: jax.Array
  dropout: jax.Array
  init_std: jax.Array
  train_fraction: jax.Array
  optimizer: jax.Array
  initializer: jax.Array
  activation: jax.Array


def draw_settings(
  key: jax.Array, ranges: TrainingRanges, num_activations: int
) -> NetworkSettings:
  """Draws the settings of one network; consumes the key."""
  keys = jax.random.split(key, 8)

  def log_uniform(key, bounds):
    low, high = (math.log(b) for b in bounds)
    return jnp.exp(jax.random.uniform(key, minval=low, maxval=high))

  def choice(key, values, names):
    index = jnp.array([names.index(v) for v in values])
    return index[jax.random.randint(key, (), 0, len(values))]

  low, high = ranges.dropout
  return NetworkSettings(
    learning_rate=log_uniform(keys[0], ranges.learning_rate),
    l2=log_uniform(keys[1], ranges.l2),
    dropout=jax.random.uniform(keys[2], minval=low, maxval=high),
    init_std=log_uniform(keys[3], ranges.init_std),
    train_fraction=jnp.array(ranges.train_fraction)[
      jax.random.randint(keys[4], (), 0, len(ranges.train_fraction))
    ],
    optimizer=choice(keys[5], ranges.optimizer, OPTIMIZERS),
    initializer=choice(keys[6], ranges.initializer, (*INITIALIZERS, OWN)),
    activation=jax.random.randint(keys[7], (), 0, num_activations),
  )


def draw_classes(
  key: jax.Array, ranges: TrainingRanges, sets: Sequence[int], outputs: int
) -> jax.Array:
  """Draws the `class_to_output` [K] int32 of one network.

  Some classes of one image set, in random groups, at random outputs.

  Args:
    key: consumed.
    ranges: with `classes_per_network`.
    sets: number of classes of each image set; they add up to K.
    outputs: number of outputs of the network.
  """
  k_set, k_classes, k_groups, k_chosen, k_slot, k_order = jax.random.split(
    key, 6
  )
  image_set = jax.random.randint(k_set, (), 0, len(sets))
  inside = jnp.repeat(jnp.arange(len(sets)), np.array(sets)) == image_set
  low, high = ranges.classes_per_network
  kept = jax.random.randint(k_classes, (), low, high + 1)
  low, high = ranges.outputs_per_network or (outputs, outputs)
  groups = jax.random.randint(k_groups, (), low, high + 1)
  groups = jnp.minimum(groups, kept)
  chance = jax.random.uniform(k_chosen, inside.shape)
  rank = jnp.argsort(jnp.argsort(jnp.where(inside, chance, 2.0)))
  # Each of the first classes has a group to itself, so that none is empty.
  other = jax.random.randint(k_slot, inside.shape, 0, groups)
  slot = jnp.where(rank < groups, rank, other)
  order = jax.random.permutation(k_order, outputs)
  return jnp.where(rank < kept, order[slot], -1).astype(jnp.int32)


def initialize(
  key: jax.Array,
  target: TargetNetwork,
  settings: NetworkSettings,
  initializers: Sequence[str] = INITIALIZERS,
) -> Weights:
  """Draws the initial weights of one network.

  `OWN` is the `init` of the target. The others are for kernels; biases, which
  are all weights with one axis, are 0. Fan-in and fan-out are taken from
  kernels [..., in, out]. "normal" and "truncated_normal" have the standard
  deviation `init_std`; "orthogonal" has gain 1.

  Args:
    key: consumed.
    target: the architecture.
    settings: the settings of one network.
    initializers: names that the settings may select. All of them are computed.
  """
  others = [name for name in initializers if name != OWN]
  if not others:
    return target.init(key)
  shapes = jax.eval_shape(target.init, key)
  leaves, structure = jax.tree.flatten(shapes)

  def kernel(key, shape):
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = receptive * shape[-2], receptive * shape[-1]
    z = random_array(jax.random.normal, key, shape)

    def truncated():
      z = random_array(
        jax.random.truncated_normal, key, shape, lower=-2, upper=2
      )
      return z * settings.init_std

    candidates = {
      "glorot_normal": lambda: z * math.sqrt(2 / (fan_in + fan_out)),
      "he_normal": lambda: z * math.sqrt(2 / fan_in),
      "truncated_normal": truncated,
      "orthogonal": lambda: jax.nn.initializers.orthogonal()(key, shape),
      "normal": lambda: z * settings.init_std,
    }
    drawn = jnp.stack([candidates[name]() for name in others])
    return drawn[_positions(INITIALIZERS, others)[settings.initializer]]

  weights = [
    kernel(k, s.shape) if len(s.shape) > 1 else jnp.zeros(s.shape)
    for k, s in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
  ]
  drawn = jax.tree.unflatten(structure, weights)
  if OWN not in initializers:
    return drawn
  is_own = settings.initializer == len(INITIALIZERS)
  return jax.tree.map(
    lambda own, other: jnp.where(is_own, own, other), target.init(key), drawn
  )


def _positions(names: Sequence[str], subset: Sequence[str]) -> jax.Array:
  """The position of each name in a subset of the names, 0 if it has none."""
  return jnp.array([subset.index(n) if n in subset else 0 for n in names])


def _optimizer(
  optimizers: Sequence[str], settings: NetworkSettings
) -> optax.GradientTransformation:
  """The optimizer of one network: all optimizers step, one step is kept."""
  known = {"adam": optax.adam, "sgd": optax.sgd, "rmsprop": optax.rmsprop}
  members = [known[name](settings.learning_rate) for name in optimizers]
  selected = _positions(OPTIMIZERS, optimizers)[settings.optimizer]

  def init(params):
    return tuple(m.init(params) for m in members)

  def update(updates, state, params=None):
    results = [
      m.update(updates, s, params) for m, s in zip(members, state, strict=True)
    ]
    steps = [r[0] for r in results]
    step = jax.tree.map(lambda *u: jnp.stack(u)[selected], *steps)
    return step, tuple(r[1] for r in results)

  return optax.GradientTransformation(init, update)


class TrainedPart(NamedTuple):
  """A part of a zoo, B networks at C checkpoints.

  Attributes:
    weights: a pytree with leaves [B, C, ...].
    settings: each [B].
    class_to_output: [B, K] int32; None if all networks have the same labels.
    train_loss, train_accuracy, test_loss, test_accuracy: [B, C].
  """

  weights: Weights
  settings: NetworkSettings
  class_to_output: jax.Array | None
  train_loss: jax.Array
  train_accuracy: jax.Array
  test_loss: jax.Array
  test_accuracy: jax.Array


class ZooTrainer(NamedTuple):
  """Compiled functions that train the networks of a zoo, part by part.

  Attributes:
    begin: a key, consumed -> (settings, `Network`) before the training.
    fit: the trainer, see `fit.fit`.
    init: `fit.init`, jitted.
    measure: ((images, labels), networks) -> (losses [B], accuracies [B]).
    sets: number of classes of each image set; empty for one image set.
  """

  begin: Callable[[jax.Array], tuple[NetworkSettings, Network]]
  fit: fits.Fit
  init: Callable[..., fits.FitState]
  measure: Callable[..., tuple[jax.Array, jax.Array]]
  sets: Sequence[int]


def zoo_trainer(
  target: TargetNetwork,
  *,
  batch_size: int,
  ranges: TrainingRanges,
  sets: Sequence[int] = (),
  vmap_size: int | None = None,
) -> ZooTrainer:
  """Makes the functions that `train_networks` needs.

  Args:
    target: the architecture.
    batch_size: images per step.
    ranges: ranges of the settings.
    sets: number of classes of each image set, for `classes_per_network`.
    vmap_size: networks trained side by side, see `fit.fit`.

  Raises:
    InputError: more classes per network than an image set has, or
      `outputs_per_network` without `classes_per_network`.
  """
  if ranges.outputs_per_network and not ranges.classes_per_network:
    raise InputError(
      f"outputs_per_network is {ranges.outputs_per_network} without "
      "classes_per_network, expected both"
    )
  if ranges.classes_per_network and ranges.classes_per_network[1] > min(sets):
    raise InputError(
      f"classes_per_network is {ranges.classes_per_network}, expected at most "
      f"{min(sets)}, the classes of an image set"
    )
  outputs = output_size(target.spec)

  @functools.partial(jax.jit, compiler_options=compilation.QUICK)
  def begin(key):
    k_draw, k_init = jax.random.split(key)
    settings = draw_settings(k_draw, ranges, len(target.activations))
    weights = initialize(k_init, target, settings, ranges.initializer)
    if not ranges.classes_per_network:
      return settings, Network(weights, settings.activation)
    k_classes = jax.random.fold_in(k_draw, 1)
    classes = draw_classes(k_classes, ranges, sets, outputs)
    return settings, Network(weights, settings.activation, classes)

  def loss(network, images, labels, settings, key):
    # A target of one's own need not have dropout.
    dropout = (settings.dropout, key) if ranges.dropout[1] else None
    ce, moved = training_divergence(target, network, images, labels, dropout)
    kernels = [w for w in trained(target.spec, network.weights) if w.ndim > 1]
    return ce + settings.l2 * sum((w * w).sum() for w in kernels), moved

  fit = fits.fit(
    loss,
    functools.partial(_optimizer, ranges.optimizer),
    batch_size=batch_size,
    fraction=lambda settings: settings.train_fraction,
    vmap_size=vmap_size,
  )
  measure = batched.apply_batched(
    lambda data, network: evaluate_network(target.apply, network, *data)[:2],
    in_turn=True,
  )
  return ZooTrainer(begin, fit, jax.jit(fit.init), measure, sets)


def _sample(
  images: jax.Array, labels: jax.Array, sets: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
  """The first `MEASURED` images of each image set, and their labels."""
  owner = np.searchsorted(np.cumsum(sets), np.asarray(labels), side="right")
  rows = np.concatenate(
    [np.flatnonzero(owner == i)[:MEASURED] for i in range(max(len(sets), 1))]
  )
  return images[rows], labels[rows]


def train_networks(
  trainer: ZooTrainer,
  keys: jax.Array,
  train: tuple[jax.Array, jax.Array],
  test: tuple[jax.Array, jax.Array],
  *,
  epochs: Sequence[int],
  on_epoch: Callable[[], Any] = lambda: None,
  partial: Partial = NOTHING,
) -> TrainedPart:
  """Trains networks and keeps their weights after some epochs.

  Each network depends on its key alone, not on the networks beside it, up to
  the rounding of batched products.

  Args:
    trainer: see `zoo_trainer`; all parts of a zoo share one.
    keys: [B], one per network, consumed.
    train, test: (images, labels). Losses and accuracies are measured on the
      first `MEASURED` images of both, of each image set.
    epochs: the epochs to keep, ascending; 0 is initialization.
    on_epoch: called after every epoch.
    partial: keeps the state of the training.

  Raises:
    Interrupted: `on_epoch` or `partial.check` raised it.
  """
  samples = [_sample(*images, trainer.sets) for images in (train, test)]
  # One network after another: two QR factorizations that run at the same time
  # deadlock on a CPU with 2 threads (seen in jax 0.10.2).
  begun = [jax.device_get(trainer.begin(keys[i])) for i in range(len(keys))]
  settings, network = jax.device_put(
    jax.tree.map(lambda *a: np.stack(a), *begun)
  )
  networks = Networks(*network)

  def keys_of(epoch):
    return jax.vmap(lambda key: jax.random.fold_in(key, epoch))(keys)

  weights = fits.run_epochs(
    trainer.fit,
    trainer.init(networks.weights, settings),
    settings,
    networks,
    keys_of,
    train,
    epochs,
    partial=partial,
    on_epoch=on_epoch,
  )

  def scores_after(epoch):
    def compute(_):
      at = networks._replace(weights=weights[epoch])
      scores = [x for sample in samples for x in trainer.measure(sample, at)]
      names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
      return Result(dict(zip(names, jax.device_get(scores), strict=True)))

    return partial.remember(f"scores after {epoch}", compute).arrays

  kept = [(weights[epoch], scores_after(epoch)) for epoch in epochs]
  weights, scores = jax.tree.map(lambda *x: np.stack(x, axis=1), *kept)
  return TrainedPart(weights, settings, networks.class_to_output, **scores)
