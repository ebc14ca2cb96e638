"""Time that a run spends on compilation."""

import time
from typing import TypedDict

import jax

_EVENTS = (
  "/jax/core/compile/jaxpr_trace_duration",
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  # Loading a cached program is reported under this name too.
  "/jax/core/compile/backend_compile_duration",
)


class Seconds(TypedDict):
  """Wall time of a run: in total, and spent on compilation."""

  total: float
  compiling: float


class Clock:
  """Measures the time from its creation to `stop`."""

  def __init__(self):
    # Not the wall clock of JAX, which may be set while the run goes on.
    self._start = time.monotonic()
    self._spans: list[tuple[float, float]] = []
    jax.monitoring.register_event_time_span_listener(self._note)

  def _note(
    self, event: str, start_time: float, end_time: float, **_: str | int
  ) -> None:
    if event in _EVENTS:
      end = time.monotonic()
      start = end - max(end_time - start_time, 0.0)
      self._spans.append((max(start, self._start), end))

  def stop(self) -> Seconds:
    """Ends the measurement and returns it."""
    jax.monitoring.unregister_event_time_span_listener(self._note)
    return {
      "total": time.monotonic() - self._start,
      "compiling": _covered(self._spans),
    }


def _covered(spans: list[tuple[float, float]]) -> float:
  """The length of a union of intervals.

  Events nest (a program is traced inside another one), and several threads may
  compile at the same time.
  """
  total, reached = 0.0, float("-inf")
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
