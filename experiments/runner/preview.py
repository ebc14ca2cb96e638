"""A dry run: the work of a run, in sizes, time and memory."""

import os
from collections.abc import Sequence

import jax

from experiments.build.work import Work
from experiments.runner.progress import duration

RATES = {"cpu": 5e9, "gpu": 5e12, "tpu": 5e12}
"""Operations per second that a run of small networks reaches: on a core, on an
accelerator. With them the estimates are within a factor of three of the times
in docs/results (without compilation), all on CPU cores."""

BASE = 0.7e9
"""Bytes of a process with JAX and its compiled programs."""


def text(parts: Sequence[Work]) -> str:
  """The parts of a run, and estimates of its time, memory and disk space.

  Args:
    parts: the work, whose operations are counted without compilation.
  """
  backend = jax.default_backend()
  cores = os.cpu_count() or 1
  rate = RATES.get(backend, RATES["gpu"]) * (cores if backend == "cpu" else 1)
  lines, total = [], 0.0
  for part in parts:
    seconds = part.flops() / rate
    total += seconds
    about = f" (about {duration(seconds)})" if seconds >= 1 else ""
    lines.append(f"{part.name}: {part.detail}{about}")
  disk = sum(part.disk for part in parts)
  memory = BASE + sum(part.memory for part in parts)
  place = f"{cores} cores" if backend == "cpu" else f"a {backend}"
  return "\n".join(
    [
      *lines,
      f"time: about {duration(total)} on {place}, at {rate / 1e9:,.0f} billion "
      "operations per second, right to a factor of three; and minutes of "
      "compilation",
      f"memory: about {memory / 1e9:.1f} GB; disk: about {disk / 1e6:,.0f} MB",
      "dry run: nothing was trained and nothing was written",
    ]
  )
