"""Balancing minimizes the L1 norm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from scalegmn_jax.base import Axes, Axis, InputError, Space, SymmetrySpec
from scalegmn_jax.gmn.metanetworks import operator
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

RELU, TANH, GELU = 0, 2, 3
"""Indices among the activations of the fixture `kind`."""

MLP = mlp((3, 8, 9, 2))


def hidden(spec):
  return [name for name, space in spec.spaces.items() if not space.fixed]


def sides(spec, weights, name):
  """Whether neurons of a space have weights: (incoming [n], outgoing [n])."""
  connected = {1: np.zeros(spec.spaces[name].size, bool)}
  connected[-1] = connected[1].copy()
  for _, weight, axes in specs.leaves(spec, weights):
    for power in connected:
      axis = axes.find(power)
      if axis and axis[1] == name:
        rows = np.moveaxis(np.asarray(weight), axis[0], 0)
        connected[power] |= (rows.reshape(len(rows), -1) != 0).any(1)
  return connected[1], connected[-1]


def test_gradients_are_finite_with_dead_neurons(x64, kind, random_weights):
  @jax.jit
  def gradient(weights):
    return jax.grad(lambda w: gauge.balanced_l1(kind.spec, w))(weights)

  values = gradient(random_weights(kind, 6))
  for name, value, _ in specs.leaves(kind.spec, values):
    assert np.isfinite(value).all(), name


def test_balancing_keeps_the_function_and_balanced_l1_is_invariant(
  x64, kind, random_weights, images
):
  spec, weights = kind.spec, random_weights(kind, 7)
  balance = jax.jit(
    lambda w: (gauge.balance(spec, w), gauge.balanced_l1(spec, w))
  )
  balanced, least = balance(weights)
  np.testing.assert_allclose(gauge.l1(spec, balanced), least, 1e-12)
  assert least < 0.98 * gauge.l1(spec, weights)

  apply, x = jax.jit(kind.apply), images(kind, 4)
  np.testing.assert_allclose(
    apply(balanced, x), apply(weights, x), 1e-12, 1e-12
  )

  g = actions.sample(jax.random.key(8), spec, decades=2)
  regauged = jax.jit(lambda g: actions.act(g, spec, weights))(g)
  assert abs(gauge.l1(spec, regauged) / gauge.l1(spec, weights) - 1) > 0.5
  np.testing.assert_allclose(balance(regauged)[1], least, 1e-6)

  for name in hidden(spec):
    incoming, outgoing = sides(spec, balanced, name)
    assert incoming.any() and (incoming == outgoing).all()
    assert not incoming[[1, 2, 3]].any(), "a neuron with an empty side counts"


def test_removing_a_neuron_removes_neurons_that_depend_on_it(x64):
  target = mlp((1, 1, 1, 1, 1))
  balanced_l1 = jax.jit(lambda w: gauge.balanced_l1(target.spec, w))
  for dead in (0, 3):
    weights = [
      {"bias": jnp.zeros(1), "kernel": jnp.full((1, 1), float(i != dead))}
      for i in range(4)
    ]
    weights[3]["bias"] = jnp.ones(1)
    assert balanced_l1(tuple(weights)) == 1


def test_neurons_that_weight_decay_left_are_removed():
  """Weights near the smallest of float32, as some zoo networks have them."""
  target = mlp((2, 3, 3, 2))
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = ((2, 3), (3, 3), (3, 2))
  kernels = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
  kernels[0] = kernels[0].at[:, 0].mul(1e-3)
  kernels[1] = kernels[1].at[0].mul(1e-35).at[:, 1].mul(1e-33)
  kernels[1] = kernels[1].at[0, 1].set(1e-35)
  kernels[2] = kernels[2].at[1].mul(1e-35)
  weights = tuple({"bias": jnp.zeros(k.shape[1]), "kernel": k} for k in kernels)
  balanced = jax.jit(lambda w: gauge.balance(target.spec, w))(weights)
  for name, dead in (("hidden_1", 0), ("hidden_2", 1)):
    for side in sides(target.spec, balanced, name):
      np.testing.assert_array_equal(side, np.arange(3) != dead)
  x = jax.random.normal(keys[0], (4, 2))
  np.testing.assert_allclose(
    target.apply(balanced, x), target.apply(weights, x), 1e-5
  )
  metanetwork = operator(target, width=2, depth=2, bidirectional=False)
  params = metanetwork.init(keys[1])
  for leaf in jax.tree.leaves(jax.jit(metanetwork.apply)(params, balanced)):
    assert np.isfinite(leaf).all()


def minimum(weights):
  """min ‖q·θ‖₁ of an MLP by L-BFGS over log q."""
  layers = [(np.abs(w["bias"]), np.abs(w["kernel"])) for w in weights]
  widths = [len(b) for b, _ in layers[:-1]]
  starts = np.cumsum([0, *widths])

  def objective(u):
    u = [
      np.zeros(layers[0][1].shape[0]),
      *(u[s : s + n] for s, n in zip(starts, widths, strict=False)),
      np.zeros(len(layers[-1][0])),
    ]
    value, gradient = 0.0, [np.zeros_like(v) for v in u]
    for i, (bias, kernel) in enumerate(layers):
      b = bias * np.exp(u[i + 1])
      k = kernel * np.exp(u[i + 1] - u[i][:, None])
      value += b.sum() + k.sum()
      gradient[i + 1] += b + k.sum(0)
      gradient[i] -= k.sum(1)
    return value, np.concatenate(gradient[1:-1])

  return scipy.optimize.minimize(
    objective,
    np.zeros(starts[-1]),
    jac=True,
    method="L-BFGS-B",
    options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000},
  ).fun


@pytest.mark.parametrize("sizes", [(3, 8, 2), (3, 8, 9, 8, 2)])
def test_twenty_sweeps_find_the_minimum(x64, random_weights, sizes):
  target = mlp(sizes)
  weights = random_weights(target, 13, dead=False)
  g = actions.sample(jax.random.key(14), target.spec, decades=1)
  weights = jax.jit(lambda w: actions.act(g, target.spec, w))(weights)
  least = minimum(jax.tree.map(np.asarray, weights))
  ours = jax.jit(lambda w: gauge.balanced_l1(target.spec, w))(weights)
  assert -1e-9 < ours / least - 1 < 1e-6
  assert gauge.l1(target.spec, weights) / least > 1.1


def test_balanced_network_is_unique_on_the_orbit_up_to_order(
  x64, random_weights
):
  weights = random_weights(MLP, 17)
  g = actions.sample(jax.random.key(18), MLP.spec, decades=2)
  order = {
    name: e._replace(multiplier=jnp.ones_like(e.multiplier))
    for name, e in g.items()
  }

  @jax.jit
  def balance(g):
    regauged = actions.act(g, MLP.spec, weights)
    return gauge.balance(MLP.spec, regauged, sweeps=200)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-12),
    balance(g),
    balance(order),
  )


def test_equal_ranges(x64, random_weights):
  """Least Σ|w|^8 of an MLP, whatever the gauge; the function stays."""
  weights = random_weights(MLP, 4, dead=False)
  equalize = jax.jit(lambda w: gauge.equalize(MLP.spec, w))
  found = equalize(weights)
  x = jax.random.normal(jax.random.key(1), (5, 3))
  np.testing.assert_allclose(MLP.apply(found, x), MLP.apply(weights, x), 1e-9)

  def powers(weights):
    return sum((jnp.abs(w) ** 8).sum() for w in jax.tree.leaves(weights))

  def moved(u):
    q = {"hidden_1": jnp.exp(u[:8]), "hidden_2": jnp.exp(u[8:])}
    back = jax.tree.map(lambda a: 1 / a, q)
    return powers(gauge.scale_axes(MLP.spec, found, q, back))

  slope = jax.jit(jax.grad(moved))(jnp.zeros(17))
  assert jnp.abs(slope).max() < 1e-6 * powers(found)
  balance = jax.jit(lambda w: gauge.balance(MLP.spec, w))
  assert powers(found) < 0.9 * powers(balance(weights))
  g = actions.sample_on_host(np.random.default_rng(2), MLP.spec, decades=2)
  g = {k: actions.Element(np.arange(len(q)), q) for k, (_, q) in g.items()}
  again = equalize(actions.act(g, MLP.spec, weights))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-9), again, found
  )


def test_only_networks_of_the_scale_group_are_balanced(
  x64, kind, random_weights
):
  weights = random_weights(kind, 19)
  balance = jax.jit(jax.vmap(lambda i: gauge.balance(kind.spec, weights, i)))
  networks = balance(jnp.asarray([TANH, GELU, RELU]))
  for i in range(2):
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_array_equal(a[i], b),
      networks,
      weights,
    )
  third = jax.tree.map(lambda a: a[2], networks)
  assert gauge.l1(kind.spec, third) < 0.98 * gauge.l1(kind.spec, weights)


def test_gradient_of_balanced_l1_is_the_gradient_of_the_minimum(
  x64, random_weights
):
  weights = random_weights(MLP, 20, dead=False)
  direction = random_weights(MLP, 21, dead=False)

  @jax.jit
  def along(t):
    shifted = jax.tree.map(lambda w, d: w + t * d, weights, direction)
    return gauge.balanced_l1(MLP.spec, shifted, sweeps=300)

  h = 1e-5
  differences = (along(h) - along(-h)) / (2 * h)
  np.testing.assert_allclose(jax.grad(along)(0.0), differences, 1e-8)


def test_public_checkpoint_is_far_from_balanced(x64, shared):
  target = cnn()
  row = np.load(shared / "data" / "small_cnn_zoo" / "best_cifar10_gs_relu.npy")
  shapes, structure = jax.tree.flatten(
    jax.eval_shape(target.init, jax.random.key(0))
  )
  parts = np.split(row, np.cumsum([s.size for s in shapes])[:-1])
  weights = jax.tree.unflatten(
    structure,
    [
      jnp.asarray(part.reshape(s.shape), float)
      for part, s in zip(parts, shapes, strict=True)
    ],
  )
  balanced = jax.jit(
    lambda w, sweeps: gauge.balanced_l1(target.spec, w, sweeps=sweeps),
  )
  least = balanced(weights, 2000)
  assert round(float(gauge.l1(target.spec, weights))) == 3245
  assert round(float(least)) == 1343
  np.testing.assert_allclose(balanced(weights, 20), least, 1e-6)


def test_a_weight_within_one_space_is_named():
  axes = Axes((Axis("b", -1), Axis("b", 1)))
  spec = SymmetrySpec({"b": Space(2, ("scale",))}, {"w": axes})
  with pytest.raises(InputError, match="w sends and receives in one space"):
    gauge.balance(spec, {"w": jnp.ones((2, 2))})


def test_spaces_without_the_scale_group_have_factors_one(random_weights):
  spec = dataclasses.replace(
    MLP.spec,
    spaces={**MLP.spec.spaces, "hidden_1": Space(8, ("permutation",))},
  )
  factors = jax.jit(lambda w: gauge.balancing_factors(spec, w))
  found = factors(random_weights(MLP, 23))
  (of_second,) = found["hidden_2"]
  assert [*found] == ["hidden_2"]
  assert (of_second[1] != 1).all() and (of_second[-1] != 1).all()
