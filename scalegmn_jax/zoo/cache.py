"""Zoos made here: generated once per config, resumable, then reused."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import generate, networks, store

FORMAT = 1
"""To be raised when the same config comes to give other networks."""


def _hash(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(images: Images) -> str:
  digest = hashlib.sha256()
  for array in images[:-1]:
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()[:16]


def generated(
  folder: Path,
  target: TargetNetwork,
  images: Images,
  *,
  size: int,
  epochs: Sequence[int],
  batch_size: int,
  ranges: generate.Ranges,
  seed: int,
  chunk: int = 64,
  on_epoch: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """A zoo trained here, read from `folder` if it was made before.

  Networks are trained `chunk` at a time. Finished chunks are kept beside the
  zoo until it is complete, so an interrupted generation goes on where it was.

  Args:
    folder: of all cached zoos; this one is `<folder>/<hash of its config>`.
    target: the architecture.
    images: what the networks learn.
    size: number of networks.
    epochs: checkpoints of each network.
    batch_size: images per step.
    ranges: of their settings.
    seed: network i depends on the seed and i.
    chunk: networks trained side by side.
    on_epoch: called once per network chunk and epoch.

  Raises:
    InputError: impossible numbers.
  """
  epochs = sorted(set(epochs))
  if size < 1 or not epochs or epochs[0] < 0 or epochs[-1] < 1 or chunk < 1:
    raise InputError(
      f"zoo.size is {size}, zoo.epochs {epochs}, zoo.chunk {chunk}: expected "
      "at least one network, chunk and epoch"
    )
  if not 1 <= batch_size <= len(images.train_x):
    raise InputError(
      f"zoo.batch_size is {batch_size}, expected 1 to the number of training "
      f"images, {len(images.train_x)}"
    )
  config = {
    "format": FORMAT,
    "target": dict(target.description),
    "images": _digest(images),
    "size": size,
    "epochs": epochs,
    "batch_size": batch_size,
    "ranges": {k: list(v) for k, v in vars(ranges).items()},
    "seed": seed,
    "chunk": chunk,
  }
  path = folder / f"zoo-{_hash(config)}"
  if path.exists():
    return store.read(path)

  parts = path.with_suffix(".parts")
  parts.mkdir(parents=True, exist_ok=True)
  key = jax.random.key(seed)
  train = jax.device_put((images.train_x, images.train_y))
  test = jax.device_put((images.test_x, images.test_y))
  rows, frames = [], []
  for start in range(0, size, chunk):
    part = parts / f"{start:08d}.npz"
    if not part.exists():
      # The last chunk is as long as the others, so that nothing is compiled
      # twice; what is too much of it is left out.
      index = np.arange(start, start + min(chunk, size))
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
      trained = generate.train_networks(
        target,
        keys,
        train,
        test,
        epochs=epochs,
        batch_size=batch_size,
        ranges=ranges,
        on_epoch=on_epoch,
      )
      _save_part(part, trained)
    else:
      for _ in range(epochs[-1]):
        on_epoch()
    with np.load(part, allow_pickle=False) as arrays:
      part_rows, frame = _part(arrays, start, target, epochs)
    keep = min(chunk, size - start) * len(epochs)
    rows.append(part_rows[:keep])
    frames.append(frame[:keep])
  metrics = pd.concat(frames, ignore_index=True)
  metrics["config.epochs"] = epochs[-1]
  metrics["config.batch_size"] = batch_size
  store.write(
    path, np.concatenate(rows), metrics, networks.layout_of(target)
  )
  shutil.rmtree(parts)
  return store.read(path)


def _save_part(part: Path, trained: generate.Trained) -> None:
  flat = jax.tree.map(lambda w: w.reshape(-1, *w.shape[2:]), trained.weights)
  arrays = {f"settings.{k}": v for k, v in trained.settings._asdict().items()}
  for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
    arrays[name] = getattr(trained, name)
  with tempfile.NamedTemporaryFile(dir=part.parent, delete=False) as file:
    np.savez(
      file,
      allow_pickle=False,
      weights=networks.to_rows(flat),
      **{k: np.asarray(v) for k, v in arrays.items()},
    )
  os.replace(file.name, part)


def _part(arrays, start: int, target: TargetNetwork, epochs: Sequence[int]):
  """The rows [B·C, D] of a chunk and their metrics."""
  count = len(arrays["settings.l2"])
  names = {
    "optimizer": generate.OPTIMIZERS,
    "initializer": generate.INITIALIZERS,
    "activation": target.activations,
  }
  columns = {
    "initializer": "w_init",
    "l2": "l2reg",
  }
  repeat = len(epochs)
  frame = {
    "modeldir": np.repeat([f"{start + i:08d}" for i in range(count)], repeat),
    "step": np.tile(epochs, count),
    "laststep": np.tile([e == epochs[-1] for e in epochs], count).astype(int),
  }
  for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
    frame[name] = arrays[name].ravel()
  for key in generate.Settings._fields:
    values = arrays[f"settings.{key}"]
    if key in names:
      values = np.array(names[key])[values]
    frame[f"config.{columns.get(key, key)}"] = np.repeat(values, repeat)
  frame["config.b_init"] = np.full(count * repeat, "zeros")
  return arrays["weights"], pd.DataFrame(frame)
