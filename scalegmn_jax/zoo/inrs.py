"""Zoos of implicit neural representations (INRs): one network per picture.

A SIREN maps the coordinates of a pixel to its value (Sitzmann et al. 2020,
arXiv:2006.09661). The files have the format of `store`. Their metrics name the
image that each network renders: `part` (train, val or test), `image` (the row
in that part of the image set) and `label`, and the `psnr` of the fit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax import batched
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.data import pictures as pics
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.zoo import codec, parts, store

FORMAT = 1
"""Has to be raised whenever the same config gives other networks."""


class _Settings(NamedTuple):
  """Settings of one network: the pixels [P, C] of its picture."""

  pixels: jax.Array


def cached_inrs(
  folder: Path,
  target: TargetNetwork,
  pictures: pics.Pictures,
  *,
  epochs: int,
  batch_size: int,
  learning_rate: float,
  seed: int,
  save_every: int = 512,
  vmap_size: int | None = None,
  on_epoch: Callable[[], Any] = lambda: None,
  check: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """Fits one network per picture, or reads the zoo if it was made before.

  Each network starts from an initialization of its own. The loss is the mean
  squared error; the optimizer is Adam with cosine decay to zero.

  Args:
    folder: all cached zoos, see `parts.assemble`.
    target: 2 inputs and C outputs, one activation.
    pictures: N pictures; network i depends on picture i, the seed and i.
    epochs: passes over the pixels.
    batch_size: pixels per step, at most P; 0 for all.
    learning_rate: the peak of the schedule.
    seed: decides the initializations and the order of pixels.
    save_every: networks between two saves.
    vmap_size: networks trained side by side, None for `save_every`.
    on_epoch: called once per part and epoch.
    check: called every few seconds; may raise `Interrupted`, like `on_epoch`.

  Raises:
    InputError: impossible numbers, or a target without description.
  """
  size, height, width, channels = pictures.pixels.shape
  count = height * width
  batch_size = batch_size or count
  if epochs < 1 or not learning_rate > 0 or not 1 <= batch_size <= count:
    raise InputError(
      f"epochs is {epochs}, learning_rate {learning_rate} and batch_size "
      f"{batch_size}: expected at least one epoch, a positive rate and 0 to "
      f"{count} pixels"
    )
  description = parts.describe(target)
  xy = jnp.asarray(pics.coordinates(height, width))
  numbers = jnp.arange(count)

  def loss(network, x, rows, settings, key):
    del key
    rendered = target.apply(network.weights, x, network.activation)
    return jnp.mean((rendered - settings.pixels[rows]) ** 2)

  steps = epochs * (count // batch_size)
  rate = optax.cosine_decay_schedule(learning_rate, steps)
  trainer = fits.fit(
    loss,
    lambda _: optax.adam(rate),
    batch_size=batch_size,
    vmap_size=vmap_size,
  )

  @jax.jit
  def begin(keys, settings):
    return trainer.init(jax.vmap(target.init)(keys), settings)

  @jax.jit
  def errors(networks, settings):
    return batched.map_networks(
      lambda network, s: loss(network, xy, numbers, s, None), networks, settings
    )

  key = jax.random.key(seed)

  @jax.jit
  def keys_of(index, epoch):
    def one(i):
      return jax.random.fold_in(jax.random.fold_in(key, i), epoch)

    return jax.vmap(one)(index)

  def make(index, partial):
    rows = index % size
    pixels = pictures.pixels[rows].reshape(len(rows), count, channels)
    settings = _Settings(jnp.asarray(pixels))
    state = begin(keys_of(index, 0), settings)
    networks = Networks(state.weights, jnp.zeros(len(rows), jnp.int32))
    weights = fits.run_epochs(
      trainer,
      state,
      settings,
      networks,
      lambda epoch: keys_of(index, epoch),
      (xy, numbers),
      [epochs],
      partial=partial,
      on_epoch=on_epoch,
    )[epochs]
    networks = networks._replace(weights=weights)
    columns = {
      "step": np.full(len(rows), epochs),
      "part": pictures.part[rows],
      "image": pictures.image[rows],
      "label": pictures.label[rows],
      "psnr": pics.psnr(np.asarray(errors(networks, settings))),
      "config.activation": np.full(len(rows), target.activations[0]),
      "config.learning_rate": np.full(len(rows), learning_rate),
      "config.batch_size": np.full(len(rows), batch_size),
    }
    return parts.Part(codec.to_rows(weights), columns)

  return parts.assemble(
    folder,
    {
      "format": FORMAT,
      "target": description,
      "pictures": parts.digest(
        pictures.pixels, pictures.label, pictures.part, pictures.image
      ),
      "epochs": epochs,
      "batch_size": batch_size,
      "learning_rate": learning_rate,
      "seed": seed,
    },
    codec.layout_of(target),
    make,
    size=size,
    save_every=save_every,
    on_kept=lambda: [on_epoch() for _ in range(epochs)],
    check=check,
  )


class Inrs(NamedTuple):
  """Networks and the pictures that they render.

  Attributes:
    networks: B networks.
    pictures: B pictures.
    psnr: [B] dB.
  """

  networks: Networks
  pictures: pics.Pictures
  psnr: np.ndarray


def load(
  target: TargetNetwork, files: store.ZooFiles, images: Images, part: str
) -> Inrs:
  """Loads the networks of one part of an image set.

  Raises:
    InputError: no such networks, or networks of other images.
  """
  metrics, file = files.metrics, files.path / store.METRICS
  for name in ("part", "image", "label", "psnr"):
    if name not in metrics:
      raise InputError(f"{file}: no column {name}, expected a zoo of INRs")
  rows = np.flatnonzero(np.asarray(metrics["part"]) == part)
  if not len(rows):
    raise InputError(f"{file}: no networks of {part} images")
  numbers = np.asarray(metrics["image"])[rows].astype(np.int64)
  pictures = pics.take(images, part, numbers)
  if (pictures.label != np.asarray(metrics["label"])[rows]).any():
    raise InputError(
      f"{file}: labels differ from the labels of the {part} images: networks "
      "of another image set"
    )
  psnr = np.asarray(metrics["psnr"])[rows]
  return Inrs(codec.load_networks(target, files, rows), pictures, psnr)
