"""Generated zoos, made in parts: resumable, and made once per config."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pandas as pd

from scalegmn_jax import io, processes
from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.partial import Partial, Result
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
  make: Callable[[np.ndarray, Partial], Part],
  *,
  size: int,
  save_every: int,
  on_kept: Callable[[], Any],
  check: Callable[[], Any] = lambda: None,
) -> store.ZooFiles:
  """Makes a zoo part by part, or reads it if it was made before.

  Finished parts are kept beside the zoo until it is complete, so that an
  interrupted zoo is resumed. A damaged part, and a damaged zoo, is set aside
  and made again. If several runs want the same zoo, one makes it and the others
  wait.

  Args:
    folder: all cached zoos; this one is `<folder>/zoo-<hash of config>`.
    config: JSON values; the same values always make the same networks. The
      value of "target" is written as the description of the target.
    layout: the columns of the weights.
    make: (numbers of networks [n], partial results) -> their `Part`. n is the
      same in each call, so that nothing is compiled twice; surplus networks of
      the last part are dropped.
    size: number of networks.
    save_every: networks of a part.
    on_kept: called for each part that was made before.
    check: called while another run makes the zoo, and given to `make` as
      `Partial.check`; may raise `Interrupted`.

  Raises:
    InputError: no networks, or none in a part; or processes that compute
      together do not share the folder.
  """
  count_parts(size, save_every)
  # The key "chunk" is part of the hash: a cached zoo has to be found again.
  config = {**config, "size": size, "chunk": save_every}
  text = json.dumps(config, sort_keys=True)
  name = f"zoo-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
  path = folder / name
  if not processes.first(lambda: _is_whole(path)):
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(path, check):
      # Another run may have made the zoo meanwhile, or left parts of it.
      if not processes.first(lambda: _is_whole(path)):
        processes.first(lambda: _set_aside(path))
        # Beside the zoo: a rename is atomic within one file system only.
        partial = Partial(path.with_suffix(".unfinished"), check)
        metrics, rows = _make_parts(partial, make, size, save_every, on_kept)
        processes.first(
          lambda: _write(path, rows, metrics, layout, config.get("target"))
        )
        partial.clear()
  processes.see(path)
  return store.read_zoo(path)


_DIGESTS = "sha256.json"
"""{file of a cached zoo: its SHA-256}; version 0.2 and earlier ones
did not write it."""


def _is_whole(path: Path) -> bool:
  """Whether a zoo was made before and is not damaged."""
  return path.exists() and _damage(path) is None


def _set_aside(path: Path) -> None:
  """Sets a damaged zoo aside, if there is one."""
  if path.exists():
    io.set_aside(path, _damage(path) or "", "it is made again")


def _write(
  path: Path,
  rows: np.ndarray,
  metrics: pd.DataFrame,
  layout: Layout,
  description: Mapping[str, Any] | None,
) -> None:
  """Writes a zoo and the digests of its files."""
  store.write_zoo(path, rows, metrics, layout, description)
  io.write_json(path / _DIGESTS, _file_digests(path))


def _damage(path: Path) -> str | None:
  """The damage of a cached zoo; None for a whole one."""
  try:
    store.read_zoo(path)
    if (path / _DIGESTS).exists():
      written, found = io.read_json(path / _DIGESTS), _file_digests(path)
      if written != found:
        return "other bytes than were written"
  except InputError as error:
    return str(error)
  return None


def _file_digests(path: Path) -> dict[str, str]:
  digests = {}
  for name in (store.WEIGHTS, store.METRICS, store.LAYOUT):
    with (path / name).open("rb") as file:
      digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
  return digests


@contextlib.contextmanager
def _lock(path: Path, check: Callable[[], Any]) -> Iterator[None]:
  """Keeps out other runs that make the same zoo."""
  # Hidden: it may stay, and is not a zoo.
  file = path.with_name(f".{path.name}.lock")
  lock = filelock.FileLock(file)

  def acquired(seconds: float) -> bool:
    with contextlib.suppress(filelock.Timeout):
      lock.acquire(timeout=seconds)
    return lock.is_locked

  if not processes.first(lambda: acquired(0)):
    if processes.is_first():
      _LOG.warning("%s: waiting for another process that makes this zoo", path)
    check()
    while not processes.first(lambda: acquired(1)):
      check()
  try:
    processes.see(file)  # before hours of work, if they do not share the folder
    yield
  finally:
    lock.release()


def _make_parts(
  partial: Partial,
  make: Callable[[np.ndarray, Partial], Part],
  size: int,
  save_every: int,
  on_kept: Callable[[], Any],
) -> tuple[pd.DataFrame, np.ndarray]:
  """(metrics, rows) of all parts; makes the parts that are not kept."""
  full = min(save_every, size)
  rows, frames = [], []
  for start in range(0, size, save_every):
    made = False

    def compute(part, start=start):
      nonlocal made
      made = True
      rows, columns = make(np.arange(start, start + full), part)
      return Result(
        {_ROWS: rows, **{_COLUMN + k: v for k, v in columns.items()}}
      )

    arrays = dict(partial.remember(f"{start:08d}", compute).arrays)
    if not made:
      on_kept()
    part_rows = arrays.pop(_ROWS)
    checkpoints = len(part_rows) // full
    count = min(save_every, size - start)
    names = [f"{start + i:08d}" for i in range(count)]
    columns = {
      k.removeprefix(_COLUMN): v[: count * checkpoints]
      for k, v in arrays.items()
    }
    modeldir = np.repeat(names, checkpoints)
    frames.append(pd.DataFrame({"modeldir": modeldir, **columns}))
    rows.append(part_rows[: count * checkpoints])
  return pd.concat(frames, ignore_index=True), np.concatenate(rows)


_ROWS, _COLUMN = "rows", "column."  # names of arrays in the file of a part
_LOG = logging.getLogger(__name__)
