"""Zoos of implicit neural representations: a network for every picture.

A SIREN maps the coordinates of a pixel to its value (Sitzmann et al. 2020,
arXiv:2006.09661). The files are those of `store`; their metrics say which image
each network renders: `part` (train, val or test) and `image` (the row in that
part of the image set), and have its `label` and the `psnr` of the fit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.data import pictures as pics
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.zoo import codec, parts, store

FORMAT = 1
"""To be raised when the same config comes to give other networks."""


class _Own(NamedTuple):
  """What a network alone learns: the pixels [P, C] of its picture."""

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
  chunk: int = 512,
  together: int | None = None,
  on_epoch: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """One network per picture, each from its own initialization.

  Mean squared error, Adam, cosine decay to zero. See `parts.assembled`.

  Args:
    folder: of all cached zoos.
    target: 2 inputs and C outputs, one activation.
    pictures: N of them; network i depends on picture i, the seed and i.
    epochs: passes over the pixels.
    batch_size: pixels per step, at most P; 0 for all.
    learning_rate: its peak.
    seed: of the initializations and of the order of pixels.
    chunk: networks of a part.
    together: of those, networks trained side by side, None for all.
    on_epoch: called once per part and epoch.

  Raises:
    InputError: impossible numbers.
  """
  size, height, width, channels = pictures.pixels.shape
  count = height * width
  batch_size = batch_size or count
  if epochs < 1 or not learning_rate > 0 or not 1 <= batch_size <= count:
    raise InputError(
      f"zoo.epochs is {epochs}, zoo.learning_rate {learning_rate} and "
      f"zoo.batch_size {batch_size}: expected at least one epoch, a positive "
      f"rate and 0 to {count} pixels"
    )
  xy = jnp.asarray(pics.coordinates(height, width))
  numbers = jnp.arange(count)

  def loss(network, x, rows, own, key):
    del key
    rendered = target.apply(network.weights, x, network.activation)
    return jnp.mean((rendered - own.pixels[rows]) ** 2)

  steps = epochs * (count // batch_size)
  rate = optax.cosine_decay_schedule(learning_rate, steps)
  trainer = fits.fit(
    loss,
    lambda own: optax.adam(rate),
    batch_size=batch_size,
    vmap_size=together,
  )

  @jax.jit
  def begin(keys, own):
    return trainer.init(jax.vmap(target.init)(keys), own)

  @jax.jit
  def errors(zoo, own):
    def one(item):
      network, own = item
      return loss(network, xy, numbers, own, None)

    return jax.lax.map(one, (zoo, own))

  key = jax.random.key(seed)
  of_networks = jax.jit(
    jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j),
             (0, None))
  )  # fmt: skip

  def make(index):
    rows = index % size
    pixels = pictures.pixels[rows].reshape(len(rows), count, channels)
    own = _Own(jnp.asarray(pixels))
    state = begin(of_networks(index, 0), own)
    zoo = Networks(state.weights, jnp.zeros(len(rows), jnp.int32))
    for epoch in range(1, epochs + 1):
      state = trainer.epoch(
        state, own, zoo, of_networks(index, epoch), xy, numbers
      )
      jax.block_until_ready(state)
      on_epoch()
    zoo = zoo._replace(weights=state.weights)
    columns = {
      "step": np.full(len(rows), epochs),
      "part": pictures.part[rows],
      "image": pictures.image[rows],
      "label": pictures.label[rows],
      "psnr": pics.psnr(np.asarray(errors(zoo, own))),
      "config.activation": np.full(len(rows), target.activations[0]),
      "config.learning_rate": np.full(len(rows), learning_rate),
      "config.batch_size": np.full(len(rows), batch_size),
    }
    return parts.Part(codec.to_rows(state.weights), columns)

  return parts.assemble(
    folder,
    {
      "format": FORMAT,
      "target": dict(target.description),
      "pictures": parts.digest(*pictures),
      "epochs": epochs,
      "batch_size": batch_size,
      "learning_rate": learning_rate,
      "seed": seed,
    },
    codec.layout_of(target),
    make,
    size=size,
    chunk=chunk,
    on_kept=lambda: [on_epoch() for _ in range(epochs)],
  )


class Inrs(NamedTuple):
  """Networks and what they render.

  Attributes:
    zoo: B networks.
    pictures: B pictures.
    psnr: [B] dB.
  """

  zoo: Networks
  pictures: pics.Pictures
  psnr: np.ndarray


def load(
  target: TargetNetwork, files: store.ZooFiles, images: Images, part: str
) -> Inrs:
  """The networks of the images of one part.

  Raises:
    InputError: no such networks, or networks of other images than these.
  """
  metrics, file = files.metrics, files.path / store.METRICS
  for name in ("part", "image", "label", "psnr"):
    if name not in metrics:
      raise InputError(f"{file}: no column {name}, expected a zoo of INRs")
  rows = np.flatnonzero(np.asarray(metrics["part"]) == part)
  if not len(rows):
    raise InputError(f"{file}: no networks of {part} images")
  numbers = np.asarray(metrics["image"])[rows].astype(np.int64)
  found = pics.take(images, part, numbers)
  if (found.label != np.asarray(metrics["label"])[rows]).any():
    raise InputError(
      f"{file}: labels that are not those of the {part} images: networks of "
      "another image set"
    )
  psnr = np.asarray(metrics["psnr"])[rows]
  return Inrs(codec.load_networks(target, files, rows), found, psnr)
