"""Progress bars and lines on the terminal."""

import contextlib
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


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[..., None]]:
  """A progress bar; yields `advance(note=None, count=1)`.

  `advance` is a safe point of the program: it may raise `Interrupted`.

  Args:
    label: name of the phase.
    total: number of steps.
  """
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
