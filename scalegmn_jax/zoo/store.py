"""Zoo files in the format of the Small CNN Zoo: networks as rows of a matrix.

A zoo is a folder with

- `weights.npy`: [N, D], a network per row; float32 when written, floats of any
  precision and byte order when read;
- `metrics.csv.gz`: N rows; `modeldir` names the training run, `step` is the
  epoch of the checkpoint, `config.activation` its activation, and more. If
  networks have network-specific labels (public zoos do not), `config.classes`
  is "3 0 -1 ...": the output of each class, -1 for none;
- `layout.csv`: the weight that each of the D columns belongs to;
- `target.json`, optional: the arguments of `targets.registry.make_target`, or
  the symmetry and the shapes of a traced target. Public zoos have none.

Source of the format: Unterthiner et al., "Predicting Neural Network Accuracy
from Weights", arXiv:2002.11448. Public and generated zoos are interchangeable.

Letters: N networks (checkpoints of training runs), D weights of a network.
"Rows" are integer arrays of row numbers, 0..N-1.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import mmap
import os
import pathlib
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalegmn_jax import base, processes
from scalegmn_jax.data import formats
from scalegmn_jax.io import input_errors, replace_file, sync_folder
from scalegmn_jax.zoo.layout import Layout

WEIGHTS = "weights.npy"
METRICS = "metrics.csv.gz"
LAYOUT = "layout.csv"
TARGET = "target.json"
CLASS_TO_OUTPUT = "config.classes"
"""The column with the `class_to_output` of each network."""

_NAMES = ("modeldir", "config.activation")
_NEEDED = ("modeldir", "step", "config.activation")
# Pinned, so that the type of a column does not differ between zoos: entries of
# one zoo may all be empty or look like numbers.
_STRINGS = ("config.w_init", "config.b_init", "config.optimizer")
_MISSING = ["", "NA", "NaN", "nan", "None", "null", "<NA>"]
_ROW = 1 << 16  # bytes of a line of metrics, at most
_MAX_COLUMNS = 10_000
_BLOCK = 1 << 22  # numbers read at a time, 16 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class ZooFiles:
  """A zoo on disk.

  Attributes:
    weights: [N, D] floats, mapped from the file, read-only.
    metrics: N rows with index 0..N-1 and all columns of the file.
    layout: the weights in the D columns.
    path: the folder.
  """

  weights: np.ndarray
  metrics: pd.DataFrame
  layout: Layout
  path: pathlib.Path


def read_zoo(path: str | os.PathLike[str]) -> ZooFiles:
  """Opens a zoo; weights stay on disk until `read_rows` reads them.

  Raises:
    InputError: no such folder, one of the three files is missing or broken, or
      they do not fit each other.
  """
  path = pathlib.Path(os.path.expanduser(path))
  if not path.is_dir():
    raise base.InputError(
      f"{path}: no such folder, expected one with {WEIGHTS}, {METRICS} and"
      f" {LAYOUT}"
    )
  layout = Layout.read(path / LAYOUT)
  weights = formats.read_npy(path / WEIGHTS)
  _check_weights(weights, layout, str(path / WEIGHTS), np.floating)
  metrics = _read_metrics(path / METRICS, len(weights))
  return ZooFiles(weights, metrics, layout, path)


def check_new(path: str | os.PathLike[str]) -> pathlib.Path:
  """The full path of a zoo that will be written.

  Args:
    path: the folder.

  Raises:
    InputError: it exists and is not an empty folder.
  """
  path = pathlib.Path(os.path.expanduser(path)).resolve()
  if path.exists() and not (path.is_dir() and not any(path.iterdir())):
    raise base.InputError(f"{path}: exists, expected no folder or an empty one")
  return path


def write_zoo(
  path: str | os.PathLike[str],
  weights: np.ndarray,
  metrics: pd.DataFrame,
  layout: Layout,
  description: Mapping[str, Any] | None = None,
) -> None:
  """Writes a zoo; the same zoo always gives the same bytes.

  The folder appears at once with all its files in it, or not at all, also
  after a power cut. Of several processes that compute together, process 0 alone
  writes.

  Args:
    path: the folder: absent or empty.
    weights: [N, D] float32.
    metrics: N rows with at least the columns `modeldir`, `step` and
      `config.activation`. Its index is not written.
    layout: the weights in the D columns.
    description: of the target, for `target.json`; empty for none.

  Raises:
    InputError: the arguments do not fit each other, or the folder is not empty.
  """
  if not processes.is_first():
    return
  path = check_new(path)
  weights = np.asarray(weights)
  _check_weights(weights, layout, f"{path}: weights", np.float32)
  metrics = _new_metrics(path, metrics, len(weights))
  with appearing(path) as temporary, _refused(path):
    temporary.mkdir(parents=True)
    with replace_file(temporary / WEIGHTS) as file:
      np.save(file, weights, allow_pickle=False)
    _complete(temporary, metrics, layout, description)


def complete_zoo(
  folder: str | os.PathLike[str],
  path: str | os.PathLike[str],
  metrics: pd.DataFrame,
  layout: Layout,
  description: Mapping[str, Any] | None = None,
) -> None:
  """Makes a zoo of a folder that holds its weights; as `write_zoo`.

  Args:
    folder: with `WEIGHTS`, float32, durably written; becomes the zoo. It is in
      the same file system as `path`.
    path: the folder of the zoo: absent or empty.
    metrics: see `write_zoo`.
    layout: see `write_zoo`.
    description: see `write_zoo`.

  Raises:
    InputError: the arguments do not fit each other, or `path` is not empty.
  """
  if not processes.is_first():
    return
  folder, path = pathlib.Path(folder), check_new(path)
  weights = formats.read_npy(folder / WEIGHTS)
  _check_weights(weights, layout, str(folder / WEIGHTS), np.float32)
  metrics = _new_metrics(path, metrics, len(weights))
  with _refused(path):
    _complete(folder, metrics, layout, description)
    _move(folder, path)


def _new_metrics(
  path: pathlib.Path, metrics: pd.DataFrame, count: int
) -> pd.DataFrame:
  return _check_metrics(
    metrics.reset_index(drop=True), count, f"{path}: metrics"
  )


@contextlib.contextmanager
def _refused(path: pathlib.Path) -> Iterator[None]:
  """Turns refusals of the system into a one-line `InputError`."""
  try:
    yield
  except OSError as error:
    reason = " ".join(str(error).split())
    raise base.InputError(
      f"{path}: cannot be written ({reason}); expected a folder that is empty"
      " and may be written to"
    ) from error


@contextlib.contextmanager
def appearing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder that becomes `path` when the context ends, or nothing if it fails.

  Args:
    path: the full path: absent or an empty folder, see `check_new`.

  Yields:
    The folder to make and to write, beside `path`.

  Raises:
    InputError: it cannot be moved to `path`.
  """
  # A sibling: a rename is atomic within one file system only. Not from
  # tempfile, whose folders nobody else may read.
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
  try:
    yield temporary
    with _refused(path):
      _move(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _move(folder: pathlib.Path, path: pathlib.Path) -> None:
  os.replace(folder, path)
  sync_folder(path.parent)


def _complete(
  folder: pathlib.Path,
  metrics: pd.DataFrame,
  layout: Layout,
  description: Mapping[str, Any] | None,
) -> None:
  """Writes all but the weights into a folder."""
  contents = {METRICS: _csv_gz(metrics), LAYOUT: layout.text().encode()}
  if description:
    contents[TARGET] = (json.dumps(dict(description)) + "\n").encode()
  for name, content in contents.items():
    with replace_file(folder / name) as file:
      file.write(content)


def column(files: ZooFiles, name: str) -> np.ndarray:
  """One column of the metrics [N]; names are Python strings."""
  return np.asarray(files.metrics[name])


def format_class_to_output(classes: np.ndarray) -> str:
  """The `class_to_output` [K] of one network as an entry of the metrics."""
  return " ".join(map(str, classes.tolist()))


def read_class_to_output(
  files: ZooFiles, rows: np.ndarray, outputs: int | None = None
) -> np.ndarray | None:
  """The outputs that stand for the K classes, see `base.Network`.

  Args:
    files: the zoo.
    rows: [n] row numbers.
    outputs: the number of outputs of the networks; None for any.

  Returns:
    [n, K] int32, or None if the zoo does not have the column.

  Raises:
    InputError: a broken entry.
  """
  if CLASS_TO_OUTPUT not in files.metrics:
    return None
  parsed: dict[Any, np.ndarray] = {}
  length = None
  texts = column(files, CLASS_TO_OUTPUT)[rows]
  for row, text in zip(rows, texts, strict=True):
    if text in parsed:
      continue
    parts = str(text).split()
    if not all(re.fullmatch("-1|[0-9]{1,6}", part) for part in parts):
      parts = []
    classes = np.array(parts, np.int32)
    length = len(classes) if length is None else length
    if (
      not length
      or len(classes) != length
      or classes.max() < 0
      or (outputs is not None and classes.max() >= outputs)
    ):
      numbers = "numbers" if outputs is None else f"numbers below {outputs}"
      raise base.InputError(
        f"{files.path / METRICS}: row {row}: {CLASS_TO_OUTPUT} is {text!r}, "
        f"expected the output of each class: {numbers}, not all of them -1, as "
        "many in every row"
      )
    parsed[text] = classes
  return np.array([parsed[text] for text in texts])


def check_rows(files: ZooFiles, rows: np.ndarray) -> np.ndarray:
  """Validates row numbers and returns them as int64 [n].

  Raises:
    InputError: other than integers, or numbers beyond the zoo.
  """
  rows = np.asarray(rows)
  if not rows.size:
    return np.zeros(0, np.int64)
  total = len(files.weights)
  if (
    rows.ndim != 1
    or not np.issubdtype(rows.dtype, np.integer)
    or rows.min() < 0
    or rows.max() >= total
  ):
    raise base.InputError(
      f"{files.path}: rows of {rows.dtype} {list(rows.shape)} from {rows.min()}"
      f" to {rows.max()}, expected integers [n] in 0..{total - 1}"
    )
  return rows.astype(np.int64)


def bad_rows(files: ZooFiles, rows: np.ndarray | None = None) -> np.ndarray:
  """The rows (default: of all) that hold NaN or infinity, ascending."""
  if rows is None:
    rows = np.arange(len(files.weights))
  bad = [
    block[~np.isfinite(_float32(files.weights[block])).all(axis=1)]
    for block in _blocks(files, np.sort(check_rows(files, rows)))
  ]
  return np.concatenate([np.zeros(0, np.int64), *bad])


def check_finite(files: ZooFiles, rows: np.ndarray | None = None) -> None:
  """Raises InputError if a row (default: any) holds NaN or infinity."""
  bad = bad_rows(files, rows)
  if len(bad):
    count = len(files.weights) if rows is None else len(rows)
    raise base.InputError(
      f"{files.path / WEIGHTS}: row {bad[0]} ({len(bad)} of {count} rows)"
      " holds NaN or infinity, expected finite weights"
    )


def read_rows(files: ZooFiles, rows: np.ndarray) -> np.ndarray:
  """Reads networks into memory: [len(rows), D] float32, in order of `rows`."""
  rows = check_rows(files, rows)
  weights = np.empty((len(rows), files.layout.size), np.float32)
  # Ascending: neighbours in the file are read together.
  for block in _blocks(files, np.argsort(rows, kind="stable")):
    weights[block] = _float32(files.weights[rows[block]])
  _release(files)
  return weights


def _release(files: ZooFiles) -> None:
  """Gives back the memory of what was read, which the mapping keeps."""
  mapping = files.weights.base
  if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
    mapping.madvise(mmap.MADV_DONTNEED)


def _float32(weights: np.ndarray) -> np.ndarray:
  """Weights in float32; values beyond its range become infinity."""
  with np.errstate(over="ignore"):
    return weights.astype(np.float32)


def _blocks(files: ZooFiles, values: np.ndarray) -> Iterator[np.ndarray]:
  """`values`, one per network, in blocks of at most 16 MiB of networks."""
  size = max(1, _BLOCK // files.layout.size)
  for start in range(0, len(values), size):
    yield values[start : start + size]


def _check_weights(
  weights: np.ndarray, layout: Layout, source: str, dtype: type
) -> None:
  if (
    not np.issubdtype(weights.dtype, dtype)
    or weights.ndim != 2
    or weights.shape[1] != layout.size
    or not len(weights)
  ):
    raise base.InputError(
      f"{source}: {weights.dtype} {list(weights.shape)}, expected"
      f" {np.dtype(dtype) if dtype is np.float32 else 'floats'}"
      f" [N, {layout.size}] with N > 0, as the layout says"
    )


def _read_metrics(file: pathlib.Path, count: int) -> pd.DataFrame:
  with (
    input_errors(file, "a gzipped CSV"),
    warnings.catch_warnings(),
  ):
    # Otherwise fields beyond the header are dropped with a mere warning.
    warnings.simplefilter("error", pd.errors.ParserWarning)
    data = formats.read_gzip(file, _ROW * (count + 1))
    commas = data.partition(b"\n")[0].count(b",")
    if commas >= _MAX_COLUMNS:
      raise ValueError(f"{commas + 1} columns")
    try:
      columns = pd.read_csv(
        io.BytesIO(data), encoding="utf-8-sig", nrows=0
      ).columns
      metrics = pd.read_csv(
        io.BytesIO(data),
        encoding="utf-8-sig",  # with or without a byte order mark
        index_col=False,
        dtype=dict.fromkeys((*_NAMES, *_STRINGS, CLASS_TO_OUTPUT), "str"),
        # Names stay as they are written: a run may be called "NA".
        keep_default_na=False,
        na_values={name: _MISSING for name in columns if name not in _NAMES},
        nrows=count + 1,
        low_memory=False,  # types from whole columns, not from parts of them
      )
    except pd.errors.ParserWarning as warning:
      raise ValueError(warning) from warning
  if len(metrics) > count:
    raise base.InputError(
      f"{file}: more than {count} rows, expected one per row of {WEIGHTS}"
    )
  # The index of a frame, which has no name.
  unnamed = [name for name in columns if str(name).startswith("Unnamed:")]
  for name in unnamed:
    index = np.asarray(pd.to_numeric(metrics[name], errors="coerce"))
    _check_order(index, f"{file}: column {name}")
  return _check_metrics(metrics.drop(columns=unnamed), count, str(file))


def _check_order(index: np.ndarray, source: str) -> None:
  """Raises InputError if the index of a frame says that it was sorted."""
  rows = np.arange(len(index))
  if not np.array_equal(index, rows) and np.array_equal(np.sort(index), rows):
    raise base.InputError(
      f"{source}: row 0 has the number {int(index[0])}: the frame was sorted"
      f" after its index was made, expected rows in the order of {WEIGHTS} with"
      " the index 0, 1, 2, ... or none"
    )


def _check_metrics(
  metrics: pd.DataFrame, count: int, source: str
) -> pd.DataFrame:
  """Metrics with `step` as int64; they need the index 0..N-1."""
  if not metrics.columns.is_unique:
    name = metrics.columns[metrics.columns.duplicated()][0]
    raise base.InputError(f"{source}: has {name} twice, expected one column")
  for name in _NEEDED:
    if name not in metrics.columns:
      raise base.InputError(
        f"{source}: has no column {name}, expected {', '.join(_NEEDED)}"
      )
  if len(metrics) != count:
    raise base.InputError(
      f"{source}: {len(metrics)} rows, expected {count}, one per row of"
      f" {WEIGHTS}"
    )
  for name in _NAMES:
    values = np.asarray(metrics[name])
    _check_values(
      [isinstance(value, str) and value != "" for value in values],
      values,
      f"{source}: {name}",
      "a name",
    )  # fmt: skip
  if CLASS_TO_OUTPUT in metrics:
    values = np.asarray(metrics[CLASS_TO_OUTPUT])
    missing = np.asarray(metrics[CLASS_TO_OUTPUT].isna()) | (values == "")
    _check_values(~missing, values, f"{source}: {CLASS_TO_OUTPUT}", "numbers")
  values = np.asarray(metrics["step"])
  steps = np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)
  # Whole numbers may come as 86.0.
  _check_values(
    np.isfinite(steps) & (steps == np.round(steps)) & (abs(steps) < 2**53),
    values, f"{source}: step", "an integer",
  )  # fmt: skip
  return metrics.assign(step=steps.astype(np.int64))


def _check_values(
  good: Sequence[bool] | np.ndarray,
  values: np.ndarray,
  source: str,
  expected: str,
) -> None:
  good = np.asarray(good, bool)
  if not good.all():
    row = int(np.argmin(good))
    raise base.InputError(
      f"{source}: row {row}: {str(values[row])!r}, expected {expected}"
    )


def _csv_gz(metrics: pd.DataFrame) -> bytes:
  text = metrics.to_csv(index=False, lineterminator="\n")
  buffer = io.BytesIO()
  # No file name and no time in the header: the bytes depend on metrics alone.
  with gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as file:
    file.write(text.encode())
  return buffer.getvalue()
