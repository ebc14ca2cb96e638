"""Limits of this machine, and time and memory of programs.

Units are seconds, bytes, floating-point operations, and operations or bytes per
second.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def seconds(run: Callable[[], Any], runs: int) -> list[float]:
  """Wall times of calls, after one warm-up call."""
  jax.block_until_ready(run())
  times = []
  for _ in range(runs):
    start = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - start)
  return times


def median_seconds(run: Callable[[], Any], runs: int = 5) -> float:
  return float(np.median(seconds(run, runs)))


def matmul_ceiling(
  rows: int, inner: int, columns: int, *, runs: int = 10
) -> float:
  """FLOP/s of [rows, inner] x [inner, columns] in float32, the best run.

  Square kernels are applied several times per call, so that the overhead of a
  call does not dominate small products.
  """
  chain = 16 if inner == columns else 1

  @jax.jit
  def products(x, kernel):
    for _ in range(chain):
      x = x @ kernel
    return x

  # Ones times the identity: the numbers neither grow nor become denormal.
  x = jnp.ones((rows, inner))
  kernel = jnp.eye(inner, columns)
  best = min(seconds(lambda: products(x, kernel), runs))
  return chain * 2 * rows * inner * columns / best


def copy_ceiling(size: int, *, runs: int = 10) -> float:
  """Bytes/s, read and written, of a pass over an array.

  The array is updated in place: programs reuse their memory, and the first
  touch of fresh memory costs more than the transfer.

  Args:
    size: bytes of the array.
    runs: number of passes; the fastest counts.
  """
  increment = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.zeros(size // 4)

  def run():
    nonlocal x
    x = increment(x)
    return x

  return 2 * size / min(seconds(run, runs))


def peak_bytes() -> int:
  """Peak memory of the device; peak resident memory if it is unknown.

  0 on Windows, which tells neither. On a CPU, memory used by compilation is
  included. On Linux `ru_maxrss` is not used, because a process inherits its
  value from the parent process.
  """
  stats = jax.devices()[0].memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  status = Path("/proc/self/status")
  if status.exists():
    for line in status.read_text().splitlines():
      if line.startswith("VmHWM:"):
        return 1024 * int(line.split()[1])
  try:
    import resource
  except ImportError:
    return 0
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak
