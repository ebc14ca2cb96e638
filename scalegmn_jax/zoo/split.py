"""Rows of a zoo for training, validation and test."""

import hashlib
import logging
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from scalegmn_jax import base
from scalegmn_jax.zoo import published
from scalegmn_jax.zoo.store import (
  CLASS_TO_OUTPUT,
  METRICS,
  WEIGHTS,
  ZooFiles,
  bad_rows,
  check_rows,
  column,
  read_class_to_output,
)

_LOG = logging.getLogger(__name__)

HELD_OUT = ("labels", "image_set")
"""What networks of two sides of a split do not share, see `split_zoo`."""

Step = int | Literal["last"] | None
"""A checkpoint: its `step`, the last one of each run, or None for all."""


class Split(NamedTuple):
  """Rows of a zoo; no training run has rows on two sides.

  Attributes:
    train, val, test: row numbers, integers.
  """

  train: np.ndarray
  val: np.ndarray
  test: np.ndarray


def split_zoo(
  files: ZooFiles,
  *,
  activations: Sequence[str] | None = None,
  fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
  seed: int = 0,
  train_step: Step = None,
  eval_step: Step = "last",
  order_file: str | os.PathLike[str] = "",
  skip_bad: bool = False,
  image_sets: Sequence[int] = (),
) -> Split:
  """Splits a zoo by training run.

  All checkpoints of a run (`modeldir`) are on one side. Where networks differ
  in `class_to_output`, all runs with the same one are on one side, or, with
  `image_sets`, all runs of the same image set.

  Args:
    files: the zoo.
    activations: names in `config.activation`; None for all.
    fractions: shares of the runs for training, validation and test; they add
      up to 1.
    seed: decides the split, together with the set of runs; the order of the
      rows in the files does not.
    train_step: the checkpoints to train on.
    eval_step: the checkpoints to validate and test on.
    order_file: CSV with the published order of the rows. The rows of
      `eval_step` are then cut by `published.cut_order`, which replaces
      `fractions` and `seed`.
    skip_bad: leaves out rows with NaN or infinity, and says how many. They do
      not change the side of any other row.
    image_sets: the number of classes of each image set, see `images.Images`;
      networks of an image set are on one side, and `fractions` are shares of
      the image sets that networks have. Empty for a split by labels.

  Returns:
    Ascending rows. With `order_file` they are in the published order, except
    training rows of another step than `eval_step`.

  Raises:
    InputError: no rows of these steps and activations, fractions that do not
      add up to 1, a broken `order_file`, an empty side, or networks that do not
      have the classes of one of `image_sets`.
  """
  train_rows = select_rows(files, train_step, activations)
  eval_rows = select_rows(files, eval_step, activations)
  if order_file:
    # All activations are cut together: a network is on the same side whether
    # the zoo is read with one activation or with all.
    order = published.read_order(order_file, len(files.weights))
    order = order[np.isin(order, select_rows(files, eval_step))]
    sides = published.cut_order(order)
    if train_step != eval_step:
      runs = column(files, "modeldir")
      sides = (np.flatnonzero(np.isin(runs, runs[sides[0]])), *sides[1:])
    source, fractions = str(order_file), (0.4, 0.1, 0.5)
  else:
    rows = np.union1d(train_rows, eval_rows)
    groups = _groups(files, rows, image_sets)
    sides = _split_by_hash(files, rows, groups, fractions, seed)
    source = str(files.path / METRICS)
  step_rows = train_rows, eval_rows, eval_rows
  split = Split(
    *(
      side[np.isin(side, rows)]
      for side, rows in zip(sides, step_rows, strict=True)
    )
  )
  if skip_bad:
    bad = _bad_rows(files, np.unique(np.concatenate(split)))
    split = Split(*(side[~np.isin(side, bad)] for side in split))
  if any(f > 0 and not len(s) for f, s in zip(fractions, split, strict=True)):
    raise base.InputError(
      f"{source}: {', '.join(str(len(side)) for side in split)} networks for "
      "training, validation and test, expected some of each"
    )
  check_disjoint(files, *split)
  return split


def select_rows(
  files: ZooFiles,
  step: Step = None,
  activations: Sequence[str] | None = None,
  skip_bad: bool = False,
) -> np.ndarray:
  """Rows of one checkpoint step and of some activations, ascending.

  Args:
    files: the zoo.
    step: None for all rows, an integer for the rows with this `step`, or "last"
      for the row with the greatest `step` of each `modeldir`.
    activations: names in `config.activation`; None for all.
    skip_bad: leaves out rows with NaN or infinity, and says how many. A run
      whose last row is one has no row for "last".

  Returns:
    Integers, at least one.

  Raises:
    InputError: no such row; the message says what the file has.
  """
  keep = np.ones(len(files.metrics), bool)
  if isinstance(step, str):
    if step != "last":
      raise base.InputError(
        f"step {step!r}: expected None, an integer or 'last'"
      )
    steps = files.metrics.groupby("modeldir", sort=False)["step"]
    keep[:] = False
    keep[steps.idxmax().to_numpy()] = True
  elif step is not None:
    keep &= column(files, "step") == step
  if activations is not None:
    if isinstance(activations, str):  # a string would match by its letters
      raise base.InputError(
        f"activations {activations!r}: expected a tuple of names"
      )
    names = column(files, "config.activation")
    keep &= np.array([name in activations for name in names])
  if not keep.any():
    raise base.InputError(
      f"{files.path / METRICS}: no row with step {step} and activations"
      f" {activations}, expected steps of {_list_values(files, 'step')} and"
      f" activations of {_list_values(files, 'config.activation')}"
    )
  rows = np.flatnonzero(keep)
  if skip_bad:
    rows = rows[~np.isin(rows, _bad_rows(files, rows))]
  if not len(rows):
    raise base.InputError(
      f"{files.path / WEIGHTS}: all {keep.sum()} rows hold NaN or infinity"
    )
  return rows


def _bad_rows(files: ZooFiles, rows: np.ndarray) -> np.ndarray:
  """The rows that are skipped; a line on the log counts them."""
  bad = bad_rows(files, rows)
  if len(bad):
    _LOG.warning(
      "%s: %d of %d rows are skipped, they hold NaN or infinity",
      files.path / WEIGHTS, len(bad), len(rows),
    )  # fmt: skip
  return bad


def check_disjoint(files: ZooFiles, *sides: np.ndarray) -> None:
  """Raises InputError if two of these row arrays share a training run."""
  names = column(files, "modeldir")
  seen: dict[str, int] = {}
  for side, rows in enumerate(sides):
    for run in set(names[check_rows(files, rows)]):
      if seen.setdefault(run, side) != side:
        raise base.InputError(
          f"{files.path / METRICS}: modeldir {run!r} is on sides {seen[run]}"
          f" and {side} of a split, expected on one only"
        )


def _groups(
  files: ZooFiles, rows: np.ndarray, image_sets: Sequence[int]
) -> np.ndarray:
  """[len(rows)] names; rows of the same name are on one side of a split."""
  names = column(files, "modeldir")[rows]
  if image_sets:
    return _image_sets(files, rows, image_sets)
  if CLASS_TO_OUTPUT in files.metrics:
    labels = column(files, CLASS_TO_OUTPUT)[rows]
    names = labels if len(set(labels)) > 1 else names
  return names


def _image_sets(
  files: ZooFiles, rows: np.ndarray, image_sets: Sequence[int]
) -> np.ndarray:
  """[len(rows)] numbers of image sets, as text."""
  owner = np.repeat(np.arange(len(image_sets)), image_sets)
  classes = read_class_to_output(files, rows)
  where = f"{files.path / METRICS}: {CLASS_TO_OUTPUT}"
  if classes is None or classes.shape[1] != len(owner):
    found = "missing" if classes is None else f"of {classes.shape[1]} classes"
    raise base.InputError(
      f"{where} is {found}, expected the {len(owner)} classes of "
      f"{len(image_sets)} image sets"
    )
  of_set = [
    (classes[:, owner == i] >= 0).any(1) for i in range(len(image_sets))
  ]
  several = np.sum(of_set, 0) > 1
  if several.any():
    raise base.InputError(
      f"{where}: row {rows[np.argmax(several)]} has outputs for classes of "
      "several image sets, expected one"
    )
  return np.argmax(of_set, 0).astype(str)


def _split_by_hash(
  files: ZooFiles,
  rows: np.ndarray,
  groups: np.ndarray,
  fractions: tuple[float, float, float],
  seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(train, validation, test) rows, each in the order of `rows`."""
  if (
    len(fractions) != 3
    or any(not fraction >= 0 for fraction in fractions)
    or not abs(sum(fractions) - 1) < 1e-6
  ):
    raise base.InputError(
      f"fractions {fractions}: expected three of 0 or more that add up to 1"
    )
  # Ranked by a hash, not by numpy's generator: the same in every version.
  runs = sorted(
    set(groups),
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
  side_of_run = dict(zip(runs, np.repeat(np.arange(3), counts), strict=True))
  side = np.array([side_of_run[name] for name in groups], np.int64)
  return rows[side == 0], rows[side == 1], rows[side == 2]


def _list_values(files: ZooFiles, name: str) -> str:
  """The values of a column as text, the first few of many."""
  values = sorted(set(column(files, name).tolist()))
  text = ", ".join(repr(value) for value in values[:20])
  return text + ", ..." * (len(values) > 20)
