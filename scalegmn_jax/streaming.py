"""Trained metanetworks on whole zoos: from disk to disk, a block at a time.

Memory does not grow with the zoo. A process that was killed at any moment is
resumed by the same call: what is computed is kept beside the output, in a
hidden folder `.<name>.unfinished`, and the output appears at once.

Several processes (`scalegmn_jax.processes`) share the rows: each reads its own
and computes on its own devices, inside `devices.spread(jax.local_devices())`;
process 0 writes.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import jax
import numpy as np

from scalegmn_jax import batched, io, processes
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.trained import LINKS, TrainedFunctional, TrainedOperator
from scalegmn_jax.zoo import codec, store

BLOCK = 256
"""Networks in memory at a time, and between two safe points."""

MEASURED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
"""Columns of a zoo that an edit makes invalid."""

IDENTIFYING = ("modeldir", "step", "config.activation")
"""Columns of a zoo that are repeated beside predictions."""

OnRows = Callable[[int], Any]
"""(rows finished since the last call) -> None. It may raise an exception to
stop: the same call goes on from there."""


class Streamed(NamedTuple):
  """The rows of a zoo that a metanetwork was applied to.

  Attributes:
    count: number of rows.
    failed: ascending row numbers: the weights of the network or the result are
      not finite.
  """

  count: int
  failed: np.ndarray


def edit_zoo(
  operator: TrainedOperator,
  zoo: str | os.PathLike[str],
  out: str | os.PathLike[str],
  *,
  on_rows: OnRows = lambda count: None,
) -> Streamed:
  """Writes the edited networks of a zoo as a zoo.

  The new zoo has the same rows in the same order. Metrics that no longer hold
  are empty. Networks whose weights or edited weights are not finite are written
  as they were, with their metrics.

  Args:
    operator: edits each network.
    zoo: folder of the zoo.
    out: folder of the new zoo; must not exist.
    on_rows: called after every block.

  Raises:
    InputError: `out` exists or cannot be written, the zoo does not fit the
      operator, or `out` was begun with another operator or zoo.
  """
  files = store.read_zoo(zoo)
  edit = batched.edit_networks(operator.metanetwork)
  layout = codec.layout_of(operator.target)

  def edited(networks: Networks) -> np.ndarray:
    return codec.to_rows(edit(operator.params, networks).weights)

  def write(values: np.ndarray, failed: np.ndarray) -> None:
    metrics = files.metrics.copy()
    kept = metrics.index.isin(failed)
    for column in MEASURED:
      if column in metrics:
        metrics[column] = metrics[column].where(kept)
    store.write_zoo(out, values, metrics, layout)

  work = _Work(operator, files, layout.size, edited, keep_failed=True)
  return _stream(work, Path(out), on_rows, write)


def predict_zoo(
  functional: TrainedFunctional,
  zoo: str | os.PathLike[str],
  out: str | os.PathLike[str],
  *,
  on_rows: OnRows = lambda count: None,
) -> Streamed:
  """Writes the predictions for the networks of a zoo as a CSV file.

  Its columns are `row`, `IDENTIFYING` and `prediction`; with K > 1 outputs
  `prediction_0` to `prediction_<K-1>`. Predictions are empty for networks whose
  weights or predictions are not finite.

  Args:
    functional: reads each network.
    zoo: folder of the zoo.
    out: the file; must not exist.
    on_rows: called after every block.

  Raises:
    InputError: `out` exists or cannot be written, the zoo does not fit the
      functional, or `out` was begun with another functional or zoo.
  """
  files = store.read_zoo(zoo)
  read = batched.read_networks(functional.metanetwork)
  link = LINKS[functional.link]
  shapes = jax.eval_shape(functional.target.init, jax.random.key(0))
  (width,) = jax.eval_shape(
    functional.metanetwork.apply, functional.params, shapes, 0
  ).shape

  def predictions(networks: Networks) -> np.ndarray:
    return np.asarray(link(read(functional.params, networks)))

  def write(values: np.ndarray, failed: np.ndarray) -> None:
    table = files.metrics[list(IDENTIFYING)].copy()
    for k in range(width):
      name = "prediction" if width == 1 else f"prediction_{k}"
      table[name] = values[:, k]
    text = table.to_csv(index_label="row", lineterminator="\n")
    io.write_text(Path(out).expanduser(), text)

  work = _Work(functional, files, width, predictions, keep_failed=False)
  return _stream(work, Path(out), on_rows, write)


class _Work(NamedTuple):
  """A function of every row of a zoo.

  Attributes:
    trained: the metanetwork.
    files: the zoo.
    width: numbers per result.
    compute: networks -> results [B, width].
    keep_failed: rows that failed hold the weights of the network; otherwise
      NaN.
  """

  trained: TrainedOperator | TrainedFunctional
  files: store.ZooFiles
  width: int
  compute: Callable[[Networks], np.ndarray]
  keep_failed: bool

  def check(self) -> None:
    """Raises InputError unless all rows are networks of the target."""
    target, count = self.trained.target, len(self.files.weights)
    codec.check_layout(target, self.files)
    codec.read_activations(target, self.files, np.arange(count))

  def block(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(results [B, width] of rows [B], which of them failed [B])."""
    target = self.trained.target
    weights = codec.read_rows(target, self.files, rows)
    results = np.full((len(rows), self.width), np.nan, np.float32)
    good = np.isfinite(weights).all(1)
    if good.any():
      networks = codec.load_networks(target, self.files, rows[good])
      results[good] = self.compute(networks)
    failed = np.logical_not(np.isfinite(results).all(1))
    results[failed] = weights[failed] if self.keep_failed else np.nan
    return results, failed

  def identity(self) -> str:
    """A digest of the metanetwork and the zoo, without reading its weights."""
    weights = (self.files.path / store.WEIGHTS).stat()
    names = self.files.metrics[list(IDENTIFYING)]
    return io.digest(
      io.named_arrays(self.trained.params)
      | {
        "model": np.array(repr(sorted(self.trained.model.items()))),
        "link": np.array(self.trained.link),
        "weights": np.array([weights.st_size, weights.st_mtime_ns]),
        "names": np.asarray(names.astype(str), dtype=str),
      }
    )


class _Unfinished:
  """The finished rows of an output, in a folder beside it.

  `rows.bin` holds the rows in order; `progress.json` says how many of them are
  on disk, which ones failed, and from what they were made.
  """

  def __init__(self, folder: Path, made_from: str, width: int):
    self._file = folder / "rows.bin"
    self._record = folder / "progress.json"
    self._width = width
    self._made_from = made_from
    self.done, self.failed = processes.first(self._read)

  def _read(self) -> tuple[int, list[int]]:
    if not self._record.exists():
      return 0, []
    found = io.read_json(self._record)
    if found["made_from"] != self._made_from:
      raise InputError(
        f"{self._record.parent}: begun with another metanetwork or zoo, "
        "expected the same one; delete the folder or write elsewhere"
      )
    return found["done"], found["failed"]

  def append(self, rows: np.ndarray, failed: np.ndarray) -> None:
    """Adds rows [B, width], durably; `failed` [B] are booleans."""
    if processes.is_first():
      with self._file.open("r+b" if self.done else "wb") as file:
        # Rows beyond the record were written by a process that was killed.
        file.seek(self.done * self._width * 4)
        file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        file.flush()
        os.fsync(file.fileno())
    self.failed += (self.done + np.flatnonzero(failed)).tolist()
    self.done += len(rows)
    io.write_json(
      self._record,
      {
        "made_from": self._made_from,
        "done": self.done,
        "failed": self.failed,
      },
    )

  def rows(self) -> np.ndarray:
    """All rows [N, width], mapped from the file."""
    return np.memmap(
      self._file, np.float32, "r", shape=(self.done, self._width)
    )


def _stream(
  work: _Work,
  out: Path,
  on_rows: OnRows,
  write: Callable[[np.ndarray, np.ndarray], None],
) -> Streamed:
  """Computes or resumes results and writes them.

  Args:
    work: the results.
    out: the output; must not exist.
    on_rows: called after every block.
    write: (results [N, width] mapped from a file, numbers of the rows that
      failed) -> None; writes the output.
  """
  out = out.expanduser().resolve()

  def check() -> None:
    if out.exists():
      raise InputError(f"{out}: exists already, expected a new path")

  processes.first(check)
  work.check()
  count = len(work.files.weights)
  folder = out.with_name(f".{out.name}.unfinished")
  try:
    with _alone(folder):
      unfinished = _Unfinished(folder, work.identity(), work.width)
      on_rows(unfinished.done)
      while unfinished.done < count:
        left = count - unfinished.done
        each = min(BLOCK, -(-left // processes.count()))
        begin = unfinished.done + processes.index() * each
        # Processes without rows of their own repeat the last one.
        rows = np.minimum(np.arange(begin, begin + each), count - 1)
        results, failed = map(processes.gather, work.block(rows))
        unfinished.append(results[:left], failed[:left])
        on_rows(min(len(results), left))
      failed = np.array(unfinished.failed, np.int64)
      processes.first(lambda: write(unfinished.rows(), failed))
  except OSError as error:
    reason = error.strerror or str(error)
    raise InputError(
      f"{error.filename or folder}: cannot be written ({reason}); when it can "
      f"be, the same call goes on"
    ) from None
  io.remove(folder)
  return Streamed(count, failed)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
  """Keeps other calls out of a folder, which is made if it does not exist."""
  lock = filelock.FileLock(folder / "lock")

  def acquire() -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
      lock.acquire(timeout=0)
    except filelock.Timeout:
      raise InputError(f"{folder}: another process is writing there") from None

  processes.first(acquire)
  try:
    yield
  finally:
    lock.release()
