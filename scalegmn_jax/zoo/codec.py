"""Rows of a zoo's files as weights of a target network, and back."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, Networks, TargetNetwork, Weights
from scalegmn_jax.io import input_errors
from scalegmn_jax.symmetry.spec import output_size
from scalegmn_jax.zoo import store
from scalegmn_jax.zoo.layout import Layout


def layout_of(target: TargetNetwork) -> Layout:
  """The columns of a target's networks: its leaves in order, named as in the
  Small CNN Zoo (sequential/conv2d_1/kernel:0)."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  names, counts = [], {}
  for layer in shapes:
    kind = "conv2d" if layer["kernel"].ndim == 4 else "dense"
    number = counts.get(kind, 0)
    counts[kind] = number + 1
    stem = f"sequential/{kind}" + (f"_{number}" if number else "")
    names += [f"{stem}/{weight}:0" for weight in layer]
  leaves = jax.tree.leaves(shapes)
  return Layout.from_shapes(names, [leaf.shape for leaf in leaves])


def check_layout(target: TargetNetwork, files: store.ZooFiles) -> None:
  """Raises InputError unless the files hold networks of this target."""
  expected = [e.shape for e in layout_of(target).entries]
  found = [e.shape for e in files.layout.entries]
  if found != expected:
    raise InputError(
      f"{files.path / store.LAYOUT}: networks of weights {found}, expected "
      f"those of the target network, {expected}"
    )


def to_weights(target: TargetNetwork, rows: np.ndarray) -> Weights:
  """Rows [B, D] as a pytree with leaves [B, ...]."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  leaves, structure = jax.tree.flatten(shapes)
  ends = np.cumsum([leaf.size for leaf in leaves])
  parts = np.split(rows, ends[:-1], axis=1)
  return jax.tree.unflatten(
    structure,
    [
      jnp.asarray(part.reshape(-1, *leaf.shape))
      for part, leaf in zip(parts, leaves, strict=True)
    ],
  )


def to_rows(weights: Weights) -> np.ndarray:
  """Inverse of `to_weights`: [B, D] float32."""
  return np.concatenate(
    [np.asarray(w).reshape(w.shape[0], -1) for w in jax.tree.leaves(weights)],
    axis=1,
  ).astype(np.float32)


def load_networks(
  target: TargetNetwork, files: store.ZooFiles, rows: np.ndarray
) -> Networks:
  """Networks of a zoo in memory.

  Raises:
    InputError: networks of another architecture or activation, or weights
      that are not finite.
  """
  check_layout(target, files)
  store.check_finite(files, rows)
  names = files.metrics["config.activation"].to_numpy()[rows]
  unknown = ~np.isin(names, target.activations)
  if unknown.any():
    row = rows[unknown.argmax()]
    raise InputError(
      f"{files.path / store.METRICS}: row {row} has activation "
      f"{names[unknown.argmax()]!r}, expected one of "
      f"{', '.join(target.activations)}"
    )
  index = [target.activations.index(name) for name in names]
  return Networks(
    to_weights(target, store.read_rows(files, rows)),
    jnp.array(index, jnp.int32),
    _tasks(files, rows, output_size(target.spec)),
  )


def task_text(classes: np.ndarray) -> str:
  """One network's task [K] as an entry of the files."""
  return " ".join(map(str, classes.tolist()))


def _tasks(
  files: store.ZooFiles, rows: np.ndarray, outputs: int
) -> jax.Array | None:
  """[len(rows), K] int32, of networks that have tasks."""
  if store.CLASS_TO_OUTPUT not in files.metrics:
    return None
  texts = files.metrics[store.CLASS_TO_OUTPUT].to_numpy()[rows]
  found = {}
  length = None
  for row, text in zip(rows, texts, strict=True):
    if text in found:
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
      or classes.max() >= outputs
    ):
      raise InputError(
        f"{files.path / store.METRICS}: row {row}: {store.CLASS_TO_OUTPUT} is {text!r}, "
        f"expected the output of each class: numbers below {outputs}, not all "
        "of them -1, as many in every row"
      )
    found[text] = classes
  return jnp.array([found[text] for text in texts])


def read_npy_row(path: str | Path, target: TargetNetwork) -> np.ndarray:
  """One network from a .npy file, a row of a zoo's weights: [1, D].

  Raises:
    InputError: there is no such file, or it holds something else.
  """
  size = layout_of(target).size
  expected = f"a .npy file of {size} numbers, one network"
  with input_errors(path, expected):
    row = np.load(Path(path).expanduser(), allow_pickle=False)
    if row.size != size or not np.isfinite(row).all():
      raise InputError(f"{path}: {row.size} numbers; expected {expected}")
  return row.reshape(1, -1)


def read_metric(
  files: store.ZooFiles, rows: np.ndarray, column: str = "test_accuracy"
) -> np.ndarray:
  """A measure of networks, such as their accuracy: [len(rows)] float32.

  Raises:
    InputError: the zoo has no such column, or a value is not in [0, 1].
  """
  where = f"{files.path / store.METRICS}: {column}"
  if column not in files.metrics.columns:
    raise InputError(f"{where}: no such column, expected one with values")
  found = np.asarray(
    pd.to_numeric(files.metrics[column].iloc[rows], errors="coerce"), np.float32
  )
  bad = ~((found >= 0) & (found <= 1))
  if bad.any():
    first = bad.argmax()
    raise InputError(
      f"{where}: row {rows[first]} ({bad.sum()} of {len(rows)} rows) has "
      f"{files.metrics[column].iloc[rows[first]]!r}, expected 0 to 1"
    )
  return found


def write_networks(
  path,
  target: TargetNetwork,
  weights: Weights,
  metrics: pd.DataFrame,
) -> None:
  """Writes stacked weights [B, ...] and their metrics (B rows) as a zoo.

  Raises:
    InputError: there is something at `path` already.
  """
  store.write_zoo(path, to_rows(weights), metrics, layout_of(target))
