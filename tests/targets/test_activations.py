"""The float32 implementation of the sine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.targets import activations

# Up to 1e4, where neighbouring float32 numbers are 1e-3 apart.
X = np.concatenate(
  [np.linspace(-30, 30, 20_001), np.linspace(-1e4, 1e4, 20_001), [0.0]]
).astype(np.float32)


@pytest.mark.parametrize(
  ("order", "exact"),
  [(0, np.sin), (1, np.cos), (2, lambda x: -np.sin(x))],
)
def test_sine_and_its_derivatives(order, exact):
  f = activations.sine
  for _ in range(order):
    f = jax.grad(f)
  result = jax.jit(jax.vmap(f))(X)
  assert result.dtype == jnp.float32
  expected = exact(X.astype(np.float64))
  assert np.abs(np.asarray(result) - expected).max() < 1.2e-7


def test_sine_of_float64_and_of_non_finite_numbers(x64):
  x = jnp.asarray(X, jnp.float64)
  np.testing.assert_array_equal(activations.sine(x), jnp.sin(x))
  not_finite = jnp.array([jnp.nan, jnp.inf, -jnp.inf], jnp.float32)
  assert jnp.isnan(activations.sine(not_finite)).all()
