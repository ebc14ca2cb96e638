"""Neurons assigned to roles, and weights written in roles."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.gmn import roles
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp

KEY = jax.random.key(0)


def features(n=5, d=4):
  return jax.random.normal(KEY, (n, d))


def keys(n=5, d=4):
  return jax.random.normal(jax.random.key(1), (d, n))


def test_sinkhorn_is_doubly_stochastic(x64):
  shares = roles.sinkhorn(jax.random.normal(KEY, (6, 6)), 100)
  np.testing.assert_allclose(shares.sum(0), 1, 1e-9)
  np.testing.assert_allclose(shares.sum(1), 1, 1e-9)


def test_greedy_takes_the_greatest_first():
  shares = jnp.array([[0.9, 0.8, 0.1], [0.85, 0.2, 0.3], [0.1, 0.7, 0.0]])
  np.testing.assert_array_equal(
    roles.greedy(shares), [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
  )


def test_an_assignment_follows_the_neurons(x64):
  chosen = roles.assignment(features(), keys())
  np.testing.assert_allclose(chosen.sum(0), 1, 1e-12)
  np.testing.assert_allclose(jnp.sort(chosen.ravel())[-5:], 1, 1e-12)
  order = jnp.array([3, 0, 4, 1, 2])
  np.testing.assert_allclose(
    roles.assignment(features()[order], keys()), chosen[order], 1e-12, 1e-12
  )


def test_an_assignment_can_be_learned(x64):
  """The gradient of the soft assignment leads to the one that is wanted."""
  wanted = jnp.eye(5)[jnp.array([2, 4, 1, 0, 3])]

  @jax.jit
  def step(k):
    def loss(k):
      return ((roles.assignment(features(), k) - wanted) ** 2).sum()

    return k - 0.2 * jax.grad(loss)(k)

  k = keys()
  assert (roles.greedy(roles.assignment(features(), k)) != wanted).any()
  for _ in range(60):
    k = step(k)
  np.testing.assert_allclose(roles.assignment(features(), k), wanted, 0, 1e-9)


def test_neurons_that_are_the_same_have_a_role_each():
  same = jnp.zeros((5, 4))
  chosen = roles.assignment(same, keys())
  np.testing.assert_allclose(chosen.sum(0), 1, 1e-6)
  np.testing.assert_allclose(chosen.sum(1), 1, 1e-6)
  gradient = jax.grad(lambda f: roles.assignment(f, keys())[0, 0])(same)
  assert jnp.isfinite(gradient).all()


def test_signs_are_odd():
  z = jnp.array([-0.3, 0.0, 2.0])
  np.testing.assert_allclose(roles.signs(z), [-1, 0, 1], 1e-6)
  np.testing.assert_array_equal(roles.signs(-z), -roles.signs(z))


def test_placing_permutes_like_the_group(x64):
  """A permutation matrix with signs is what a group element is."""
  target = mlp.mlp((3, 5, 4, 2), "tanh")
  weights = target.init(KEY)
  g = actions.sample(jax.random.key(2), target.spec, dtype=float)
  matrices = {
    name: jnp.eye(len(q))[permutation] * q[:, None]
    for name, (permutation, q) in g.items()
  }
  placed = roles.place(target.spec, weights, matrices)
  expected = actions.act(g, target.spec, weights)
  for a, b in zip(*map(jax.tree.leaves, (placed, expected)), strict=True):
    np.testing.assert_allclose(a, b, 1e-12, 1e-12)
