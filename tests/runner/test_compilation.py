"""Compiled programs are kept, and what compiling takes is measured."""

import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner import compilation

ROOT = pathlib.Path(__file__).parents[2]

# Prints how many programs came from the cache folder, and a result.
PROGRAM = """
import jax, jax.numpy as jnp
from experiments.runner import compilation
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith("/cache_hits"))
)
compilation.keep()
x = jax.random.normal(jax.random.key(0), (64, 64))
y = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x)))(x)
value = y.sum().item().hex()
print(sum(hits), value)
"""


def run(cache, **variables):
  """What `PROGRAM` prints: (programs from the folder, its result)."""
  environment = {k: v for k, v in os.environ.items() if k[:4] != "JAX_"}
  environment |= {
    "XDG_CACHE_HOME": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    cwd=ROOT,
    env=environment | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stderr == ""
  *lines, last = result.stdout.splitlines()
  hits, value = last.split()
  return int(hits), value, lines


def test_the_next_run_compiles_nothing_and_has_the_same_bits(tmp_path):
  hits, expected, _ = run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
  assert hits == 0 and not any(tmp_path.iterdir())
  hits, value, _ = run(tmp_path)
  entries = list((tmp_path / "scalegmn_jax" / "xla").glob("*-cache"))
  assert hits == 0 and value == expected and len(entries) >= 3
  hits, value, lines = run(tmp_path)
  assert hits == len(entries) and value == expected and lines == []

  # A disk that was full: nobody hears of it.
  for entry in entries:
    entry.write_bytes(entry.read_bytes()[:100])
  hits, value, lines = run(tmp_path)
  assert hits == 0 and value == expected and lines == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "file").touch()
  hits, _, lines = run(tmp_path / "file")
  assert hits == 0
  assert len(lines) == 1
  assert lines[0].startswith("compiled programs are not kept: ")
  assert "Not a directory" in lines[0]


@pytest.mark.parametrize("chosen", ("elsewhere", ""))
def test_a_choice_of_the_user_stays(chosen, tmp_path):
  folder = chosen and str(tmp_path / chosen)
  run(tmp_path / "cache", JAX_COMPILATION_CACHE_DIR=folder)
  assert not (tmp_path / "cache").exists()
  assert (tmp_path / "elsewhere").exists() == bool(chosen)


def test_the_clock_counts_what_a_program_takes():
  clock = compilation.Clock()
  start = time.perf_counter()
  # A program within a program: the events nest.
  jax.jit(lambda x: jax.jit(jnp.sort)(x @ x) + 1)(np.ones((9, 9)))
  spent = time.perf_counter() - start
  time.sleep(0.1)
  seconds = clock.stop()
  assert 0.3 * spent < seconds["compiling"] <= spent + 0.01
  assert seconds["total"] >= spent + 0.1

  before = seconds["compiling"]
  jax.jit(lambda x: x @ x)(np.ones((8, 9, 9)))
  assert compilation._covered(clock._spans) == before


@pytest.mark.parametrize(
  ("spans", "length"),
  [
    ([], 0),
    ([(1, 2), (4, 6)], 3),
    ([(4, 6), (1, 2)], 3),  # threads report in any order
    ([(2, 3), (4, 5), (1, 6)], 5),  # inner ones end first
    ([(1, 4), (3, 6), (6, 7)], 6),
    ([(1, 4), (1, 4), (1, 2)], 3),
  ],
)
def test_nothing_is_counted_twice(spans, length):
  assert compilation._covered(spans) == length
