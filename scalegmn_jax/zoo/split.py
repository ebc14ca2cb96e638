"""Which networks of a zoo are for training, validation and test."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from scalegmn_jax import base
from scalegmn_jax.zoo.store import (
  METRICS,
  TASK,
  ZooFiles,
  _column,
  _listed,
  _rows,
)


def check_disjoint(files: ZooFiles, *sides: np.ndarray) -> None:
  """Raises InputError if two of these row arrays share a training run."""
  names = _column(files.metrics, "modeldir")
  seen: dict[str, int] = {}
  for side, rows in enumerate(sides):
    for run in set(names[_rows(files, rows)]):
      if seen.setdefault(run, side) != side:
        raise base.InputError(
          f"{files.path / METRICS}: modeldir {run!r} is on sides {seen[run]}"
          f" and {side} of a split, expected on one only"
        )


def split(
  files: ZooFiles,
  rows: np.ndarray,
  fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Splits rows by training run into train, validation and test.

  All checkpoints of a `modeldir` land on one side; in a zoo of several tasks,
  all runs of a task. The side depends on the set of runs and on `seed` alone,
  not on the order of the rows.

  Args:
    files: the zoo.
    rows: the rows to split.
    fractions: of the runs; they add up to 1.
    seed: another one gives another split.

  Returns:
    (train, validation, test) rows, each in the order that `rows` had.

  Raises:
    InputError: fractions that do not add up to 1, or fewer runs than needed to
      leave none of the wanted sides empty.
  """
  if (
    len(fractions) != 3
    or any(not fraction >= 0 for fraction in fractions)
    or not abs(sum(fractions) - 1) < 1e-6
  ):
    raise base.InputError(
      f"fractions {fractions}: expected three of 0 or more that add up to 1"
    )
  rows = _rows(files, rows)
  names = _column(files.metrics, "modeldir")[rows]
  if TASK in files.metrics:
    tasks = _column(files.metrics, TASK)[rows]
    names = tasks if len(set(tasks)) > 1 else names
  # Ranked by a hash, not by numpy's generator: the same in every version.
  runs = sorted(
    set(names),
    key=lambda run: hashlib.sha256(f"{seed}/{run}".encode()).digest(),
  )
  ends = [
    round(len(runs) * fractions[0]),
    round(len(runs) * (fractions[0] + fractions[1])),
    len(runs),
  ]
  counts = np.diff([0, *ends])
  if any(f > 0 and n < 1 for f, n in zip(fractions, counts, strict=True)):
    raise base.InputError(
      f"{files.path / METRICS}: {len(runs)} runs split by {fractions} would"
      " leave a side empty, expected more runs"
    )
  sides = dict(zip(runs, np.repeat(np.arange(3), counts), strict=True))
  side = np.array([sides[name] for name in names], np.int64)
  train, val, test = (rows[side == i] for i in range(3))
  check_disjoint(files, train, val, test)
  return train, val, test


def select(
  files: ZooFiles,
  step: int | Literal["last"] | None = None,
  activations: Sequence[str] | None = None,
) -> np.ndarray:
  """Rows of one checkpoint step and of some activations, ascending.

  Args:
    files: the zoo.
    step: None for all rows, an integer for those of this `step`, or "last" for
      the row of greatest `step` of each `modeldir`.
    activations: names in `config.activation`; None for all.

  Returns:
    Integers, at least one.

  Raises:
    InputError: no such row; the message says what the file has.
  """
  metrics = files.metrics
  file = files.path / METRICS
  keep = np.ones(len(metrics), bool)
  if isinstance(step, str):
    if step != "last":
      raise base.InputError(
        f"step {step!r}: expected None, an integer or 'last'"
      )
    last = metrics.groupby("modeldir", sort=False)["step"].idxmax().to_numpy()
    keep[:] = False
    keep[last] = True
  elif step is not None:
    keep &= _column(metrics, "step") == step
  if activations is not None:
    if isinstance(activations, str):  # else its letters would be looked for
      raise base.InputError(
        f"activations {activations!r}: expected a tuple of names"
      )
    names = _column(metrics, "config.activation")
    keep &= np.array([name in activations for name in names])
  if not keep.any():
    raise base.InputError(
      f"{file}: no row with step {step} and activations {activations},"
      f" expected steps of {_listed(_column(metrics, 'step'))} and activations"
      f" of {_listed(_column(metrics, 'config.activation'))}"
    )
  return np.flatnonzero(keep)
