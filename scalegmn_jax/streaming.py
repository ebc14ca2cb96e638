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
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched, io, processes
from scalegmn_jax.base import InputError, Params, Weights
from scalegmn_jax.trained import LINKS, TrainedFunctional, TrainedOperator
from scalegmn_jax.zoo import codec, store

BLOCK = 256
"""Networks in memory at a time, and between two safe points, at most."""

_BLOCK_WEIGHTS = 1 << 22
"""Weights in memory at a time, 16 MiB; at least those of a network."""

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
  layout = codec.layout_of(operator.target)

  def edited(params, weights, activation):
    new = operator.metanetwork.apply(params, weights, activation)
    return jnp.concatenate([w.ravel() for w in jax.tree.leaves(new)])

  def write(zoo: Path, failed: np.ndarray) -> None:
    metrics = files.metrics.copy()
    kept = metrics.index.isin(failed)
    for column in MEASURED:
      if column in metrics:
        metrics[column] = metrics[column].where(kept)
    description = operator.target.description
    store.complete_zoo(zoo.parent, out, metrics, layout, description)

  work = _Work(
    operator, files, f"zoo/{store.WEIGHTS}", layout.size, edited, True
  )
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
  link = LINKS[functional.link]
  shapes = jax.eval_shape(functional.target.init, jax.random.key(0))
  (width,) = jax.eval_shape(
    functional.metanetwork.apply, functional.params, shapes, 0
  ).shape

  def predicted(params, weights, activation):
    return link(functional.metanetwork.apply(params, weights, activation))

  def write(file: Path, failed: np.ndarray) -> None:
    values = np.load(file, allow_pickle=False)
    table = files.metrics[list(IDENTIFYING)].copy()
    for k in range(width):
      name = "prediction" if width == 1 else f"prediction_{k}"
      table[name] = values[:, k]
    text = table.to_csv(index_label="row", lineterminator="\n")
    io.write_text(Path(out).expanduser(), text)

  work = _Work(functional, files, "predictions.npy", width, predicted, False)
  return _stream(work, Path(out), on_rows, write)


class _Work(NamedTuple):
  """A function of every row of a zoo.

  Attributes:
    trained: the metanetwork.
    files: the zoo.
    name: of the file of the results while they are unfinished.
    width: numbers per result.
    compute: (φ, weights, activation) of one network -> result [width].
    keep_failed: rows that failed hold the weights of the network; otherwise
      NaN.
  """

  trained: TrainedOperator | TrainedFunctional
  files: store.ZooFiles
  name: str
  width: int
  compute: Callable[[Params, Weights, jax.Array], jax.Array]
  keep_failed: bool

  def activations(self) -> np.ndarray:
    """[N] int32, see `codec.read_activations`.

    Raises:
      InputError: a row is no network of the target.
    """
    target, count = self.trained.target, len(self.files.weights)
    codec.check_layout(target, self.files)
    return codec.read_activations(target, self.files, np.arange(count))

  def compiled(self, block: int) -> Callable[..., jax.Array]:
    """(φ, (rows [B, D], activations [B])) -> results [B, width].

    Args:
      block: B, at most.
    """

    def one(params, item):
      row, activation = item
      weights = codec.to_weights(self.trained.target, row[None])
      weights = jax.tree.map(lambda w: w[0], weights)
      return self.compute(params, weights, activation)

    # On a CPU networks are computed one by one, in one call of the program.
    on_cpu = jax.default_backend() == "cpu"
    return batched.apply_batched(one, batch_size=block if on_cpu else None)

  def finish(
    self, weights: np.ndarray, results: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """(results [B, width] as they are written, which of them failed [B])."""
    finite = np.isfinite(weights).all(1) & np.isfinite(results).all(1)
    failed = np.logical_not(finite)
    if failed.any():
      results = results.copy()
      results[failed] = weights[failed] if self.keep_failed else np.nan
    return results, failed

  def identity(self) -> str:
    """A digest of the metanetwork and the zoo, without reading its weights."""
    weights = (self.files.path / store.WEIGHTS).stat()
    names = self.files.metrics[list(IDENTIFYING)]
    return io.digest(
      io.named_arrays(self.trained.params)
      | {
        "results": np.array(self.name),
        "model": np.array(repr(sorted(self.trained.model.items()))),
        "link": np.array(self.trained.link),
        "weights": np.array([weights.st_size, weights.st_mtime_ns]),
        "names": np.asarray(names.astype(str), dtype=str),
      }
    )


class _Unfinished:
  """The finished rows of an output, in a folder beside it.

  A `.npy` file has a place for every row, and `failed.bin` a byte, which says
  whether the row failed. `progress.json` says how many rows are on disk, and
  from what they were made. Rows beyond them were written by a process that was
  killed.

  Attributes:
    results: the file of the results [N, width], float32.
    done: number of finished rows.
  """

  def __init__(self, folder: Path, made_from: str, work: _Work):
    self.results = folder / work.name
    self._failed = folder / "failed.bin"
    self._record = folder / "progress.json"
    self._made_from = made_from
    self._shape = len(work.files.weights), work.width
    self.done = processes.first(self._read)

  def _read(self) -> int:
    if not self._record.exists():
      self.results.parent.mkdir(exist_ok=True)
      # With the header of the whole array; its rows take no space yet.
      np.lib.format.open_memmap(
        self.results, "w+", np.float32, shape=self._shape
      )
      self._failed.touch()
      return 0
    found = io.read_json(self._record)
    if found["made_from"] != self._made_from:
      raise InputError(
        f"{self._record.parent}: begun with another metanetwork or zoo, "
        "expected the same one; delete the folder or write elsewhere"
      )
    return found["done"]

  def append(self, rows: np.ndarray, failed: np.ndarray) -> int:
    """Adds rows [B, width], durably; `failed` [B] are booleans.

    Returns:
      B.
    """
    if processes.is_first():
      row = self._shape[1] * 4
      header = self.results.stat().st_size - self._shape[0] * row
      _write_at(
        self.results,
        header + self.done * row,
        np.ascontiguousarray(rows, np.float32),
      )
      _write_at(self._failed, self.done, failed.astype(np.uint8))
    self.done += len(rows)
    io.write_json(
      self._record, {"made_from": self._made_from, "done": self.done}
    )
    return len(rows)

  def failed(self) -> np.ndarray:
    """Ascending numbers of the rows that failed."""

    def read() -> list[int]:
      failed = np.fromfile(self._failed, np.uint8)[: self.done]
      return np.flatnonzero(failed).tolist()

    return np.array(processes.first(read), int)


def _write_at(path: Path, position: int, values: np.ndarray) -> None:
  """Writes numbers at a position in bytes of a file, durably."""
  with path.open("r+b") as file:
    file.seek(position)
    file.write(values.data)
    file.flush()
    os.fsync(file.fileno())


def _stream(
  work: _Work,
  out: Path,
  on_rows: OnRows,
  write: Callable[[Path, np.ndarray], None],
) -> Streamed:
  """Computes or resumes results and writes them.

  Args:
    work: the results.
    out: the output; must not exist.
    on_rows: called after every block.
    write: (`.npy` file of the results [N, width], numbers of the rows that
      failed) -> None; writes the output.
  """
  out = out.expanduser().resolve()

  def check() -> None:
    if out.exists():
      raise InputError(f"{out}: exists already, expected a new path")

  processes.first(check)
  activations = work.activations()
  folder = out.with_name(f".{out.name}.unfinished")
  try:
    with _alone(folder):
      unfinished = _Unfinished(folder, work.identity(), work)
      on_rows(unfinished.done)
      _compute(work, activations, unfinished, on_rows)
      failed = unfinished.failed()
      processes.first(lambda: write(unfinished.results, failed))
  except OSError as error:
    reason = error.strerror or str(error)
    raise InputError(
      f"{error.filename or folder}: cannot be written ({reason}); when it can "
      f"be, the same call goes on"
    ) from None
  io.remove(folder)
  return Streamed(len(activations), failed)


def _compute(
  work: _Work,
  activations: np.ndarray,
  unfinished: _Unfinished,
  on_rows: OnRows,
) -> None:
  """Computes the rows that are left.

  A block is read while the one before is computed and the one before that is
  written.
  """
  target, count = work.trained.target, len(activations)
  most = min(BLOCK, max(1, _BLOCK_WEIGHTS // work.files.layout.size))
  # Blocks of one size, for one program.
  blocks = -(-count // (most * processes.count()))
  each = -(-count // (blocks * processes.count()))
  compute, params = work.compiled(each), work.trained.params

  def rows_from(start: int) -> np.ndarray:
    begin = start + processes.index() * each
    # Rows beyond the last one repeat it.
    return np.minimum(np.arange(begin, begin + each), count - 1)

  def read(start: int) -> tuple[np.ndarray, np.ndarray]:
    rows = rows_from(start)
    return codec.read_rows(target, work.files, rows), activations[rows]

  with (
    futures.ThreadPoolExecutor(1) as reader,
    futures.ThreadPoolExecutor(1) as writer,
  ):
    done, written = unfinished.done, None
    networks = reader.submit(read, done)
    while done < count:
      weights, some = networks.result()
      end = min(done + each * processes.count(), count)
      networks = reader.submit(read, end)
      results = np.asarray(compute(params, (weights, some)))
      results, failed = map(processes.gather, work.finish(weights, results))
      if written is not None:
        on_rows(written.result())
      written = writer.submit(
        unfinished.append, results[: end - done], failed[: end - done]
      )
      done = end
    if written is not None:
      on_rows(written.result())


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
