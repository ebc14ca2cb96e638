"""The range of the weights of a zoo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Networks
from scalegmn_jax.eval import weight_range
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((3, 5, 2), ("relu", "tanh"))
WEIGHTS = jax.tree.map(lambda w: w + 0.1, TARGET.init(jax.random.key(0)))


@pytest.mark.parametrize("activation", [0, 1])
def test_sizes_are_invariant(activation):
  g = actions.sample(jax.random.key(1), TARGET.spec, activation)
  sizes = jax.jit(lambda w: weight_range.sizes(TARGET.spec, w, activation))
  moved = sizes(actions.act(g, TARGET.spec, WEIGHTS))
  for name, size in sizes(WEIGHTS).items():
    np.testing.assert_allclose(moved[name], size, 1e-4)
  # And they show what is no symmetry.
  larger = sizes(jax.tree.map(lambda w: 3 * w, WEIGHTS))
  assert larger["0/kernel"] > 2 * sizes(WEIGHTS)["0/kernel"]


def test_measured_is_json_of_a_zoo():
  scales = jnp.array([1.0, 2.0])
  stack = jax.tree.map(lambda w: jnp.stack([s * w for s in scales]), WEIGHTS)
  measured = weight_range.measure(TARGET, Networks(stack, jnp.ones(2, int)))
  assert measured["networks"] == 2
  kernel = jnp.sqrt(jnp.square(WEIGHTS[1]["kernel"]).mean())
  np.testing.assert_allclose(
    measured["range"]["1/kernel"], kernel * scales, 5e-3
  )
  assert measured["range"]["1/bias"][0] == 0


@pytest.mark.parametrize(
  ("found", "far"),
  [
    ({"a": 1.0, "b": 0.0}, None),
    ({"a": 5.9, "b": 0.0}, None),
    ({"a": 6.1, "b": 0.0}, ("a", 6.1)),
    ({"a": 0.3, "b": 0.0}, ("a", 0.3)),
    ({"a": 6.1, "b": 90.0}, ("b", 90.0)),
    ({"a": 0.0, "b": 0.0}, ("a", 0.0)),
    ({"a": jnp.inf, "b": 0.0}, ("a", jnp.inf)),
  ],
)
def test_the_weight_that_is_farthest_outside(found, far):
  measured = {"range": {"a": [1.0, 2.0], "b": [0.0, 10.0]}}
  assert weight_range.farthest(measured, found) == far
