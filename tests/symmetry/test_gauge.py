"""Vertex sizes carry the multipliers; balancing finds the least L1 norm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from scalegmn_jax.base import Axes, Axis, Space, SymmetrySpec
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

RELU, TANH, GELU = 0, 2, 3
"""Indices among the activations of the fixture `target`."""

MLP = mlp((3, 8, 7, 2))


def live(target, weights, name):
  """Hidden neurons of a space with an incoming and an outgoing side."""
  sides = {1: 0.0, -1: 0.0}
  for _, weight, axes in specs.leaves(target.spec, weights):
    for power in sides:
      found = axes.find(power)
      if found and found[1] == name:
        other = tuple(i for i in range(weight.ndim) if i != found[0])
        sides[power] = sides[power] + np.abs(weight).sum(other)
  return (sides[1] > 0) & (sides[-1] > 0)


def hidden(spec):
  return [name for name, space in spec.spaces.items() if not space.fixed]


def assert_carries(spec, sizes, sizes_at_g, g, tolerance):
  for name in spec.spaces:
    expected = sizes[name]
    if name in g:
      permutation, q = g[name]
      expected = jnp.abs(q) * expected[permutation]
    else:
      assert (sizes[name] == 1).all()
    assert (sizes[name] > 0).all() and jnp.isfinite(sizes[name]).all()
    np.testing.assert_allclose(
      sizes_at_g[name], expected, tolerance, err_msg=name
    )


@pytest.mark.parametrize("activation", [RELU, TANH], ids=["scale", "sign"])
def test_sizes_carry_multipliers_also_of_dead_neurons(
  x64, target, random_weights, activation
):
  sizes = jax.jit(lambda w: gauge.vertex_sizes(target.spec, w))
  for dead in (True, False):
    weights = random_weights(target, 1, dead)
    g = actions.sample(jax.random.key(1), target.spec, activation, decades=2)
    assert_carries(
      target.spec,
      sizes(weights),
      sizes(actions.act(g, target.spec, weights)),
      g,
      1e-12,
    )


def test_sizes_carry_multipliers_through_a_cascade_of_dead_neurons(
  x64, random_weights
):
  """A neuron fed by a dead neuron alone; one that feeds a dead neuron alone."""
  target = mlp((3, 8, 7, 6, 2))
  weights = random_weights(target, 2)
  for receiver, sender in ((4, 1), (1, 4)):
    kernel = weights[1]["kernel"]
    only = jnp.zeros(8).at[sender].set(1.0)
    weights[1]["kernel"] = kernel.at[:, receiver].set(only)
    weights[1]["bias"] = weights[1]["bias"].at[receiver].set(0)
  weights[1]["kernel"] = weights[1]["kernel"].at[4].set(
    jnp.zeros(7).at[1].set(2.0)
  )
  g = actions.sample(jax.random.key(3), target.spec, decades=2)
  assert_carries(
    target.spec,
    gauge.vertex_sizes(target.spec, weights),
    gauge.vertex_sizes(target.spec, actions.act(g, target.spec, weights)),
    g,
    1e-12,
  )


@pytest.mark.parametrize("biases", [True, False])
def test_sizes_carry_multipliers_where_only_the_inner_layer_writes(
  x64, residual_mlp, random_weights, biases
):
  """Neuron 4 of the stream receives from the inner layer alone."""
  target = residual_mlp
  weights = random_weights(target, 4)
  weights["a"]["kernel"] = weights["a"]["kernel"].at[:, 4].set(0)
  if not biases:
    for layer in ("a", "c"):
      weights[layer]["bias"] = weights[layer]["bias"].at[4].set(0)
  g = actions.sample(jax.random.key(5), target.spec, decades=2)
  assert_carries(
    target.spec,
    gauge.vertex_sizes(target.spec, weights),
    gauge.vertex_sizes(target.spec, actions.act(g, target.spec, weights)),
    g,
    1e-12,
  )


def test_sizes_carry_multipliers_where_dead_neurons_meet_at_a_skip(
  x64, residual_mlp, random_weights
):
  """Neuron 4 within receives nothing and feeds live and dead neurons."""
  target = residual_mlp
  weights = random_weights(target, 6)
  weights["b"]["kernel"] = weights["b"]["kernel"].at[:, 4].set(0)
  weights["b"]["bias"] = weights["b"]["bias"].at[4].set(0)
  g = actions.sample(jax.random.key(7), target.spec, decades=2)
  assert_carries(
    target.spec,
    gauge.vertex_sizes(target.spec, weights),
    gauge.vertex_sizes(target.spec, actions.act(g, target.spec, weights)),
    g,
    1e-12,
  )


def test_sizes_carry_multipliers_that_float32_cannot_square(random_weights):
  weights = random_weights(MLP, 8)
  q = jnp.asarray([1e-25, 1e-22, 1, 1e22, 1e-25, 1, 1e-22, 1])
  g = {
    "hidden_1": actions.Element(jnp.arange(8), q),
    "hidden_2": actions.Element(jnp.arange(7), jnp.full(7, 1e-23)),
  }
  assert_carries(
    MLP.spec,
    gauge.vertex_sizes(MLP.spec, weights),
    gauge.vertex_sizes(MLP.spec, actions.act(g, MLP.spec, weights)),
    g,
    1e-5,
  )


def test_incoming_norm_is_one_after_normalization(target, random_weights):
  weights = random_weights(target, 9, dead=False)
  sizes = gauge.vertex_sizes(target.spec, weights)
  inverse = {name: 1 / s for name, s in sizes.items()}
  weights = gauge.scale_axes(target.spec, weights, inverse, sizes)
  squares = {name: 0.0 for name in hidden(target.spec)}
  for name, weight, axes in specs.leaves(target.spec, weights):
    position, receiver = axes.find(1)
    # Of several writers into a space, the first and all biases count.
    if receiver in squares and name != "c/kernel":
      other = tuple(i for i in range(weight.ndim) if i != position)
      squares[receiver] += np.square(weight).sum(other)
  for square in squares.values():
    np.testing.assert_allclose(square, 1, 1e-5)


def test_gradient_of_sizes_is_finite_with_dead_neurons(target, random_weights):
  @jax.jit
  @jax.grad
  def gradient(weights):
    sizes = gauge.vertex_sizes(target.spec, weights)
    return sum(jnp.log(s).sum() for s in sizes.values())

  for name, value, _ in specs.leaves(
    target.spec, gradient(random_weights(target, 10))
  ):
    assert jnp.isfinite(value).all(), name


def test_balanced_network_is_the_same_function_and_smaller(
  x64, target, random_weights, images
):
  x = images(target, 4)
  weights = random_weights(target, 11)
  balanced = jax.jit(lambda w: gauge.balance(target.spec, w))(weights)
  apply = jax.jit(target.apply)
  np.testing.assert_allclose(
    apply(balanced, x), apply(weights, x), 1e-12, 1e-12
  )
  least = gauge.balanced_l1(target.spec, weights)
  np.testing.assert_allclose(gauge.l1(balanced), least, 1e-12)
  assert least < 0.98 * gauge.l1(weights)
  for name in hidden(target.spec):
    alive = live(target, balanced, name)
    assert 0 < alive.sum() <= len(alive) - 3


def test_neurons_with_an_empty_side_are_removed(x64, target, random_weights):
  weights = gauge.balance(target.spec, random_weights(target, 12))
  for name, weight, axes in specs.leaves(target.spec, weights):
    for power in (1, -1):
      found = axes.find(power)
      if found and not target.spec.spaces[found[1]].fixed:
        assert (np.moveaxis(weight, found[0], 0)[[1, 2, 3]] == 0).all(), name


def test_removing_a_neuron_removes_those_it_alone_keeps_alive(x64):
  target = mlp((1, 1, 1, 1, 1))
  weights = target.init(jax.random.key(0))
  weights[0]["kernel"] = jnp.zeros((1, 1))
  weights[3]["bias"] = jnp.ones(1)
  assert gauge.balanced_l1(target.spec, weights) == 1
  weights = target.init(jax.random.key(0))
  weights[3]["kernel"] = jnp.zeros((1, 1))
  assert gauge.balanced_l1(target.spec, weights) == 0


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


@pytest.mark.parametrize("sizes", [(3, 8, 2), (3, 8, 7, 8, 2), (20, 16, 16, 5)])
def test_twenty_sweeps_find_the_minimum(x64, random_weights, sizes):
  target = mlp(sizes)
  weights = random_weights(target, 13, dead=False)
  g = actions.sample(jax.random.key(14), target.spec, decades=1)
  weights = actions.act(g, target.spec, weights)
  least = minimum(jax.tree.map(np.asarray, weights))
  ours = gauge.balanced_l1(target.spec, weights)
  assert -1e-9 < ours / least - 1 < 1e-6
  assert gauge.l1(weights) / least > 1.1


def test_balanced_l1_is_constant_on_the_orbit(x64, target, random_weights):
  weights = random_weights(target, 15)
  balanced_l1 = jax.jit(lambda w: gauge.balanced_l1(target.spec, w))
  g = actions.sample(jax.random.key(16), target.spec, decades=2)
  moved = actions.act(g, target.spec, weights)
  assert abs(gauge.l1(moved) / gauge.l1(weights) - 1) > 0.5
  np.testing.assert_allclose(balanced_l1(moved), balanced_l1(weights), 1e-6)


def test_balanced_network_is_unique_on_the_orbit_up_to_order(
  x64, random_weights
):
  weights = random_weights(MLP, 17)
  g = actions.sample(jax.random.key(18), MLP.spec, decades=2)
  order = {
    name: e._replace(multiplier=jnp.ones_like(e.multiplier))
    for name, e in g.items()
  }
  balanced = gauge.balance(MLP.spec, weights, sweeps=200)
  moved = gauge.balance(MLP.spec, actions.act(g, MLP.spec, weights), sweeps=200)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-12),
    moved,
    actions.act(order, MLP.spec, balanced),
  )


def test_only_networks_of_the_scale_group_are_balanced(target, random_weights):
  weights = random_weights(target, 19)
  both = jax.jit(
    jax.vmap(lambda i: gauge.balance(target.spec, weights, i))
  )(jnp.asarray([TANH, GELU, RELU]))
  for i in range(2):
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), both, weights
    )
  third = jax.tree.map(lambda a: a[2], both)
  assert gauge.l1(third) < 0.98 * gauge.l1(weights)


def test_gradient_of_balanced_l1_is_that_of_the_minimum(x64, random_weights):
  weights = random_weights(MLP, 20, dead=False)
  direction = random_weights(MLP, 21, dead=False)

  @jax.jit
  def along(t):
    moved = jax.tree.map(lambda w, d: w + t * d, weights, direction)
    return gauge.balanced_l1(MLP.spec, moved, sweeps=300)

  h = 1e-5
  differences = (along(h) - along(-h)) / (2 * h)
  np.testing.assert_allclose(jax.grad(along)(0.0), differences, 1e-8)


def test_gradient_of_balanced_l1_is_finite_with_dead_neurons(
  target, random_weights
):
  gradient = jax.jit(jax.grad(lambda w: gauge.balanced_l1(target.spec, w)))(
    random_weights(target, 22)
  )
  for name, value, _ in specs.leaves(target.spec, gradient):
    assert jnp.isfinite(value).all(), name


def test_public_checkpoint_is_far_from_balanced(x64, shared):
  target = cnn()
  row = np.load(shared / "small_cnn_zoo" / "best_cifar10_gs_relu.npy")
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
  assert round(float(gauge.l1(weights))) == 3245
  assert round(float(least)) == 1343
  np.testing.assert_allclose(balanced(weights, 20), least, 1e-6)


@pytest.mark.parametrize(
  ("axes", "message"),
  [
    ((Axis("a", -1), None), "w has no receiving axis"),
    ((Axis("b", -1), Axis("b", 1)), "w sends and receives in one space"),
  ],
)
def test_weights_that_cannot_be_balanced_are_named(axes, message):
  spec = SymmetrySpec(
    {"a": Space(2), "b": Space(2, ("scale",))}, {"w": Axes(axes)}
  )
  with pytest.raises(ValueError, match=message):
    gauge.balance(spec, {"w": jnp.ones((2, 2))})


def test_spaces_without_the_scale_group_have_factors_one(random_weights):
  spec = dataclasses.replace(
    MLP.spec,
    spaces={**MLP.spec.spaces, "hidden_1": Space(8, ("permutation",))},
  )
  receiving, sending = gauge.balancing_factors(spec, random_weights(MLP, 23))
  assert (receiving["hidden_1"] == 1).all() and (sending["hidden_1"] == 1).all()
  assert (receiving["hidden_2"] != 1).all()
