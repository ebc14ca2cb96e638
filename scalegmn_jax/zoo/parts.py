"""Zoos made here, in parts: resumable, and made once per config."""

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

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo import store
from scalegmn_jax.zoo.layout import Layout


class Part(NamedTuple):
  """Some networks of a zoo, all checkpoints of one after those of another.

  Attributes:
    rows: their weights, [n, D] float32.
    columns: of their metrics, each [n]; `modeldir` is not among them.
  """

  rows: np.ndarray
  columns: Mapping[str, Any]


def digest(*arrays: np.ndarray) -> str:
  """A hash of the numbers in some arrays."""
  found = hashlib.sha256()
  for array in arrays:
    found.update(np.ascontiguousarray(array).tobytes())
  return found.hexdigest()[:16]


def count_parts(size: int, chunk: int) -> int:
  """How many parts `size` networks are made in, `chunk` of them in each.

  Raises:
    InputError: no networks, or none in a part.
  """
  if size < 1 or chunk < 1:
    raise InputError(
      f"a zoo of {size} networks in parts of {chunk}: expected at least one"
    )
  return -(-size // chunk)


def assemble(
  folder: Path,
  config: Mapping[str, Any],
  layout: Layout,
  make: Callable[[np.ndarray], Part],
  *,
  size: int,
  chunk: int,
  on_kept: Callable[[], Any],
) -> store.ZooFiles:
  """A zoo made a part at a time, read from `folder` if it was made before.

  Finished parts are kept beside the zoo until it is complete, so that an
  interrupted zoo goes on where it was. Of several processes that want the same
  zoo one makes it, and the others wait for it.

  Args:
    folder: of all cached zoos; this one is `<folder>/zoo-<hash of config>`.
    config: JSON values; the same ones always make the same networks.
    layout: of the weights.
    make: numbers of networks [n] -> their `Part`. n is always the same, so that
      nothing is compiled twice; what is too much of the last part is left out.
    size: number of networks.
    chunk: networks of a part.
    on_kept: called for each part that needs not be made.

  Raises:
    InputError: no networks, or none in a part.
  """
  count_parts(size, chunk)
  config = {**config, "size": size, "chunk": chunk}
  text = json.dumps(config, sort_keys=True)
  name = f"zoo-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
  path = folder / name
  if path.exists():
    return store.read_zoo(path)
  folder.mkdir(parents=True, exist_ok=True)
  with _alone(path):
    # Another process may have made it meanwhile, or have been stopped.
    if not path.exists():
      # Beside the zoo: a rename is atomic within one file system only.
      parts = path.with_suffix(".unfinished")
      parts.mkdir(exist_ok=True)
      metrics, rows = _made(parts, make, size, chunk, on_kept)
      store.write_zoo(path, rows, metrics, layout)
      shutil.rmtree(parts)
  return store.read_zoo(path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
  """No other process is within it for the same zoo."""
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


def _made(
  parts: Path,
  make: Callable[[np.ndarray], Part],
  size: int,
  chunk: int,
  on_kept: Callable[[], Any],
) -> tuple[pd.DataFrame, np.ndarray]:
  """(metrics, rows) of all parts, those missing in the folder `parts` made."""
  full = min(chunk, size)
  rows, frames = [], []
  for start in range(0, size, chunk):
    file = parts / f"{start:08d}.npz"
    if file.exists():
      on_kept()
    else:
      _save(file, make(np.arange(start, start + full)))
    part = _load(file)
    each = len(part.rows) // full
    count = min(chunk, size - start)
    names = [f"{start + i:08d}" for i in range(count)]
    columns = {k: v[: count * each] for k, v in part.columns.items()}
    frames.append(pd.DataFrame({"modeldir": np.repeat(names, each), **columns}))
    rows.append(part.rows[: count * each])
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
