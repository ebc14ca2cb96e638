"""SIGTERM and SIGINT end a program at its next safe point.

The handlers only note the signal: an exception out of a handler can be raised
anywhere, also where it is swallowed. Long loops call `check` where nothing is
lost if they end. Processes that compute together end at the same `check`, see
`share`.
"""

import contextlib
import signal
from collections.abc import Iterator

EXIT = 75
"""Exit status of a program that goes on if it is started again; EX_TEMPFAIL of
sysexits.h."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: list[str] = []


def note() -> None:
  """From now on the first signal is noted; a second one ends the program."""
  for number in _SIGNALS:
    signal.signal(number, _note)


def _note(number: int, _) -> None:
  _received.append(signal.Signals(number).name)
  for each in _SIGNALS:
    signal.signal(each, signal.SIG_DFL)


@contextlib.contextmanager
def noted() -> Iterator[None]:
  """Notes signals within the context only, see `note`."""
  before = {number: signal.getsignal(number) for number in _SIGNALS}
  if not _received:
    note()
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _received.clear()


def share() -> None:
  """Makes a signal to one process end all that compute together.

  To be called after `processes.connect`: SIGTERM then belongs to JAX, which
  tells the other processes; SIGINT is passed on as SIGTERM.
  """
  signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
  if _received:  # before the connection
    signal.raise_signal(signal.SIGTERM)


def check() -> None:
  """Raises `Interrupted` if a signal has been noted.

  Processes that compute together have to call this equally often.
  """
  # Here, since a program notes signals before it imports what takes seconds.
  from scalegmn_jax import processes
  from scalegmn_jax.base import Interrupted

  if processes.count() > 1:
    if processes.stop_requested():
      raise Interrupted("stopped by SIGTERM")
  elif _received:
    raise Interrupted(f"stopped by {_received[0]}")
