"""What tests of traced functions compare."""

import jax
import numpy as np
import pytest

from scalegmn_jax.symmetry import actions

SIGNS = {"scale": "+", "sign": "-", "permutation": ""}


@pytest.fixture(autouse=True)
def rank_promotion():
  """Functions of users add vectors to arrays of a higher rank."""
  with jax.numpy_rank_promotion("allow"):
    yield


@pytest.fixture
def found():
  """spec -> {hidden space: its size, + and - for each multiplier, and ! if its
  neurons are not permuted}."""

  def describe(spec):
    return {
      name: str(space.size)
      + "".join(SIGNS[g] for g in space.multipliers or space.groups)
      + ("" if space.permuted else "!")
      for name, space in spec.spaces.items()
      if not space.fixed
    }

  return describe


@pytest.fixture
def relative_change():
  """(apply, spec, params, inputs) -> the largest change of outputs by random
  elements of the whole group, relative to the largest output."""

  def measure(apply, spec, params, inputs, seeds=3):
    apply = jax.jit(apply)
    before = np.asarray(apply(params, inputs))
    changes = []
    for seed in range(seeds):
      g = actions.sample_on_host(np.random.default_rng(seed), spec, decades=0.5)
      after = apply(actions.act(g, spec, params), inputs)
      changes.append(np.abs(after - before).max() / np.abs(before).max())
    return max(changes)

  return measure
