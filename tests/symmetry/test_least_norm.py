"""The multipliers of the least L2 norm."""

import jax
import numpy as np
import pytest

from scalegmn_jax.symmetry import actions, least_norm
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import element, network

MLP = mlp((3, 8, 9, 2))


def multiplied(target, weights, q):
  g = {
    name: actions.Element(
      np.arange(rows.shape[1]),
      rows if target.spec.spaces[name].multipliers else rows[0],
    )
    for name, rows in q.items()
  }
  return actions.act(g, target.spec, weights)


def drawn(target, seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return jax.tree.map(lambda w: rng.normal(size=w.shape), shapes)


def squares(weights):
  return sum(float(np.vdot(w, w)) for w in jax.tree.leaves(weights))


def test_both_sides_of_a_neuron_have_the_same_norm():
  weights = drawn(MLP)
  least = multiplied(MLP, weights, least_norm.least_norm(MLP.spec, weights))
  assert squares(least) < 0.9 * squares(weights)
  for before, after in zip(least[:-1], least[1:], strict=True):
    incoming = np.square(before["kernel"]).sum(0) + np.square(before["bias"])
    outgoing = np.square(after["kernel"]).sum(1)
    np.testing.assert_allclose(incoming, outgoing, 1e-12)


@pytest.mark.parametrize("name", ["resnet", "gated", "vit"])
def test_multipliers_are_undone(name):
  """q(gθ) = q(θ)/g in the new order, of spaces with several multipliers."""
  target, weights = network(name)
  weights = jax.tree.map(np.float64, weights)
  g = element(target.spec, 1)
  positive = {
    n: e._replace(
      permutation=np.arange(len(e.permutation)), multiplier=abs(e.multiplier)
    )
    for n, e in g.items()
  }
  regauged = actions.act(positive, target.spec, weights)
  first, second = (
    multiplied(target, w, least_norm.least_norm(target.spec, w))
    for w in (weights, regauged)
  )
  for x, y in zip(*map(jax.tree.leaves, (first, second)), strict=True):
    np.testing.assert_allclose(x, y, 1e-10, 1e-12)


def test_neurons_with_an_empty_side_have_a_finite_multiplier():
  weights = drawn(MLP)
  weights[1]["kernel"][0] = 0  # nothing reads neuron 0
  for name in ("kernel", "bias"):
    weights[0][name][..., 1] = 0  # neuron 1 is constant
  weights[1]["kernel"][2], weights[0]["kernel"][:, 2] = 0, 0
  weights[0]["bias"][2] = 0  # neuron 2 has no weights
  q = least_norm.least_norm(MLP.spec, weights)
  least = multiplied(MLP, weights, q)
  assert np.isfinite(q["hidden_1"]).all() and q["hidden_1"][0, 2] == 1
  incoming = np.append(least[0]["kernel"][:, 0], least[0]["bias"][0])
  outgoing = least[1]["kernel"][1]
  np.testing.assert_allclose(
    [np.linalg.norm(incoming), np.linalg.norm(outgoing)], 1, 1e-12
  )
  # The others are those of the network without these neurons.
  some = np.arange(3, 8)
  smaller = [
    {"kernel": weights[0]["kernel"][:, 3:], "bias": weights[0]["bias"][3:]},
    {"kernel": weights[1]["kernel"][3:], "bias": weights[1]["bias"]},
    weights[2],
  ]
  without = least_norm.least_norm(mlp((3, 5, 9, 2)).spec, tuple(smaller))
  np.testing.assert_allclose(
    q["hidden_1"][0, some], without["hidden_1"][0], 1e-10
  )


def test_signs_and_permutations_have_the_multiplier_one():
  target = mlp((3, 4, 2), "tanh")
  q = least_norm.least_norm(target.spec, drawn(target))
  np.testing.assert_array_equal(q["hidden_1"], np.ones((1, 4)))
