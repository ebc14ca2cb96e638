"""The null space of the Jacobian, by cause."""

import jax
import jax.flatten_util
import numpy as np
import pytest

from scalegmn_jax.eval import nullspace
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import network as traced_network

MLP = mlp((5, 8, 3))
SIZE = 8 * 6 + 3 * 9
"""Number of weights of `MLP`."""


@pytest.fixture
def gaussian():
  return np.random.default_rng(0).normal(size=(200, 5))


@pytest.fixture
def network(random_weights):
  """(target, seed) -> weights with small biases: every neuron is active on some
  of the inputs."""

  def make(target, seed):
    first, last = random_weights(target, seed, dead=False)
    return first | {"bias": 0.2 * first["bias"]}, last

  return make


def null_space(target, weights, x, activation=0):
  (triangle,) = nullspace.triangles(target, weights, x, [len(x)], activation)
  return nullspace.null_space(target.spec, weights, triangle, activation)


def causes(result):
  """Those of a network without running statistics."""
  assert result.statistics == 0
  return result.gauge, result.unread, *result[4:7]


def test_triangle_has_the_norms_of_the_jacobian(x64, random_weights, gaussian):
  weights = random_weights(MLP, 0, dead=False)
  flat, unravel = jax.flatten_util.ravel_pytree(weights)
  jacobian = jax.jacrev(lambda w: MLP.apply(unravel(w), gaussian))(flat)
  ends = [2, 150, 200]
  triangles = nullspace.triangles(MLP, weights, gaussian, ends)
  for n, triangle in zip(ends, triangles, strict=True):
    rows = jacobian[:n].reshape(-1, flat.size)
    assert triangle.shape == (min(len(rows), SIZE), SIZE)
    np.testing.assert_allclose(
      triangle.T @ triangle, rows.T @ rows, 1e-10, 1e-10
    )


def test_null_space_is_the_gauge_of_a_network_on_gaussian_inputs(
  x64, network, gaussian
):
  weights = network(MLP, 1)
  result = null_space(MLP, weights, gaussian)
  assert result.dimension == 8
  assert causes(result) == (8, 0, 0, 0, 0)
  # The spectrum has a gap: the result does not depend on the tolerance.
  values = result.singular_values
  assert values[SIZE - 9] > 1e6 * result.tolerance
  assert values[SIZE - 8] < 0.1 * result.tolerance


def test_the_sign_group_has_no_null_space(x64, network, gaussian):
  target = mlp((5, 8, 3), "tanh")
  result = null_space(target, network(target, 1), gaussian)
  assert result.dimension == 0
  assert causes(result) == (0, 0, 0, 0, 0)


def test_each_cause_is_identified(x64, network, gaussian):
  weights = network(MLP, 1)
  first, last = weights

  def change(bias=None, outgoing=None):
    b, k = first["bias"], last["kernel"]
    b = b if bias is None else b.at[0].set(bias)
    k = k if outgoing is None else k.at[0].set(outgoing)
    return first | {"bias": b}, last | {"kernel": k}

  # Never active: 6 incoming and 3 outgoing weights, one direction is gauge.
  result = null_space(MLP, change(bias=-100.0), gaussian)
  assert causes(result) == (8, 8, 0, 0, 0) and result.dead == 1
  # No outgoing weights: 6 incoming weights, one direction is gauge.
  result = null_space(MLP, change(outgoing=0.0), gaussian)
  assert causes(result) == (8, 5, 0, 0, 0) and result.dead == 1

  # A constant input, and an input that is the sum of two others.
  x = gaussian.copy()
  x[:, 3] = -0.1
  x[:, 4] = x[:, 0] + x[:, 1]
  result = null_space(MLP, weights, x)
  assert causes(result) == (8, 0, 2 * 8, 0, 0) and result.dead == 0

  # Active on two images: they determine two directions of six.
  preactivation = np.sort(gaussian @ first["kernel"][:, 0])
  result = null_space(
    MLP, change(bias=-float(preactivation[-3:-1].mean())), gaussian
  )
  assert causes(result) == (8, 0, 0, 4, 0)

  # 6 images have 18 outputs: the rank is at most 18.
  result = null_space(MLP, weights, gaussian[:6])
  assert result.dimension == sum(causes(result)) >= SIZE - 18
  assert result.joint > 0


def test_always_active_neurons_form_a_linear_layer(
  x64, random_weights, gaussian
):
  """GL(8) and 8 shifts leave the function unchanged."""
  first, last = random_weights(MLP, 2, dead=False)
  weights = first | {"bias": first["bias"] + 100}, last
  result = null_space(MLP, weights, gaussian)
  # The network is an affine map of 5 inputs to 3 outputs.
  assert result.dimension == SIZE - 3 * 6
  assert result.gauge == 8 and result.unread == 0
  assert result.joint > 0


def test_sensitivity_is_zero_only_along_tangents(x64, random_weights, gaussian):
  weights = random_weights(MLP, 3, dead=False)

  key = jax.random.key(4)

  def random(weights, key):
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    return unravel(jax.random.normal(key, flat.shape))

  along = nullspace.sensitivity(
    MLP,
    weights,
    gaussian,
    lambda w, rates: tangents.tangent(MLP.spec, w, rates),
    tangents.generators(MLP.spec),
  )
  control = nullspace.sensitivity(
    MLP, weights, gaussian, random, jax.random.split(key, 3)
  )
  assert along.shape == (8,) and control.shape == (3,)
  assert along.max() < 1e-14 * control.min()
  (triangle,) = nullspace.triangles(MLP, weights, gaussian, [200])
  row = jax.flatten_util.ravel_pytree(random(weights, key))[0]
  expected = np.linalg.norm(triangle @ row) / np.linalg.norm(row)
  assert control.min() / 3 < expected < 3 * control.max()


@pytest.mark.parametrize("pool", ["average", "flatten"])
def test_sharing_leaves_one_direction_per_channel(x64, random_weights, pool):
  target = cnn((5, 5, 1), (3, 4), 3, 2, "SAME", pool, classes=2)
  weights = random_weights(target, 5, dead=False)
  dense = unroll.unrolled(target)
  assert tangents.rank(dense.target.spec, dense.unroll(weights)) == 43
  assert nullspace.tied_directions(target, weights) == 7


def test_a_normalization_adds_statistics_to_the_null_space(x64, normalized):
  """Per channel: mean against bias, variance against scale."""
  weights = normalized.init(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(300, 3))
  result = null_space(normalized, weights, x)
  assert (result.gauge, result.unread, result.statistics) == (18, 0, 2 * 12)
  # What is left: neurons that are always active.
  assert result.dimension == 18 + 24 + result.joint


@pytest.mark.parametrize("name", ("resnet", "vit", "fused_attention", "gpt"))
def test_every_weight_is_of_one_layer(x64, name):
  target, weights = traced_network(name)
  layers = nullspace._incoming(target.spec, weights)
  columns = np.concatenate([layer.columns.ravel() for layer in layers])
  size = sum(w.size for w in jax.tree.leaves(weights))
  np.testing.assert_array_equal(np.sort(columns), np.arange(size))
  # Not one layer for all, nor one for each weight.
  assert 2 < len(layers) < len(jax.tree.leaves(weights)) + 2
