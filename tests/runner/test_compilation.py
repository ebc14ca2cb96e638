"""The time that a run spends on compilation."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner import compilation


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
