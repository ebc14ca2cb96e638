"""Zoos of classifiers made here: generated once per config, then reused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import codec, generate, parts, store

FORMAT = 1
"""To be raised when the same config comes to give other networks."""

_FORMAT_1 = {"classes_per_network": "classes", "outputs_per_network": "groups"}


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
  chunk: int = 64,
  together: int | None = None,
  on_epoch: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """A zoo trained here, read from `folder` if it was made before.

  Networks are kept after every `chunk` of them, see `parts.assembled`.

  Args:
    folder: of all cached zoos; this one is `<folder>/<hash of its config>`.
    target: the architecture.
    images: what the networks learn.
    size: number of networks.
    epochs: checkpoints of each network.
    batch_size: images per step.
    ranges: of their settings.
    seed: network i depends on the seed and i.
    chunk: networks between two saves.
    together: of these, networks trained side by side, see `fit.fit`.
    on_epoch: called once per network chunk and epoch.

  Raises:
    InputError: impossible numbers.
  """
  epochs = sorted(set(epochs))
  if size < 1 or not epochs or epochs[0] < 0 or epochs[-1] < 1 or chunk < 1:
    raise InputError(
      f"zoo.size is {size}, zoo.epochs {epochs}, zoo.save_every {chunk}: expected "
      "at least one network, chunk and epoch"
    )
  if not 1 <= batch_size <= len(images.train_x):
    raise InputError(
      f"zoo.batch_size is {batch_size}, expected 1 to the number of training "
      f"images, {len(images.train_x)}"
    )
  key = jax.random.key(seed)
  train = jax.device_put((images.train_x, images.train_y))
  test = jax.device_put((images.test_x, images.test_y))

  def make(index):
    trained = generate.train_networks(
      target,
      jax.vmap(lambda i: jax.random.fold_in(key, i))(index),
      train,
      test,
      epochs=epochs,
      batch_size=batch_size,
      ranges=ranges,
      sets=images.sets,
      together=together,
      on_epoch=on_epoch,
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
      "target": dict(target.description),
      "images": parts.digest(*images[:6]),
      "epochs": epochs,
      "batch_size": batch_size,
      "ranges": {
        _FORMAT_1.get(k, k): list(v) for k, v in vars(ranges).items() if v
      },
      "seed": seed,
    },
    codec.layout_of(target),
    make,
    size=size,
    chunk=chunk,
    on_kept=lambda: [on_epoch() for _ in range(epochs[-1])],
  )


def _columns(
  trained: generate.TrainedPart, target: TargetNetwork, epochs: Sequence[int]
) -> dict[str, np.ndarray]:
  """The metrics of B networks at C checkpoints, columns [B·C]."""
  names = {
    "optimizer": generate.OPTIMIZERS,
    "initializer": generate.INITIALIZERS,
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
    tasks = [
      codec.task_text(row) for row in np.asarray(trained.class_to_output)
    ]
    columns[store.CLASS_TO_OUTPUT] = np.repeat(tasks, repeat)
  columns["config.b_init"] = np.full(count * repeat, "zeros")
  return columns
