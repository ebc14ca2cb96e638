"""Partial results of long computations, on disk as soon as they are known.

Of several processes that compute together, process 0 alone writes and reads;
the others get from it what it has read.
"""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from scalegmn_jax import io, processes
from scalegmn_jax.base import InputError, Interrupted

Record = TypeVar("Record", bound=Any)

EVERY = 20.0
"""Seconds between two saves of a state that changes all the time."""


class Result(NamedTuple):
  """A result that can be saved.

  Attributes:
    arrays: {name: array of numbers or strings}.
    values: JSON values.
  """

  arrays: Mapping[str, np.ndarray] = {}
  values: Any = None


class Partial:
  """Partial results of one computation, in a folder.

  After a kill the same computation finds them and goes on. Each file carries a
  digest; a damaged file is set aside and its result is computed again.
  """

  def __init__(
    self, folder: Path | None = None, check: Callable[[], Any] = lambda: None
  ):
    """Makes no folder until something is saved.

    Args:
      folder: for the results of this computation alone; None to keep nothing.
      check: called at every safe point; may raise `Interrupted`.
    """
    self._folder, self.check = folder, check
    self._saved = time.monotonic()

  def of(self, name: str) -> "Partial":
    """The partial results of a part of the computation."""
    folder = None if self._folder is None else self._folder / _file_name(name)
    return Partial(folder, self.check)

  def exists(self) -> bool:
    """Whether something has been saved."""
    folder = self._folder
    return folder is not None and processes.first(folder.exists)

  def load(self, name: str) -> Result | None:
    """A saved result; None if there is none, or a damaged one."""
    file = self._file(name)
    if file is None:
      return None

    def read() -> bytes | None:
      return file.read_bytes() if file.exists() else None

    content = processes.first(read)
    if content is None:
      return None
    try:
      return Result(*io.read_arrays(content, file))
    except InputError as error:
      reason = str(error).removeprefix(f"{file}: ")
      io.set_aside(file, reason, "it is made again")
      return None

  def save(self, name: str, result: Result) -> None:
    """Saves a result, in place of an earlier one of that name."""
    file = self._file(name)
    if file is not None:
      file.parent.mkdir(parents=True, exist_ok=True)
      io.write_arrays(file, *result)
    self._saved = time.monotonic()

  def safe_point(self, name: str, result: Callable[[], Result]) -> None:
    """Saves a state that changes all the time, now and then.

    Raises:
      Interrupted: `check` raised it; the state is saved.
    """
    try:
      self.check()
    except Interrupted:
      self.save(name, result())
      raise
    if time.monotonic() - self._saved >= EVERY:
      self.save(name, result())

  def remember(
    self, name: str, compute: Callable[["Partial"], Result]
  ) -> Result:
    """A result as it was saved; otherwise computes and saves it.

    Args:
      name: of the result; the same name means the same result.
      compute: partial results of this computation -> result. They are deleted
        when it is saved.
    """
    found = self.load(name)
    if found is not None:
      return found
    self.check()
    part = self.of(name)
    result = compute(part)
    self.save(name, result)
    part.clear()
    return result

  def remember_record(
    self,
    name: str,
    kind: Callable[..., Record],
    compute: Callable[[], Record | None],
  ) -> Record | None:
    """Like `remember`, for a NamedTuple or None.

    Args:
      name: of the result.
      kind: the class. Fields are arrays, {name: array}, or JSON values.
      compute: () -> the record.
    """

    def result(_: Partial) -> Result:
      record = compute()
      if record is None:
        return Result()
      arrays, values = {}, {}
      for field, value in record._asdict().items():
        if isinstance(value, np.ndarray):
          arrays[field] = value
        elif isinstance(value, Mapping):
          arrays |= {f"{field}/{key}": array for key, array in value.items()}
        else:
          values[field] = value
      return Result(arrays, values)

    arrays, values = self.remember(name, result)
    if values is None:
      return None
    fields = dict(values)
    for key, array in arrays.items():
      field, _, rest = key.partition("/")
      if rest:
        fields.setdefault(field, {})[rest] = array
      else:
        fields[field] = array
    return kind(**fields)

  def remember_row(
    self, name: str, compute: Callable[[], dict[str, Any]]
  ) -> dict[str, Any]:
    """Like `remember`, for a dict of JSON values, such as a row of a table."""
    return self.remember(name, lambda _: Result({}, compute())).values

  def clear(self) -> None:
    """Deletes everything that was saved."""
    if self._folder is not None:
      io.remove(self._folder)

  def _file(self, name: str) -> Path | None:
    if self._folder is None:
      return None
    return self._folder / f"{_file_name(name)}.npz"


NOTHING = Partial()
"""Keeps nothing."""


def _file_name(name: str) -> str:
  return re.sub(r"[^A-Za-z0-9_.]+", "-", name)
