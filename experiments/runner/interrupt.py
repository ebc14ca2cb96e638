"""SIGTERM and SIGINT end a program at its next safe point.

The handlers only note the signal: an exception out of a handler can be raised
anywhere, also where it is swallowed. Long loops call `check` where nothing is
lost if they end.
"""

import contextlib
import signal
from collections.abc import Iterator

from scalegmn_jax.base import Interrupted

EXIT = 75
"""Exit status of a program that goes on if it is started again; EX_TEMPFAIL of
sysexits.h."""

_received: list[str] = []


@contextlib.contextmanager
def noted() -> Iterator[None]:
  """Within the context the first signal is noted; a second one ends at once."""
  before = {}

  def note(number: int, _) -> None:
    _received.append(signal.Signals(number).name)
    for each in before:
      signal.signal(each, signal.SIG_DFL)

  for number in (signal.SIGTERM, signal.SIGINT):
    before[number] = signal.signal(number, note)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _received.clear()


def check() -> None:
  """Raises `Interrupted` if a signal has been noted."""
  if _received:
    raise Interrupted(f"stopped by {_received[0]}")
