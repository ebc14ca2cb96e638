"""Symmetry errors of metanetworks on networks of several activations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import batched
from scalegmn_jax.base import Functional, Networks, Operator
from scalegmn_jax.symmetry import gauge, measure
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((3, 8, 2), ("relu", "tanh"))
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def networks(random_weights):
  weights = [random_weights(TARGET, i, dead=False) for i in range(4)]
  stacked = jax.tree.map(
    lambda *w: np.stack([np.asarray(a) for a in w]), *weights
  )
  return Networks(stacked, np.array([0, 1, 0, 1]))


def outputs(weights, activation):
  return TARGET.apply(weights, X, activation)


def init(key):
  del key
  return 0.1


def equivariant(params, weights, activation=0):
  """Multiplies the weights by an invariant."""
  factor = 1 + params * jnp.sin(outputs(weights, activation).sum())
  return jax.tree.map(lambda w: w * factor, weights)


def not_equivariant(params, weights, activation=0):
  del activation
  return jax.tree.map(lambda w: w + params, weights)


def test_regauged_networks_have_the_same_functions(networks):
  g, regauged = measure.regauge_networks(TARGET, decades=2.0)(networks, KEY)
  q = np.asarray(g["hidden_1"].multiplier)
  # The group of each network follows its activation: q > 0, or q = ±1.
  assert (q[[0, 2]] > 0).all() and np.log10(q[[0, 2]]).std() > 0.3
  assert (np.abs(q[[1, 3]]) == 1).all()
  assert not np.allclose(q[0], q[2])
  kernels = [n.weights[0]["kernel"] for n in (networks, regauged)]
  assert not np.allclose(*kernels, atol=0.1)
  apply = jax.jit(jax.vmap(outputs))
  before, after = (apply(n.weights, n.activation) for n in (networks, regauged))
  np.testing.assert_allclose(after, before, 1e-4, 1e-5)


@pytest.mark.parametrize(
  ("apply", "low", "high"),
  [(equivariant, 0, 1e-4), (not_equivariant, 1e-2, np.inf)],
)
def test_errors_of_edits(networks, apply, low, high):
  edit = batched.edit_networks(Operator(init, apply))
  for error in (
    measure.update_error(edit, TARGET)(0.1, networks, KEY),
    measure.function_error(edit, TARGET, X)(0.1, networks, KEY),
  ):
    assert error.shape == (4,)
    assert (error >= low).all() and (error <= high).all()


def output_error(f, networks):
  read = batched.read_networks(Functional(init, lambda _, w, a=0: f(w, a)))
  return measure.output_error(read, TARGET)(0.0, networks, KEY)


def test_output_errors_are_in_units_of_the_spread(networks):
  norm = functools.partial(gauge.l1, TARGET.spec)

  def l1(weights, activation):
    del activation
    return norm(weights) * jnp.array([1, 100])

  def invariant(weights, activation):
    return outputs(weights, activation)[0]

  assert output_error(invariant, networks) < 1e-4
  error = output_error(l1, networks)
  assert error > 0.1
  values = np.asarray(jax.vmap(norm)(networks.weights))
  _, regauged = measure.regauge_networks(TARGET)(networks, KEY)
  values_at_g = np.asarray(jax.vmap(norm)(regauged.weights))
  expected = np.abs(values_at_g - values).max() / values.std()
  np.testing.assert_allclose(error, expected, 1e-4)


def test_a_constant_functional_has_no_output_error(networks):
  error = output_error(lambda w, a: 0 * outputs(w, a)[0] + 1, networks)
  assert np.isnan(error)


def test_weights_without_an_update_have_no_error(networks):
  def kernels_only(params, weights, activation=0):
    edited = equivariant(params, weights, activation)
    return tuple(
      new | {"bias": old["bias"]}
      for new, old in zip(edited, weights, strict=True)
    )

  edit = batched.edit_networks(Operator(init, kernels_only))
  assert (measure.update_error(edit, TARGET)(0.1, networks, KEY) < 1e-4).all()
