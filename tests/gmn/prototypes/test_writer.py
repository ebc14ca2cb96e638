"""Prototypes: mixing, gauge, slots and placing, each by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Axes, Axis
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn.features import featurize
from scalegmn_jax.gmn.prototypes import slots, writer
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets import mlp
from tests.graph.traced import network

TARGET = mlp.mlp((3, 5, 4, 2), ("relu", "tanh"))
CONNECTIVITY = NetworkConnectivity(topology_of(TARGET))


def test_summary_does_not_depend_on_the_order_of_hidden_neurons():
  place = CONNECTIVITY.topology
  u = jax.random.normal(jax.random.key(0), (place.vertices, 3))
  shares = jnp.eye(2, 3)
  summary = writer.summarize(u, CONNECTIVITY, shares)
  assert summary.shape == (3 + 3 * (3 + 2) + 3,)
  flipped = u.at[place.hidden].set(u[place.hidden][::-1])
  np.testing.assert_allclose(
    writer.summarize(flipped, CONNECTIVITY, shares), summary, 1e-6
  )
  np.testing.assert_array_equal(
    writer.summarize(u, CONNECTIVITY, None), summary[:-3]
  )


def test_class_pairs():
  """Classes 0 and 1 at one output, class 2 nowhere; an empty output."""
  shares = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
  pairs = writer.class_pairs(shares)
  #   00   01  02   11  12   22
  np.testing.assert_array_equal(pairs, [0.5, 1, 0, 0.5, 0, -0.5])


def test_mix():
  prototypes = jnp.array([[1.0, 0.0], [0.0, 2.0]])
  mixture = jnp.array([0.25, 0.75])
  np.testing.assert_allclose(writer.mix(prototypes, mixture), [0.25, 1.5])
  changes, pairs = jnp.array([[8.0, 4.0]]), jnp.array([0.5])
  other = jnp.array([0.0, 2.0]), jnp.array([[9.0, 9.0], [1.0, 0.0]])
  np.testing.assert_allclose(
    writer.mix(prototypes, mixture, [(pairs, changes), other]), [6.25, 3.5]
  )


def test_mixture_and_gates_at_initialization():
  params = layers.init(jax.random.key(0), writer.mixture_params(6, 3))
  evidence = jax.random.normal(jax.random.key(1), (6,))
  shares = writer.mixture(params, evidence)
  assert shares.shape == (3,)
  np.testing.assert_allclose(shares.sum(), 1, 1e-6)
  params = layers.init(jax.random.key(0), writer.gates_params(6, 4, 5))
  gates = writer.gates(params, evidence)
  assert gates.shape == (5,) and (gates > 0.9).all() and (gates < 1).all()


def test_slots_of_outputs_are_classes():
  axes = Axes((None, Axis("hidden", -1), Axis("output", 1)))
  assert writer.slot_shape((9, 4, 10), axes, {}) == (9, 4, 10)
  assert writer.slot_shape((9, 4, 10), axes, {"output": 31}) == (9, 4, 31)


def test_prototypes_begin_with_a_mean_of_rows_of_norm_one():
  spec = TARGET.spec
  kernel, bias = (
    Axes((Axis("input", -1), Axis("hidden_1", 1))),
    Axes((Axis("hidden_1", 1),)),
  )
  normal = writer.prototype_params(
    spec, (16, 4), kernel, activations=2, count=3
  )
  assert normal.shape == (2, 3, 16, 4)
  assert normal.std**2 / 3 * 16 == pytest.approx(1)
  assert writer.prototype_params(spec, (4,), bias, 2, 3).std == 0


def test_prototypes_of_a_vision_transformer_begin_like_a_network(x64):
  target, weights = network("vit")
  found = {}
  for name, weight, axes in specs.leaves(target.spec, weights):
    normal = writer.prototype_params(target.spec, weight.shape, axes, 1, 1)
    assert normal.shape == (1, 1, *weight.shape)
    found[name] = normal.mean, round(normal.std**-2) if normal.std else 0
  ones, zeros = dict.fromkeys(("g1", "g2"), (1, 0)), (0, 0)
  kernels = {
    "patch": 48, "position": 5, "q": 4, "k": 4, "v": 4, "o": 6, "w1": 4,
    "w2": 5, "head": 4,
  }  # fmt: skip
  assert found == {
    **ones,
    **dict.fromkeys(("class", "b1", "b2"), zeros),
    **{name: (0, fan_in) for name, fan_in in kernels.items()},
  }


@pytest.mark.parametrize("activation", [0, 1])
def test_gauge_and_slots_follow_the_network(x64, activation):
  """The fixed gauge absorbs q > 0, the assignment permutations and signs."""
  place = CONNECTIVITY.topology

  @jax.jit
  def parts(weights):
    features = featurize(CONNECTIVITY, weights, activation)
    fixed = writer.fix_gauge(place, features, weights)
    assigned = slots.assign_slots(TARGET.spec, fixed.weights)
    signs = writer.find_signs(place, features, fixed.weights)
    for stage, sign in signs.items():
      assigned[stage.spaces[0]] *= sign[:, None]
    return fixed, assigned, fixed.restore(place, fixed.weights, {})

  weights = TARGET.init(jax.random.key(0))
  weights = jax.tree.map(lambda w: w.astype(float), weights)
  g = actions.sample(
    jax.random.key(1), TARGET.spec, activation=activation, dtype=float
  )
  _, assigned, restored = parts(weights)
  transformed, assigned_at_g, _ = parts(actions.act(g, TARGET.spec, weights))
  for a, b in zip(*map(jax.tree.leaves, (restored, weights)), strict=True):
    np.testing.assert_allclose(a, b, 1e-12)
  sizes = {stage.spaces[0]: s for stage, s in transformed.sizes.items()}
  assert set(assigned) == {"hidden_1", "hidden_2"} == set(sizes)
  for name, (permutation, q) in g.items():
    sign = q[:, None] if activation else 1
    np.testing.assert_array_equal(
      assigned_at_g[name], assigned[name][permutation] * sign
    )
    if activation:  # signs are not divided out
      np.testing.assert_array_equal(sizes[name], 1)
