"""The split of the public zoo that published results are compared on.

That of Zhou et al., "Permutation Equivariant Neural Functionals" (2023,
arXiv:2302.14040), which later papers read from the same file.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from scalegmn_jax.base import InputError
from scalegmn_jax.io import input_errors
from scalegmn_jax.zoo import split, store

STEP = 86
"""The last checkpoint of the public zoo's networks."""

_EXPECTED = "a CSV with the header 0 and a permutation of the zoo's rows"


def read_order(path: str | os.PathLike[str], count: int) -> np.ndarray:
  """The order of a zoo's rows: a permutation of 0..count-1.

  Raises:
    InputError: it is not.
  """
  path = Path(path).expanduser()
  with input_errors(path, _EXPECTED):
    header, *lines = path.read_text().split()
    order = np.array([int(line) for line in lines], np.int64)
    if header != "0":
      raise ValueError(f"its header is {header[:20]!r}")
    if len(order) != count:
      raise ValueError(f"{len(order)} rows for a zoo of {count}")
    if not np.array_equal(np.sort(order), np.arange(count)):
      raise ValueError("some row is in it twice")
  return order


def published_split(
  files: store.ZooFiles,
  path: str | os.PathLike[str],
  step: int | Literal["last"] = STEP,
  activations: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """40 % train, 10 % validation and 50 % test rows.

  Rows in the order of the file, of one step; the second half is for testing,
  the first is shuffled once more and cut 4 to 1. Networks of other activations
  are left out last: so a network is on the same side whether a zoo is read
  with one activation or with all.

  Some readers take the file's header for a row number, which puts row 0 in
  front of all others as well. That is another split only if row 0 is of the
  wanted step.

  Args:
    files: the zoo.
    path: of the file with the order of all rows.
    step: the checkpoint, or "last" of each run.
    activations: names in `config.activation`; None for all.

  Returns:
    (train, validation, test) rows.

  Raises:
    InputError: the file is not an order of these rows, or a side is empty.
  """
  order = read_order(path, len(files.weights))
  rows = order[np.isin(order, split.select(files, step))]
  half = int(0.5 * len(rows))
  shuffled = list(range(half))
  random.Random(0).shuffle(shuffled)  # the same in every version of Python
  first = rows[shuffled]
  cut = int(0.8 * half)
  wanted = split.select(files, step, activations)
  sides = first[:cut], first[cut:], rows[half:]
  train, val, test = (side[np.isin(side, wanted)] for side in sides)
  if not (len(train) and len(val) and len(test)):
    raise InputError(
      f"{path}: {len(train)}, {len(val)} and {len(test)} networks for "
      "training, validation and test, expected some of each"
    )
  split.check_disjoint(files, train, val, test)
  return train, val, test
