"""Compiled programs: kept between runs, and the time that they take."""

import os
import tempfile
import time
import warnings
from typing import TypedDict

import jax

from experiments.runner import progress
from scalegmn_jax.data import download

# Of the 150 programs of configs/cnn.py:tiny, 24 take longer to compile than
# this. With those kept it takes 16 s, with all of them 13 s, and without any
# 68 s (2 CPU cores, not idle).
_LEAST_SECONDS = 0.1

_EVENTS = (
  "/jax/core/compile/jaxpr_trace_duration",
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  # Loading a kept program is reported under this name as well.
  "/jax/core/compile/backend_compile_duration",
)


class Seconds(TypedDict):
  """Wall time of this process: all of it, and what went into compiling."""

  total: float
  compiling: float


def keep() -> None:
  """Keeps compiled programs in the user's cache folder, for the next run.

  Nothing changes where the user has chosen a folder (JAX_COMPILATION_CACHE_DIR)
  or wants none (JAX_ENABLE_COMPILATION_CACHE=false). A folder that cannot be
  written is one line; the run goes on and compiles everything. JAX's key of a
  program has the instructions of the processor in it, so that hosts of several
  kinds can share a folder. JAX could bound the size of the folder only with a
  package that it does not depend on; a config adds a few megabytes.
  """
  # "" is a choice as well: no folder.
  chosen = jax.config.jax_compilation_cache_dir is not None
  if chosen or not jax.config.jax_enable_compilation_cache:
    return
  folder = download.user_cache() / "xla"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    progress.console.print(
      f"compiled programs are not kept: {folder}: {error.strerror}",
      soft_wrap=True,
    )
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update(
      "jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS
    )
  # An entry that a killed run left incomplete, or a disk that got full, costs
  # one compilation; JAX would say so once per program and run.
  warnings.filterwarnings(
    "ignore", "Error (reading|writing) persistent compilation cache entry"
  )


class Clock:
  """Measures from when it is made until it is stopped."""

  def __init__(self):
    # The clock that the events are measured with.
    self._start = time.time()
    self._spans: list[tuple[float, float]] = []
    jax.monitoring.register_event_time_span_listener(self._note)

  def _note(self, event: str, start: float, end: float, **_) -> None:
    if event in _EVENTS:
      self._spans.append((start, end))

  def stop(self) -> Seconds:
    jax.monitoring.unregister_event_time_span_listener(self._note)
    return {
      "total": time.time() - self._start,
      "compiling": _covered(self._spans),
    }


def _covered(spans: list[tuple[float, float]]) -> float:
  """The length of a union of intervals.

  Events nest (a program is traced inside another one) and several threads may
  compile at a time.
  """
  total, reached = 0.0, float("-inf")
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
