"""Contributions of neurons to outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.symmetry import actions, contributions
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import element


def test_contributions_of_a_relu_network(x64):
  target = mlp((3, 5, 2))
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  weights = jax.tree.map(lambda w: rng.normal(size=w.shape), shapes)
  x = rng.normal(size=(4, 3))
  measure = contributions.contributions(target)
  found = measure(weights, x)
  first, second = weights
  h = np.maximum(x @ first["kernel"] + first["bias"], 0)
  # A neuron adds h_j W_jk to output k, and all of it is by its weights.
  expected = (h[:, None] * second["kernel"].T).transpose(2, 0, 1).reshape(5, -1)
  bias, kernel, outgoing = found["hidden_1"]
  np.testing.assert_allclose(outgoing, expected, 1e-10, 1e-12)
  np.testing.assert_allclose(bias + kernel, expected, 1e-10, 1e-12)

  g = element(target.spec, 1)
  moved = measure(actions.act(g, target.spec, weights), x)
  order = g["hidden_1"].permutation
  for before, after in zip(found["hidden_1"], moved["hidden_1"], strict=True):
    np.testing.assert_allclose(after, before[order], 1e-10, 1e-12)


def test_many_outputs_are_added_to_few():
  target = mlp((3, 5, 40))
  measure = contributions.contributions(target)
  weights = target.init(jax.random.key(0))
  found = measure(weights, jnp.ones((2, 3)))
  assert [x.shape for x in found["hidden_1"]] == [(5, 64)] * 3
