"""The order and split of the public zoo with which published results compare.

Source: Zhou et al., "Permutation Equivariant Neural Functionals" (2023,
arXiv:2302.14040). Later papers read the same file.
"""

import os
import random
from pathlib import Path

import numpy as np

from scalegmn_jax.data.formats import read_at_most
from scalegmn_jax.io import input_errors

_ROW = 32  # bytes of a line, at most
_EXPECTED = "a CSV with the header 0 and a permutation of the zoo's rows"


def read_order(path: str | os.PathLike[str], count: int) -> np.ndarray:
  """Reads the published order of a zoo's rows.

  Some readers take the header for a row number, which repeats row 0 at the
  front. The split differs only if row 0 belongs to the step that is split.

  Args:
    path: CSV with the header 0 and one row number per line.
    count: number of rows of the zoo.

  Returns:
    A permutation of 0..count-1.

  Raises:
    InputError: the file holds anything else.
  """
  path = Path(path).expanduser()
  with input_errors(path, _EXPECTED):
    with path.open("rb") as file:
      text = read_at_most(file, _ROW * (count + 1)).decode("utf-8-sig")
    header, *lines = text.split()
    order = np.array([int(line) for line in lines], np.int64)
    if header != "0":
      raise ValueError(f"its header is {header[:20]!r}")
    if len(order) != count:
      raise ValueError(f"{len(order)} rows for a zoo of {count}")
    if not np.array_equal(np.sort(order), np.arange(count)):
      raise ValueError("a row is in it twice")
  return order


def cut_order(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cuts ordered rows into 40 % train, 10 % validation and 50 % test.

  The second half is the test set. The first half is shuffled once more and cut
  4 to 1.
  """
  half = int(0.5 * len(rows))
  shuffled = list(range(half))
  random.Random(0).shuffle(shuffled)  # the same in every version of Python
  first = rows[shuffled]
  cut = int(0.8 * half)
  return first[:cut], first[cut:], rows[half:]
