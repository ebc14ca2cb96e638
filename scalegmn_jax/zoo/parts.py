"""Generated zoos, made in parts: resumable, and made once per config."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.zoo import store
from scalegmn_jax.zoo.layout import Layout


class Part(NamedTuple):
  """Some networks of a zoo; the checkpoints of a network follow each other.

  Attributes:
    rows: weights, [n, D] float32.
    columns: metrics without `modeldir`, each [n].
  """

  rows: np.ndarray
  columns: Mapping[str, Any]


def digest(*arrays: np.ndarray) -> str:
  """A hash of the numbers in some arrays."""
  result = hashlib.sha256()
  for array in arrays:
    result.update(np.ascontiguousarray(array).tobytes())
  return result.hexdigest()[:16]


def describe(target: TargetNetwork) -> dict[str, Any]:
  """The description of a target, as part of the config of its zoos.

  Raises:
    InputError: the description is empty, so that cached zoos of different
      targets could not be told apart.
  """
  if not target.description:
    raise InputError(
      "target has an empty description, expected one: it tells cached zoos of "
      "different targets apart"
    )
  return dict(target.description)


def count_parts(size: int, save_every: int) -> int:
  """The number of parts in which `size` networks are made.

  Args:
    size: number of networks.
    save_every: networks of a part.

  Raises:
    InputError: no networks, or none in a part.
  """
  if size < 1 or save_every < 1:
    raise InputError(
      f"size is {size} and save_every is {save_every}, expected at least 1"
    )
  return -(-size // save_every)


def assemble(
  folder: Path,
  config: Mapping[str, Any],
  layout: Layout,
  make: Callable[[np.ndarray], Part],
  *,
  size: int,
  save_every: int,
  on_kept: Callable[[], Any],
) -> store.ZooFiles:
  """Makes a zoo part by part, or reads it if it was made before.

  Finished parts are kept beside the zoo until it is complete, so that an
  interrupted zoo is resumed. If several processes want the same zoo, one makes
  it and the others wait.

  Args:
    folder: all cached zoos; this one is `<folder>/zoo-<hash of config>`.
    config: JSON values; the same values always make the same networks.
    layout: the columns of the weights.
    make: numbers of networks [n] -> their `Part`. n is the same in each call,
      so that nothing is compiled twice; surplus networks of the last part are
      dropped.
    size: number of networks.
    save_every: networks of a part.
    on_kept: called for each part that was made before.

  Raises:
    InputError: no networks, or none in a part.
  """
  count_parts(size, save_every)
  # The key "chunk" is part of the hash: a cached zoo has to be found again.
  config = {**config, "size": size, "chunk": save_every}
  text = json.dumps(config, sort_keys=True)
  name = f"zoo-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
  path = folder / name
  if path.exists():
    return store.read_zoo(path)
  folder.mkdir(parents=True, exist_ok=True)
  with _lock(path):
    # Another process may have made the zoo meanwhile, or left parts of it.
    if not path.exists():
      # Beside the zoo: a rename is atomic within one file system only.
      parts = path.with_suffix(".unfinished")
      parts.mkdir(exist_ok=True)
      metrics, rows = _make_parts(parts, make, size, save_every, on_kept)
      store.write_zoo(path, rows, metrics, layout)
      shutil.rmtree(parts)
  return store.read_zoo(path)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
  """Keeps out other processes that make the same zoo."""
  # Hidden: it may stay, and is not a zoo.
  lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout:
    _LOG.warning("%s: waiting for another process that makes this zoo", path)
    lock.acquire()
  try:
    yield
  finally:
    lock.release()


def _make_parts(
  parts: Path,
  make: Callable[[np.ndarray], Part],
  size: int,
  save_every: int,
  on_kept: Callable[[], Any],
) -> tuple[pd.DataFrame, np.ndarray]:
  """(metrics, rows) of all parts; makes the parts not yet in their folder."""
  full = min(save_every, size)
  rows, frames = [], []
  for start in range(0, size, save_every):
    file = parts / f"{start:08d}.npz"
    if file.exists():
      on_kept()
    else:
      _save(file, make(np.arange(start, start + full)))
    part = _load(file)
    checkpoints = len(part.rows) // full
    count = min(save_every, size - start)
    names = [f"{start + i:08d}" for i in range(count)]
    columns = {k: v[: count * checkpoints] for k, v in part.columns.items()}
    modeldir = np.repeat(names, checkpoints)
    frames.append(pd.DataFrame({"modeldir": modeldir, **columns}))
    rows.append(part.rows[: count * checkpoints])
  return pd.concat(frames, ignore_index=True), np.concatenate(rows)


_ROWS = "rows"
_LOG = logging.getLogger(__name__)


def _save(file: Path, part: Part) -> None:
  with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
    columns = {f"column.{k}": np.asarray(v) for k, v in part.columns.items()}
    np.savez(temporary, allow_pickle=False, **{_ROWS: part.rows}, **columns)
  os.replace(temporary.name, file)


def _load(file: Path) -> Part:
  with np.load(file, allow_pickle=False) as arrays:
    columns = {
      name.removeprefix("column."): arrays[name]
      for name in arrays.files
      if name != _ROWS
    }
    return Part(arrays[_ROWS], columns)
