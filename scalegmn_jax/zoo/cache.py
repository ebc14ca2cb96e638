"""Generated zoos of classifiers: trained once per config, then read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scalegmn_jax import devices
from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import codec, generate, parts, store

FORMAT = 1
"""Has to be raised whenever the same config gives other networks."""

FORMAT_1_NAMES = {
  "classes_per_network": "classes",
  "outputs_per_network": "groups",
  "save_every": "chunk",
  "vmap_size": "together",
}
"""Names of arguments, as they are hashed into the names of cached zoos."""


def cached_zoo(
  folder: Path,
  target: TargetNetwork,
  images: Images,
  *,
  size: int,
  epochs: Sequence[int],
  batch_size: int,
  ranges: generate.TrainingRanges,
  seed: int,
  save_every: int = 64,
  vmap_size: int | None = None,
  on_epoch: Callable[[], Any] = lambda: None,
  check: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """Trains a zoo of classifiers, or reads it if it was made before.

  Args:
    folder: all cached zoos; this one is `<folder>/<hash of its config>`.
    target: the architecture.
    images: the images that the networks learn.
    size: number of networks.
    epochs: checkpoints of each network.
    batch_size: images per step.
    ranges: ranges of the training settings.
    seed: network i depends on the seed and i.
    save_every: networks between two saves, see `parts.assemble`.
    vmap_size: networks trained side by side, None for `save_every`; see
      `fit.fit`.
    on_epoch: called once per part and epoch.
    check: called every few seconds; may raise `Interrupted`, like `on_epoch`.

  Raises:
    InputError: impossible numbers, or a target without description.
  """
  epochs = sorted(set(epochs))
  if not epochs or epochs[0] < 0 or epochs[-1] < 1:
    raise InputError(f"epochs is {epochs}, expected at least one epoch")
  parts.count_parts(size, save_every)
  if not 1 <= batch_size <= len(images.train_x):
    raise InputError(
      f"batch_size is {batch_size}, expected 1 to the number of training "
      f"images, {len(images.train_x)}"
    )
  description = parts.describe(target)
  key = jax.random.key(seed)
  train = devices.replicate((images.train_x, images.train_y))
  test = devices.replicate((images.test_x, images.test_y))

  trainer = generate.zoo_trainer(
    target,
    batch_size=batch_size,
    ranges=ranges,
    sets=images.sets,
    vmap_size=vmap_size,
  )

  def make(index, partial):
    trained = generate.train_networks(
      trainer,
      jax.vmap(lambda i: jax.random.fold_in(key, i))(index),
      train,
      test,
      epochs=epochs,
      on_epoch=on_epoch,
      partial=partial,
    )
    columns = _columns(trained, target, epochs) | {
      "config.epochs": np.full(len(index) * len(epochs), epochs[-1]),
      "config.batch_size": np.full(len(index) * len(epochs), batch_size),
    }
    flat = jax.tree.map(lambda w: w.reshape(-1, *w.shape[2:]), trained.weights)
    return parts.Part(codec.to_rows(flat), columns)

  return parts.assemble(
    folder,
    {
      "format": FORMAT,
      "target": description,
      "images": parts.digest(*images.arrays),
      "epochs": epochs,
      "batch_size": batch_size,
      "ranges": {
        FORMAT_1_NAMES.get(k, k): list(v) for k, v in vars(ranges).items() if v
      },
      "seed": seed,
    },
    codec.layout_of(target),
    make,
    size=size,
    save_every=save_every,
    on_kept=lambda: [on_epoch() for _ in range(epochs[-1])],
    check=check,
  )


def _columns(
  trained: generate.TrainedPart, target: TargetNetwork, epochs: Sequence[int]
) -> dict[str, np.ndarray]:
  """The metrics of B networks at C checkpoints: {name: [B·C]}."""
  names = {
    "optimizer": generate.OPTIMIZERS,
    "initializer": (*generate.INITIALIZERS, generate.OWN),
    "activation": target.activations,
  }
  renamed = {"initializer": "w_init", "l2": "l2reg"}
  count, repeat = trained.train_loss.shape
  columns = {
    "step": np.tile(epochs, count),
    "laststep": np.tile([e == epochs[-1] for e in epochs], count).astype(int),
  }
  for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
    columns[name] = np.asarray(getattr(trained, name)).ravel()
  for key, values in jax.device_get(trained.settings)._asdict().items():
    if key in names:
      values = np.array(names[key])[values]
    columns[f"config.{renamed.get(key, key)}"] = np.repeat(values, repeat)
  if trained.class_to_output is not None:
    texts = [
      store.format_class_to_output(row)
      for row in np.asarray(trained.class_to_output)
    ]
    columns[store.CLASS_TO_OUTPUT] = np.repeat(texts, repeat)
  columns["config.b_init"] = np.full(count * repeat, "zeros")
  return columns
