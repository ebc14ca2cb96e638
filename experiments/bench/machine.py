"""What this machine can do at most, and how long and how much a program takes.

All numbers are in seconds, bytes, floating-point operations and operations or
bytes per second.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def seconds(run: Callable[[], Any], runs: int) -> list[float]:
  """Wall times of calls after one that is not counted."""
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
  """FLOP/s of [rows, inner] x [inner, columns] in float32, the best of runs.

  Square maps are chained, so that the cost of a call does not count in small
  ones.
  """
  chain = 16 if inner == columns else 1

  @jax.jit
  def products(x, kernel):
    for _ in range(chain):
      x = x @ kernel
    return x

  # Ones times the identity: numbers that neither grow nor become denormal.
  x = jnp.ones((rows, inner))
  kernel = jnp.eye(inner, columns)
  best = min(seconds(lambda: products(x, kernel), runs))
  return chain * 2 * rows * inner * columns / best


def copy_ceiling(size: int, *, runs: int = 10) -> float:
  """Bytes/s, read and written, of passing over an array of that many bytes.

  It is written in place: the first touch of fresh memory costs more than the
  transfer, and programs reuse theirs.
  """
  increment = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.zeros(size // 4)

  def run():
    nonlocal x
    x = increment(x)
    return x

  return 2 * size / min(seconds(run, runs))


def peak_bytes() -> int:
  """The most memory so far: of the device where it says so, else resident.

  On a CPU that of compilation is part of it.

  `ru_maxrss` would do, but on Linux a process starts with that of the process
  that started it.
  """
  stats = jax.devices()[0].memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  status = Path("/proc/self/status")
  if status.exists():
    for line in status.read_text().splitlines():
      if line.startswith("VmHWM:"):
        return 1024 * int(line.split()[1])
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak
