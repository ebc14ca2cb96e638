"""The work of a run before it begins: sizes and operations, as estimates.

Functions of this module read files and build architectures and metanetworks, so
that mistakes in a config are found before anything is computed. Operations are
counted on request only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.build.zoo import build_network, check_ood_batch, read_zoo
from scalegmn_jax import devices
from scalegmn_jax.base import MetaNetwork, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import store

_BACKWARD = 3
"""Operations of a value and its gradient, in operations of the value."""


class Work(NamedTuple):
  """A part of a run.

  Attributes:
    name: of the part.
    detail: sizes, as text.
    flops: () -> floating-point operations.
    disk: bytes that it writes.
    memory: bytes that it holds.
  """

  name: str
  detail: str
  flops: Callable[[], float] = lambda: 0.0
  disk: float = 0.0
  memory: float = 0.0


def image_work(config: ConfigDict, images: Images) -> Work:
  """The images, which are in memory already."""
  parts = images.train_x, images.val_x, images.test_x
  counts = ", ".join(f"{len(x):,}" for x in parts)
  sets = config.data.name
  if len(sets) > 60:
    sets = f"{len(images.sets)} image sets"
  shape = "x".join(map(str, images.train_x.shape[1:]))
  return Work(
    "images",
    f"{sets}: {counts} for training, validation and test, {shape}",
    memory=2 * sum(x.nbytes for x in parts),  # on the host and on the device
  )


def zoo_work(
  config: ConfigDict, target: TargetNetwork, images: Images, name: str = "zoo"
) -> Work:
  """The networks of `config.zoo`, which are read or trained.

  Raises:
    InputError: a folder is missing, damaged, or holds other networks.
  """
  c = config.zoo
  size = count_weights(target)
  for path in (c.path, c.get("test_path", "")):
    if path:
      rows = len(read_zoo(path, target).weights)
  if c.path:
    rows = len(read_zoo(c.path, target).weights)
    return Work(
      name,
      f"{c.path}: {rows:,} networks and checkpoints of {size:,} weights",
      memory=4 * rows * size,
    )
  epochs, fraction = max(c.epochs), float(np.mean(c.train_fraction))
  rows = c.size * len(tuple(c.epochs))
  return Work(
    name,
    f"{c.size:,} networks of {size:,} weights, {epochs} epochs, "
    f"{rows:,} checkpoints",
    lambda: c.size * epochs * fraction * epoch_flops(target, images),
    disk=4.0 * rows * size,
    memory=4.0 * rows * size,
  )


def ood_work(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> list[Work]:
  """The networks of `config.ood`.

  Raises:
    InputError: a file is missing, damaged, or holds another network; or larger
      batches than there are images.
  """
  c = config.ood
  for path in c.paths:
    if Path(path).suffix == ".npy":
      build_network(path, target)
    else:
      store.read_zoo(path)
  if not c.size:
    return []
  check_ood_batch(config, images)
  return [
    Work(
      "ood",
      f"{c.size:,} networks, {max(c.epochs)} epochs",
      lambda: c.size * max(c.epochs) * epoch_flops(target, images),
      disk=4.0 * c.size * len(tuple(c.epochs)) * count_weights(target),
    )
  ]


def training_work(
  name: str,
  metanetwork: MetaNetwork,
  example: tuple[Any, ...],
  *,
  trainings: int,
  steps: int,
  batch: int,
  more: Callable[[], float] = lambda: 0.0,
) -> Work:
  """The training of a metanetwork.

  Args:
    name: of the metanetwork.
    metanetwork: the metanetwork.
    example: its input for one network, as shapes, see `network_shapes`.
    trainings: number of trainings.
    steps: of each.
    batch: networks per step.
    more: () -> operations per network and step besides the metanetwork.
  """
  params = jax.eval_shape(metanetwork.init, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  once = "" if trainings == 1 else f"{trainings} trainings of "

  def flops() -> float:
    forward = devices.count_flops(metanetwork.apply, params, *example)
    return trainings * steps * batch * _BACKWARD * (forward + more())

  return Work(
    name,
    f"{once}{steps:,} steps on {batch} networks, {count:,} parameters",
    flops,
    # φ, the best φ and two moments; two checkpoints.
    disk=2.0 * 4 * 4 * count * trainings,
    memory=4.0 * 4 * count,
  )


def operator_work(
  name: str,
  config: ConfigDict,
  target: TargetNetwork,
  operator: MetaNetwork,
  *,
  trainings: int,
  steps: int,
  batch: int | None = None,
) -> Work:
  """The training of an operator on `train.batch_images` images per step.

  Args:
    name: of the operator.
    config: of the experiment.
    target: the architecture.
    operator: the operator.
    trainings: number of trainings.
    steps: of each.
    batch: networks per step; None for `train.batch_networks`.
  """
  images = config.train.batch_images
  return training_work(
    name,
    operator,
    network_shapes(target),
    trainings=trainings,
    steps=steps,
    batch=config.train.batch_networks if batch is None else batch,
    more=lambda: images * image_flops(target),
  )


def descent_work(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Work:
  """Gradient descent on validation and test networks, by `config.baselines`."""
  c, networks = config.baselines, config.eval
  rates, runs = len(tuple(c.learning_rates)), 0
  tuned = rates * networks.val_networks + networks.test_networks
  for _, schedule in c.methods:
    epochs = max(c.epochs) if schedule == "constant" else sum(c.epochs)
    runs += tuned * epochs
  for key in ("epochs_after_edit", "epochs_after_constant"):
    runs += tuned * max(c.get(key, ()), default=0)
  runs += rates * c.get("constant_epochs", 0)
  return Work(
    "baselines",
    f"{runs:,} epochs of one network, with {len(images.train_x):,} images each",
    lambda: runs * epoch_flops(target, images),
  )


def count_weights(target: TargetNetwork) -> int:
  """Number of weights of a network."""
  (weights, _) = network_shapes(target)
  return sum(leaf.size for leaf in jax.tree.leaves(weights))


def network_shapes(target: TargetNetwork) -> tuple[Any, Any]:
  """(weights, activation) of one network, as shapes."""
  weights = jax.eval_shape(target.init, jax.random.key(0))
  return weights, jax.ShapeDtypeStruct((), np.int32)


def image_flops(target: TargetNetwork) -> float:
  """Operations of a network on one image."""
  weights, activation = network_shapes(target)
  x = jax.ShapeDtypeStruct((1, *target.input_shape), np.float32)
  return devices.count_flops(target.apply, weights, x, activation)


def epoch_flops(target: TargetNetwork, images: Images) -> float:
  """Operations of one network and one epoch of gradient descent.

  A network has the images of one image set.
  """
  own = len(images.train_x) / len(images.sets)
  return _BACKWARD * own * image_flops(target)
