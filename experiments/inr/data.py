"""Implicit neural representations (INRs) of images: load, fold, render."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import interrupt, progress
from scalegmn_jax import batched
from scalegmn_jax.base import InputError, Network, Networks, TargetNetwork
from scalegmn_jax.data import pictures
from scalegmn_jax.data.images import Images
from scalegmn_jax.symmetry import phase
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import inrs, parts, store


class InrSplit(NamedTuple):
  """The SIRENs of a run, one per image.

  Attributes:
    target: their architecture.
    train, val, test: networks as they were fitted; the part of the image set
      that holds the image of a network decides where the network belongs.
    grid: [P, 2], the coordinates of the pixels.
  """

  target: TargetNetwork
  train: inrs.Inrs
  val: inrs.Inrs
  test: inrs.Inrs
  grid: np.ndarray

  @property
  def sizes(self) -> dict[str, int]:
    """{part: number of networks}."""
    return {p: getattr(self, p).networks.size for p in pictures.PARTS}

  @property
  def train_images(self) -> int:
    """Number of different training images; each may have several networks."""
    return len(set(self.train.pictures.image))


def make_target(config: ConfigDict, data: Images) -> TargetNetwork:
  """The architecture of the SIRENs of images."""
  channels = data.train_x.shape[-1]
  return mlp((2, *config.target.hidden, channels), "sine", config.target.omega)


def load_inrs(config: ConfigDict) -> InrSplit:
  """Reads the zoo of a run, or fits it.

  Raises:
    InputError: no such zoo, impossible numbers, networks of other images, or
      networks that do not render their images.
  """
  convention = inrs.Convention(
    config.zoo.offset, tuple(config.zoo.axes), tuple(config.zoo.omega)
  )
  if not config.zoo.path and convention != inrs.Convention():
    raise InputError(
      "config.zoo.offset, config.zoo.axes and config.zoo.omega describe the "
      "networks of config.zoo.path, which is empty: expected their defaults"
    )
  data = build.build_images(config)
  height, width, _ = data.train_x.shape[1:]
  target = make_target(config, data)
  if config.zoo.path:
    files = store.read_zoo(config.zoo.path)
  else:
    files, convention = _fit(config, target, data), None
  train, val, test = (
    inrs.load(target, files, data, part, convention) for part in pictures.PARTS
  )
  progress.console.print(
    f"zoo: {files.path}: {len(train.psnr)}, {len(val.psnr)} and "
    f"{len(test.psnr)} networks for training, validation and test; they render "
    f"test images to {test.psnr.mean():.1f} dB"
  )
  grid = pictures.coordinates(height, width)
  return InrSplit(target, train, val, test, grid)


def _fit(
  config: ConfigDict, target: TargetNetwork, data: Images
) -> store.ZooFiles:
  c = config.zoo
  selected = pictures.first(
    data,
    {part: c[f"{part}_images"] for part in pictures.PARTS},
    {"train": c.views, "val": 1, "test": 1},
  )
  calls = c.epochs // c.epochs_per_call
  total = parts.count_parts(len(selected.label), c.save_every) * calls
  with progress.bar("fit networks", total) as advance:
    return inrs.cached_inrs(
      build.zoo_cache(config),
      target,
      selected,
      epochs=c.epochs,
      batch_size=c.batch_size,
      learning_rate=c.learning_rate,
      seed=config.seed,
      init=c.init,
      shared_init=c.shared_init,
      schedule=c.schedule,
      stop_psnr=c.stop_psnr,
      epochs_per_call=c.epochs_per_call,
      coarse=c.coarse,
      save_every=c.save_every,
      vmap_size=build.default_grad_chunk(c.vmap_size),
      on_epoch=advance,
      check=interrupt.check,
    )


def fold_phases(target: TargetNetwork, networks: Networks) -> Networks:
  """The same functions in canonical phases, see `phase.fold`."""
  omega = target.description["omega"]

  def fold(network: Network):
    return phase.fold(target.spec, network.weights, omega)

  @jax.jit
  def fold_all(networks):
    return batched.map_networks(fold, networks, vmap_size=None)

  return networks._replace(weights=fold_all(networks))


def shift_phases(
  target: TargetNetwork, networks: Networks, key: jax.Array
) -> Networks:
  """The same functions in random phases, see `phase.shift`."""
  omega = target.description["omega"]

  def shift(network: Network, key: jax.Array):
    turns = phase.sample(key, target.spec)
    return phase.shift(target.spec, network.weights, turns, omega)

  @jax.jit
  def shift_all(networks, keys):
    return batched.map_networks(shift, networks, keys, vmap_size=None)

  keys = jax.random.split(key, networks.size)
  return networks._replace(weights=shift_all(networks, keys))


RenderFn = Callable[[Networks], np.ndarray]
"""networks -> the images that they render [B, H, W, C]."""


def make_renderer(split: InrSplit) -> RenderFn:
  """Renders networks of the zoo as images of its size."""

  def outputs(grid: jax.Array, network: Network):
    return split.target.apply(network.weights, grid, network.activation)

  apply = batched.apply_batched(outputs)
  shape = split.test.pictures.pixels.shape[1:]

  def render(networks):
    return np.asarray(apply(split.grid, networks)).reshape(-1, *shape)

  return render
