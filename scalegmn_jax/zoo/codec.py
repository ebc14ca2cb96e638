"""Rows of zoo files as weights of a target network, and back."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from scalegmn_jax.base import InputError, Networks, TargetNetwork, Weights
from scalegmn_jax.data.formats import read_at_most, read_npy
from scalegmn_jax.io import input_errors
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import store
from scalegmn_jax.zoo.layout import Layout

_LIMIT = 1 << 24  # bytes of a description


def layout_of(target: TargetNetwork) -> Layout:
  """The columns of a target's networks: the leaves of the weights in order.

  A chain of dense and convolutional layers has the names of the Small CNN Zoo
  (sequential/conv2d_1/kernel:0), other targets have the paths in their pytree
  (encoder/kernel).
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  leaves = specs.leaves(target.spec, shapes)
  names = [name or "weights" for name, _, _ in leaves]
  if _is_chain(shapes):
    names = _keras_names(shapes)
  return Layout.from_shapes(names, [shape.shape for _, shape, _ in leaves])


def _is_chain(shapes: Weights) -> bool:
  """Whether weights are a sequence of dense and convolutional layers."""
  return isinstance(shapes, tuple | list) and all(
    isinstance(layer, Mapping)
    and set(layer) == {"bias", "kernel"}
    and len(getattr(layer["kernel"], "shape", ())) in (2, 4)
    and hasattr(layer["bias"], "shape")
    for layer in shapes
  )


def _keras_names(layers: Sequence[Mapping[str, Any]]) -> list[str]:
  names, counts = [], {}
  for layer in layers:
    kind = "conv2d" if layer["kernel"].ndim == 4 else "dense"
    number = counts.get(kind, 0)
    counts[kind] = number + 1
    stem = f"sequential/{kind}" + (f"_{number}" if number else "")
    names += [f"{stem}/{weight}:0" for weight in sorted(layer)]
  return names


def check_layout(target: TargetNetwork, files: store.ZooFiles) -> np.ndarray:
  """Finds the weights of this target in the rows of a zoo.

  Returns:
    The columns of the zoo in the order of `layout_of(target)`.

  Raises:
    InputError: networks of another target, or names in the layout that do not
      decide, see `Layout.matched`.
  """
  try:
    return files.layout.columns(files.layout.matched(layout_of(target)))
  except InputError as error:
    raise InputError(f"{files.path / store.LAYOUT}: {error}") from None


def read_rows(
  target: TargetNetwork, files: store.ZooFiles, rows: np.ndarray
) -> np.ndarray:
  """Reads networks of a zoo: [B, D] float32 in the order of `layout_of`.

  Args:
    target: the architecture.
    files: the zoo.
    rows: [B] row numbers, in the order of the result.

  Raises:
    InputError: see `check_layout`.
  """
  columns = check_layout(target, files)
  weights = store.read_rows(files, rows)
  in_order = np.array_equal(columns, np.arange(len(columns)))
  return weights if in_order else weights[:, columns]


def to_weights(target: TargetNetwork, rows: np.ndarray | jax.Array) -> Weights:
  """Rows [B, D], see `layout_of`, as weights with leaves [B, ...].

  On a CPU they may share the memory of a single row.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  leaves, structure = jax.tree.flatten(shapes)
  ends = np.cumsum([leaf.size for leaf in leaves])
  # By slices: rows may be traced.
  parts = [
    rows[:, end - leaf.size : end]
    for end, leaf in zip(ends, leaves, strict=True)
  ]
  # `jnp.asarray` would compile a program per shape.
  return jax.device_put(
    jax.tree.unflatten(
      structure,
      [
        part.reshape(-1, *leaf.shape)
        for part, leaf in zip(parts, leaves, strict=True)
      ],
    )
  )


def to_rows(weights: Weights) -> np.ndarray:
  """Weights with leaves [B, ...] as rows [B, D] float32."""
  return np.concatenate(
    [np.asarray(w).reshape(w.shape[0], -1) for w in jax.tree.leaves(weights)],
    axis=1,
  ).astype(np.float32)


def read_activations(
  target: TargetNetwork, files: store.ZooFiles, rows: np.ndarray
) -> np.ndarray:
  """The activation of each network: [B] int32, indices into the target's.

  Args:
    target: the architecture.
    files: the zoo.
    rows: [B] row numbers.

  Raises:
    InputError: an activation that the target does not have.
  """
  names = store.column(files, "config.activation")[rows]
  unknown = ~np.isin(names, target.activations)
  if unknown.any():
    row = rows[unknown.argmax()]
    raise InputError(
      f"{files.path / store.METRICS}: row {row} has activation "
      f"{names[unknown.argmax()]!r}, expected one of "
      f"{', '.join(target.activations)}"
    )
  return np.array([target.activations.index(name) for name in names], np.int32)


def load_networks(
  target: TargetNetwork, files: store.ZooFiles, rows: np.ndarray
) -> Networks:
  """Loads networks of a zoo into memory.

  Args:
    target: the architecture.
    files: the zoo.
    rows: [B] row numbers, in the order of the result.

  Raises:
    InputError: another architecture or activation, weights that are not
      finite, or a broken `class_to_output`.
  """
  check_layout(target, files)
  store.check_finite(files, rows)
  classes = store.read_class_to_output(
    files, rows, specs.output_size(target.spec)
  )
  return Networks(
    to_weights(target, read_rows(target, files, rows)),
    jax.device_put(read_activations(target, files, rows)),
    None if classes is None else jax.device_put(classes),
  )


def read_npy_row(path: str | Path, target: TargetNetwork) -> np.ndarray:
  """Reads one network from a .npy file, as a row of a zoo: [1, D].

  Raises:
    InputError: no such file, or anything but the D weights of one network.
  """
  size = layout_of(target).size
  path = Path(path).expanduser()
  row = read_npy(path)
  if row.size != size or not np.issubdtype(row.dtype, np.floating):
    raise InputError(
      f"{path}: {row.size} values of {row.dtype}; expected a .npy file of "
      f"{size} numbers, one network"
    )
  with np.errstate(over="ignore"):
    finite = np.isfinite(row.astype(np.float32)).all()
  if not finite:
    raise InputError(
      f"{path}: holds NaN or infinity in float32; expected finite weights"
    )
  # A copy in memory, in the byte order of the machine.
  return np.array(row, row.dtype.newbyteorder("=")).reshape(1, -1)


def read_metric(
  files: store.ZooFiles, rows: np.ndarray, column: str = "test_accuracy"
) -> np.ndarray:
  """Reads a metric of networks in [0, 1], such as accuracy: [B] float32.

  Args:
    files: the zoo.
    rows: [B] row numbers.
    column: name of the metric.

  Raises:
    InputError: no such column, or a value that is not in [0, 1].
  """
  where = f"{files.path / store.METRICS}: {column}"
  if column not in files.metrics.columns:
    raise InputError(f"{where}: no such column, expected one with values")
  values = np.asarray(
    pd.to_numeric(files.metrics[column].iloc[rows], errors="coerce"), np.float32
  )
  bad = ~((values >= 0) & (values <= 1))
  if bad.any():
    first = bad.argmax()
    raise InputError(
      f"{where}: row {rows[first]} ({bad.sum()} of {len(rows)} rows) has "
      f"{files.metrics[column].iloc[rows[first]]!r}, expected 0 to 1"
    )
  return values


def write_networks(
  path: str | os.PathLike[str],
  target: TargetNetwork,
  weights: Weights,
  metrics: pd.DataFrame,
) -> None:
  """Writes networks as a zoo, with the description of their target.

  Args:
    path: the folder: absent or empty.
    target: the architecture.
    weights: leaves [B, ...].
    metrics: B rows, see `store.write_zoo`.

  Raises:
    InputError: see `store.write_zoo`.
  """
  store.write_zoo(
    path, to_rows(weights), metrics, layout_of(target), target.description
  )


def read_target(folder: str | os.PathLike[str]) -> TargetNetwork:
  """The target of the networks of a zoo, from its description.

  Raises:
    InputError: the zoo has no description, or one that makes no target.
  """
  file = Path(folder).expanduser() / store.TARGET
  with input_errors(file, "the description of a target network"):
    with file.open("rb") as opened:
      description = json.loads(read_at_most(opened, _LIMIT))
    if not isinstance(description, dict):
      raise ValueError(f"{type(description).__name__}, not an object")
  try:
    return make_target(description)
  except InputError as error:
    raise InputError(f"{file}: {error}") from None
