"""The group: its laws, and the invariance of network functions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets.mlp import mlp

GROUPS = ("scale", "sign", "permutation")
MLP = mlp((3, 8, 9, 2), ("relu", "tanh", "gelu"))


def assert_trees_close(a, b, tolerance=1e-12):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, tolerance), a, b)


def relative(a, b):
  """The largest difference, in units of the largest value."""
  a, b = np.asarray(a), np.asarray(b)
  return float(np.abs(a - b).max() / np.abs(b).max())


def identity(spec):
  return {
    name: actions.Element(jnp.arange(s.size), jnp.ones(s.size))
    for name, s in spec.spaces.items()
    if not s.fixed
  }


@pytest.mark.parametrize("activation", range(3), ids=GROUPS)
def test_samples_are_in_the_group(x64, activation):
  key = jax.random.key(activation)
  g = jax.device_get(actions.sample(key, MLP.spec, activation, decades=2.0))
  assert list(g) == ["hidden_1", "hidden_2"]
  for name, (permutation, q) in g.items():
    n = MLP.spec.spaces[name].size
    np.testing.assert_array_equal(np.sort(permutation), np.arange(n))
    assert q.dtype == np.float64
    if GROUPS[activation] == "scale":
      assert (q > 0).all() and (np.abs(np.log10(q)) <= 2).all()
      assert np.log10(q).std() > 0.3
    elif GROUPS[activation] == "sign":
      assert (np.abs(q) == 1).all() and np.unique(q).size == 2
    else:
      assert (q == 1).all()


def test_identity_changes_nothing(x64, random_weights):
  weights = random_weights(MLP, 0)
  same = actions.act(identity(MLP.spec), MLP.spec, weights)
  jax.tree.map(np.testing.assert_array_equal, same, weights)


@pytest.mark.parametrize("activation", range(3), ids=GROUPS)
def test_inverse_undoes_on_both_sides(x64, random_weights, activation):
  weights = random_weights(MLP, 1)
  g = actions.sample(jax.random.key(2), MLP.spec, activation, decades=2.0)
  back = actions.inverse(g)
  for first, second in ((g, back), (back, g)):
    acted = actions.act(first, MLP.spec, weights)
    assert relative(acted[1]["kernel"], weights[1]["kernel"]) > 0.1
    assert_trees_close(actions.act(second, MLP.spec, acted), weights)
    assert_trees_close(actions.compose(first, second), identity(MLP.spec))


@pytest.mark.parametrize("activation", range(2), ids=GROUPS[:2])
def test_composition_acts_like_two_actions_in_turn(
  x64, random_weights, activation
):
  weights = random_weights(MLP, 1)
  g, h, k = (
    actions.sample(jax.random.key(i), MLP.spec, activation) for i in range(3)
  )
  gh = actions.compose(g, h)
  assert_trees_close(
    actions.act(gh, MLP.spec, weights),
    actions.act(g, MLP.spec, actions.act(h, MLP.spec, weights)),
  )
  assert_trees_close(
    actions.compose(gh, k), actions.compose(g, actions.compose(h, k))
  )
  assert_trees_close(
    actions.inverse(gh),
    actions.compose(actions.inverse(h), actions.inverse(g)),
  )


def test_action_on_single_weights_is_the_formula(x64, random_weights):
  weights = random_weights(MLP, 3)
  g = actions.sample(jax.random.key(4), MLP.spec)
  new = actions.act(g, MLP.spec, weights)[1]
  old = jax.tree.map(np.asarray, weights)[1]
  (p, q), (r, s) = jax.tree.map(np.asarray, (g["hidden_1"], g["hidden_2"]))
  for i in range(9):
    np.testing.assert_allclose(new["bias"][i], s[i] * old["bias"][r[i]])
    np.testing.assert_allclose(
      new["kernel"][:, i],
      [s[i] * old["kernel"][p[j], r[i]] / q[j] for j in range(8)],
    )


def test_function_is_unchanged_for_every_activation(
  x64, target, random_weights, images
):
  weights, x = random_weights(target, 5), images(target, 4)
  apply = jax.jit(target.apply)
  act = jax.jit(lambda g: actions.act(g, target.spec, weights))
  rng, outputs = np.random.default_rng(0), []
  for i, name in enumerate(target.activations):
    g = actions.sample_on_host(rng, target.spec, i, decades=2.0)
    before, after = jax.device_get((apply(weights, x, i), apply(act(g), x, i)))
    assert before.dtype == np.float64
    assert before.std(0).min() > 1e-3, name
    assert relative(after, before) < 1e-12, name
    outputs.append(before)
  # The activations differ, so the loop tested several.
  for a, b in zip(outputs[:-1], outputs[1:], strict=True):
    assert relative(a, b) > 1e-3


@pytest.mark.parametrize(
  ("activation", "wrong"),
  [("relu", "sign"), ("tanh", "scale"), ("gelu", "scale"), ("gelu", "sign")],
)
def test_function_changes_under_the_wrong_group(
  x64, random_weights, activation, wrong
):
  target = mlp((3, 8, 9, 2), activation)
  spec = dataclasses.replace(
    target.spec,
    spaces={
      name: dataclasses.replace(s, groups=() if s.fixed else (wrong,))
      for name, s in target.spec.spaces.items()
    },
  )
  weights = random_weights(target, 6)
  rng = np.random.default_rng(7)
  x, g = rng.normal(size=(4, 3)), actions.sample_on_host(rng, spec)
  apply, weights = jax.jit(target.apply), jax.device_get(weights)
  wrong = apply(actions.act(g, spec, weights), x)
  assert relative(wrong, apply(weights, x)) > 0.01


def test_elements_are_sampled_and_act_under_vmap_and_jit(x64, random_weights):
  weights = [random_weights(MLP, i) for i in range(3)]
  stacked = jax.tree.map(lambda *w: jnp.stack(w), *weights)
  keys = jax.random.split(jax.random.key(0), 3)

  def regauge(key, weights):
    return actions.act(actions.sample(key, MLP.spec), MLP.spec, weights)

  stacked_result = jax.jit(jax.vmap(regauge))(keys, stacked)
  single = regauge(keys[1], weights[1])
  assert_trees_close(jax.tree.map(lambda w: w[1], stacked_result), single)
