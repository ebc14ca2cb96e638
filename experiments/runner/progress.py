"""Progress of a run: bars on a terminal, lines of a log elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)

from experiments.runner import interrupt

console = Console()

EVERY = 30.0
"""Seconds between two lines about a phase that goes on, without a terminal."""


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[..., None]]:
  """The progress of a phase; yields `advance(note=None, count=1)`.

  `advance` is a safe point of the program: it may raise `Interrupted`.

  Args:
    label: name of the phase.
    total: number of steps.
  """
  if not console.is_terminal:
    with _logged(PhaseLog(label, total)) as log:

      def count_steps(note: str | None = None, count: int = 1) -> None:
        interrupt.check()
        log.advance(note, count)

      yield count_steps
    return
  with Progress(
    TextColumn("{task.description}"),
    BarColumn(bar_width=16),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}"),
    console=console,
    refresh_per_second=2,
  ) as progress:
    task = progress.add_task(f"{label:<22}", total=total, note="")

    def advance(note: str | None = None, count: int = 1) -> None:
      interrupt.check()
      fields: dict[str, Any] = {} if note is None else {"note": note}
      progress.update(task, advance=count, **fields)

    yield advance
    # A phase can end early: a cached zoo, a finished run.
    progress.update(task, completed=total)


@contextlib.contextmanager
def phase(label: str) -> Iterator[None]:
  """A phase without steps that can be counted; phases can be nested."""
  if console.is_terminal:
    console.print(label)
    yield
    return
  with _logged(PhaseLog(label)):
    yield


class PhaseLog:
  """The lines of a log about one phase.

  Attributes:
    total: number of steps; None if they cannot be counted.
    done: steps taken.
    note: the last note, such as an objective.
  """

  def __init__(
    self,
    label: str,
    total: int | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self.total, self.done, self.note = total, 0, ""
    self._label, self._clock = label, clock
    self._start = clock()
    self._first: tuple[float, int] | None = None

  def advance(self, note: str | None = None, count: int = 1) -> None:
    """Counts steps.

    Args:
      note: replaces the last note.
      count: steps since the last call. The ones of the first call may be from
        an earlier run.
    """
    self.done += count
    if note is not None:
      self.note = note
    if self._first is None:
      self._first = self._clock(), self.done

  def begins(self) -> str:
    """The line at the start."""
    return f"{self._label}: begins"

  def status(self) -> str:
    """The line in between: steps, note, rate and remaining time."""
    now = self._clock()
    parts = [f"{now - self._start:.0f} s"]
    if self.total is not None:
      parts.append(f"{self.done} of {self.total}")
    if self.note:
      parts.append(self.note)
    if self.total is not None and self._first is not None:
      since, before = self._first
      if self.done > before and now > since:
        rate = (self.done - before) / (now - since)
        left = duration(max(self.total - self.done, 0) / rate)
        parts.append(f"{rate:.3g} per second, about {left} left")
    return f"{self._label}: {', '.join(parts)}"

  def ends(self) -> str:
    """The line at the end."""
    note = f", {self.note}" if self.note else ""
    return f"{self._label}: {self._clock() - self._start:.1f} s{note}"


def duration(seconds: float) -> str:
  """A duration in the unit that suits it, such as "40 s" or "2.5 h"."""
  for form, size, most in (("{:.0f} s", 1, 120), ("{:.0f} min", 60, 120)):
    if seconds < most * size:
      return form.format(seconds / size)
  return f"{seconds / 3600:.1f} h"


_open: list[PhaseLog] = []
"""The phases that go on, the innermost last; it alone writes lines."""


@contextlib.contextmanager
def _logged(log: PhaseLog) -> Iterator[PhaseLog]:
  """Writes the lines of a log while the context lasts."""
  ended = threading.Event()

  def watch() -> None:
    while not ended.wait(EVERY):
      if _open[-1:] == [log]:
        _line(log.status())

  _open.append(log)
  _line(log.begins())
  # A thread: a single step can take minutes, most of all to compile.
  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield log
  finally:
    ended.set()
    thread.join()
    _open.remove(log)
  _line(log.ends())


def _line(text: str) -> None:
  console.print(text, soft_wrap=True, markup=False, highlight=False)
