"""Optimization of the last layer: optimality and invariance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax.base import Axes, Axis, InputError, Networks, SymmetrySpec
from scalegmn_jax.inner import last_layer, objective
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import actions, gauge, measure
from scalegmn_jax.targets import mlp

L1 = 1e-2
TARGET = mlp.mlp((5, 7, 4), ("relu", "tanh"))
SOLVE = last_layer.last_layer_solver(TARGET, l1=L1, steps=6)


def networks(dtype=float):
  keys = jax.random.split(jax.random.key(0), 4)
  weights = jax.jit(jax.vmap(TARGET.init))(keys)
  return Networks(
    jax.tree.map(lambda w: np.asarray(w, dtype), weights), np.arange(4) % 2
  )


def images():
  x = np.random.default_rng(9).normal(size=(60, 5))
  return x, (x[:, :4] ** 2).argmax(1)


def objectives_of(target, data):
  """stacked networks -> their objectives, by one program."""
  losses = finetune_losses(target, l1=L1)
  return jax.jit(lambda z: jax.lax.map(lambda n: losses(n, *data).objective, z))


objectives = objectives_of(TARGET, images())


@jax.jit
def problem():
  keys = jax.random.split(jax.random.key(1), 3)
  f = jax.random.normal(keys[0], (80, 6)) + 1
  truth = jax.random.normal(keys[1], (6, 4))
  labels = (f @ truth + jax.random.gumbel(keys[2], (80, 4))).argmax(1)
  return f, labels, jnp.zeros((6, 4))


@functools.partial(jax.jit, static_argnames=("steps", "sweeps"))
def solved_by(f, labels, start, *, steps, sweeps):
  """(solution, its cross-entropy, the gradient of the cross-entropy)."""
  probs = jax.nn.one_hot(labels, 4)
  w = last_layer.proximal_newton(
    f, probs, start, l1=L1, steps=steps, sweeps=sweeps
  )
  loss = jax.value_and_grad(lambda w: objective.kl_divergence(f @ w, probs))
  return w, *loss(w)


def test_the_optimum(x64):
  """Zero is a subgradient of the convex objective."""
  w, _, gradient = map(np.asarray, solved_by(*problem(), steps=30, sweeps=20))
  pull = np.where(w == 0, np.clip(-gradient, -L1, L1), L1 * np.sign(w))
  np.testing.assert_allclose(gradient + pull, 0, atol=5e-5)
  # The median of each row is zero.
  assert (w == 0).any(1).all()


@pytest.mark.parametrize("size", [0, 3, 30])
def test_no_step_increases_the_objective_and_few_suffice(x64, size):
  """Also from far away, where p (1 - p) vanishes."""
  f, labels, zero = problem()
  start = size * jax.random.normal(jax.random.key(2), zero.shape)
  values = []
  for steps in range(6):
    w, loss, _ = solved_by(f, labels, start, steps=steps, sweeps=3)
    values.append(float(loss) + L1 * np.abs(w).sum())
  assert values == sorted(values, reverse=True)
  assert values[-1] == pytest.approx(0.5728, rel=5e-3)  # the optimum


def test_only_the_last_layer_changes_and_the_objective_falls(x64):
  stacked = networks()
  solved = SOLVE(stacked, *images())
  assert (objectives(solved) < objectives(stacked)).all()
  balanced = gauge.balance_networks(TARGET)(stacked).weights
  jax.tree.map(np.testing.assert_array_equal, solved.weights[0], balanced[0])
  assert (solved.weights[1]["kernel"] != balanced[1]["kernel"]).any()


def test_result_does_not_depend_on_gauge_and_order_of_neurons(x64):
  stacked, x, apply = networks(), images()[0], jax.jit(TARGET.apply)
  for index in range(2):
    network = jax.tree.map(lambda a, i=index: a[i : i + 1], stacked)
    g = actions.sample_on_host(
      np.random.default_rng(3), TARGET.spec, index, decades=2
    )
    regauged = actions.act(
      g, TARGET.spec, jax.tree.map(lambda w: w[0], network.weights)
    )
    after, after_regauged = (
      jax.tree.map(lambda w: w[0], SOLVE(z, *images()).weights)
      for z in (
        network,
        network._replace(weights=jax.tree.map(lambda w: w[None], regauged)),
      )
    )
    # Both are balanced; permutations and signs are left.
    assert float(gauge.l1(TARGET.spec, after)) == pytest.approx(
      float(gauge.l1(TARGET.spec, after_regauged)), rel=1e-9
    )
    np.testing.assert_allclose(
      apply(after_regauged, x, index),
      apply(after, x, index),
      rtol=1e-7,
      atol=1e-9,
    )


def test_network_specific_labels_and_teachers(x64):
  stacked = networks()
  x, labels = images()
  classes = jnp.array([[1, 0, -1, 3], [2, 3, 0, 1], [0, 0, 1, 1], [3, 2, 1, 0]])
  labelled = stacked._replace(class_to_output=classes)
  solved = SOLVE(labelled, x, labels)
  assert (objectives(solved) < objectives(labelled)).all()
  for index, network in enumerate(classes):
    # Images of absent classes have no effect.
    present = network[labels] >= 0
    alone = jax.tree.map(lambda a, i=index: a[i : i + 1], labelled)
    again = SOLVE(alone, x[present], labels[present])
    np.testing.assert_allclose(
      again.weights[1]["kernel"][0],
      solved.weights[1]["kernel"][index],
      rtol=1e-6,
      atol=1e-9,
    )
  taught = stacked._replace(teacher=stacked.weights)
  assert (objectives(SOLVE(taught, x, labels)) < objectives(taught)).all()


def test_every_architecture_is_linear_in_its_last_layer(
  x64, kind, random_weights, images
):
  """Without a step: the same function in the balanced gauge."""
  weights = random_weights(kind, 0)
  stacked = Networks(
    jax.tree.map(lambda w: w[None], weights), jnp.zeros(1, int)
  )
  x = images(kind, 5)
  labels = jnp.zeros(5, int)
  same, solved = (
    jax.tree.map(
      lambda w: w[0],
      last_layer.last_layer_solver(kind, l1=L1, steps=n)(
        stacked, x, labels
      ).weights,
    )
    for n in (0, 2)
  )
  apply = jax.jit(kind.apply)
  np.testing.assert_allclose(
    apply(same, x, 0), apply(weights, x, 0), rtol=1e-8, atol=1e-10
  )
  # All images have label 0.
  assert (apply(solved, x, 0).argmax(1) == 0).all()
  changed = {
    name
    for name, value in jax.jit(
      lambda a, b: measure.relative_error(kind.spec, a, b)
    )(same, solved).items()
    if value > 0
  }
  assert len(changed) == 2


def test_a_last_layer_without_a_bias(x64):
  bare = sg.trace(
    lambda p, x: jax.nn.relu(x @ p["in"]) @ p["out"],
    {"in": jnp.ones((5, 7)), "out": jnp.ones((7, 4))},
    jnp.ones((1, 5)),
    verify=False,
  )
  stacked = networks()
  weights = {
    "in": stacked.weights[0]["kernel"],
    "out": stacked.weights[1]["kernel"],
  }
  stacked = stacked._replace(weights=weights, activation=jnp.zeros(4, int))
  solved = last_layer.last_layer_solver(bare, l1=L1, steps=6)(
    stacked, *images()
  )
  before, after = map(objectives_of(bare, images()), (stacked, solved))
  assert (after < before).all()


def test_the_last_layer_after_a_normalization(x64, normalized):
  """Its kernel and bias change, and nothing else of the balanced network."""
  keys = jax.random.split(jax.random.key(0), 2)
  weights = jax.jit(jax.vmap(normalized.init))(keys)
  stacked = Networks(weights, jnp.zeros(2, int))
  x, labels = images()
  x = x[:, :3]
  solve = last_layer.last_layer_solver(normalized, l1=L1, steps=6)
  solved = solve(stacked, x, labels)
  balanced = gauge.balance_networks(normalized)(stacked)
  changed = {
    name
    for name, value in jax.jit(
      lambda a, b: measure.relative_error(normalized.spec, a, b)
    )(solved.weights, balanced.weights).items()
    if value > 1e-12
  }
  assert changed == {"params/out/kernel", "params/out/bias"}
  before, after = map(objectives_of(normalized, (x, labels)), (stacked, solved))
  assert (after < before).all()


def test_non_finite_networks_do_not_affect_others(x64):
  stacked = networks()
  spoilt = jax.tree.map(np.copy, stacked.weights)
  for leaf in jax.tree.leaves(spoilt):
    leaf[1] = np.nan
  solved = SOLVE(stacked._replace(weights=spoilt), *images())
  expected = SOLVE(stacked, *images())
  for after, before in zip(
    jax.tree.leaves(solved.weights),
    jax.tree.leaves(expected.weights),
    strict=True,
  ):
    np.testing.assert_allclose(after[jnp.array([0, 2, 3])],
                               before[jnp.array([0, 2, 3])])  # fmt: skip


def test_outputs_with_other_weights_are_refused():
  """A skip connection from the inputs."""
  skip = {"skip": Axes((Axis("input", -1), Axis("output", 1)))}
  axes = TARGET.spec.axes
  bent = TARGET._replace(
    spec=SymmetrySpec(TARGET.spec.spaces, (axes[0], axes[1] | skip))
  )

  def init(key):
    first, last = TARGET.init(key)
    return first, last | {"skip": jnp.ones((5, 4))}

  with pytest.raises(InputError, match="1/bias, 1/kernel, 1/skip; expected"):
    last_layer.last_layer_solver(bent._replace(init=init), l1=L1)


NOT_LINEAR = {
  "activation": lambda p, x: jnp.tanh(x @ p["out"] + p["gain"][None]),
  "twice": lambda p, x: x @ p["out"] @ p["out"].T @ p["out"] + p["gain"][None],
  "shape": lambda p, x: (x @ p["out"] + p["gain"][None])[:, None],
  "scale": lambda p, x: x @ p["out"] * p["gain"][None],
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_outputs_that_are_not_linear_are_refused(name):
  params = {
    "in": jnp.ones((5, 7)), "out": jnp.ones((7, 4)), "gain": jnp.ones(4),
  }  # fmt: skip
  bent = sg.trace(
    lambda p, x: NOT_LINEAR[name](p, jax.nn.relu(x @ p["in"])),
    params,
    jnp.ones((1, 5)),
    verify=False,
  )
  with pytest.raises(InputError, match="weight out: expected outputs") as error:
    last_layer.last_layer_solver(bent, l1=L1)
  assert "\n" not in str(error.value)
