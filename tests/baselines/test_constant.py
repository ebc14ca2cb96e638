"""Baselines that do not depend on the input."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.baselines import constant
from scalegmn_jax.targets.mlp import mlp


def test_constant_operator_adds_the_same_update():
  target = mlp((2, 3, 1), "sine")
  operator = constant.constant_operator(target)
  params = jax.jit(operator.init)(jax.random.key(0))
  a, b = (target.init(jax.random.key(i)) for i in (1, 2))
  jax.tree.map(np.testing.assert_array_equal, operator.apply(params, a), a)
  shifted = jax.tree.map(lambda p: p + 0.5, params)
  for weights in (a, b):
    jax.tree.map(
      lambda w, new: np.testing.assert_allclose(new, w + 0.5),
      weights,
      operator.apply(shifted, weights, jnp.array(0)),
    )


def test_running_statistics_get_no_update(normalized):
  weights = normalized.init(jax.random.key(0))
  params = jax.tree.map(lambda w: jnp.full_like(w, -9), weights)
  operator = constant.constant_operator(normalized)
  edited = operator.apply(params, weights)
  jax.tree.map(
    np.testing.assert_array_equal,
    edited["batch_stats"],
    weights["batch_stats"],
  )
  assert (edited["params"]["in"] == weights["params"]["in"] - 9).all()
