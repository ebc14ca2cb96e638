"""Metanetworks on standardized weights, and flat MLPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Operator
from scalegmn_jax.baselines import flat, standardized, symmetry_levels
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp
from scalegmn_jax.training.optimizer import make_optimizer
from tests.gmn.parameters import random_params

TARGET = mlp.mlp((4, 6, 3), ("relu", "tanh"))
PER = ("entry", "tensor")


def random_weights():
  """Weights with different means and sizes, leaves [5, ...]."""
  keys = jax.random.split(jax.random.key(0), 5)
  weights = jax.jit(jax.vmap(TARGET.init))(keys)
  leaves, structure = jax.tree.flatten(weights)
  rng = np.random.default_rng(0)
  return jax.tree.unflatten(
    structure,
    [
      jax.device_put(rng.normal(i, i + 1, w.shape).astype(w.dtype))
      for i, w in enumerate(leaves)
    ],
  )


@pytest.mark.parametrize("per", PER)
def test_standardized_operators_start_at_the_identity(per):
  weights = random_weights()
  operator = standardized.standardized_operator(
    flat.flat_operator(TARGET, width=8, step=0.0), TARGET, weights, per=per
  )
  params = jax.jit(operator.init)(jax.random.key(0))
  edited = jax.jit(jax.vmap(lambda w: operator.apply(params, w)))(weights)
  for a, b in zip(*map(jax.tree.leaves, (edited, weights)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("per", PER)
def test_functionals_get_standardized_weights(per):
  """Mean 0 and deviation 1 over networks, per tensor or per entry."""
  weights = random_weights()
  spy = Operator(lambda key: None, lambda params, w, activation: w)
  functional = standardized.standardized_functional(spy, weights, per=per)
  params = jax.jit(functional.init)(jax.random.key(0))
  seen = jax.vmap(lambda w: functional.apply(params, w))(weights)
  for leaf in jax.tree.leaves(seen):
    axes = 0 if per == "entry" else tuple(range(leaf.ndim))
    np.testing.assert_allclose(leaf.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(leaf.std(axes), 1, atol=1e-4)
    if per == "tensor":  # entries still differ in the mean
      assert abs(leaf.mean(0)).max() > 0.1


@pytest.mark.parametrize("per", PER)
def test_statistics_are_not_trained(per):
  """They have neither a gradient nor weight decay."""
  functional = standardized.standardized_functional(
    flat.flat_functional(TARGET, width=8), random_weights(), per=per
  )
  params = jax.jit(functional.init)(jax.random.key(0))
  optimizer = make_optimizer(
    learning_rate=1.0, steps=3, warmup=1, weight_decay=0.1, clip=1.0
  )
  weights = TARGET.init(jax.random.key(1))
  gradient = jax.jit(jax.grad(lambda p: functional.apply(p, weights).sum()))(
    params
  )
  update = jax.jit(optimizer.update)
  state = jax.jit(optimizer.init)(params)
  for _ in range(2):  # the rate of the first step is 0
    updates, state = update(gradient, state, params)
  for name in ("mean", "std"):
    assert not any(u.any() for u in jax.tree.leaves(updates[name]))
  assert any(u.any() for u in jax.tree.leaves(updates["model"]))


def values_of(functional):
  """(weights [B, ...], activation) -> values [B, K], at some parameters."""
  params = jax.jit(functional.init)(jax.random.key(2))

  @jax.jit
  def values(weights, activation=0):
    return jax.vmap(lambda w: functional.apply(params, w, activation))(weights)

  return values


def relative(a, b):
  return float(jnp.abs(a - b).max() / b.std())


def regauged(weights, decades):
  """Permuted, and scaled by 10**±decades."""

  @jax.jit
  def act(weights):
    g = actions.sample(jax.random.key(3), TARGET.spec, 0, decades=decades)
    return jax.vmap(lambda w: actions.act(g, TARGET.spec, w))(weights)

  return act(weights)


def test_the_permutation_only_functional_is_invariant_only_to_permutations(x64):
  weights = jax.tree.map(lambda w: w.astype(float), random_weights())
  functional = standardized.standardized_functional(
    metanetworks.functional(TARGET, width=6, depth=1, symmetry="permutation"),
    weights,
    per="tensor",
  )
  f = values_of(functional)
  assert f(weights).std() > 1e-3
  permuted, scaled = (regauged(weights, d) for d in (0.0, 1.0))
  assert relative(f(permuted), f(weights)) < 1e-10
  assert relative(f(scaled), f(weights)) > 1e-2


def test_the_flat_functional_is_not_invariant():
  weights = random_weights()
  f = values_of(flat.flat_functional(TARGET, width=8, outputs=2))
  assert f(weights).shape == (5, 2)
  assert relative(f(regauged(weights, 0.0)), f(weights)) > 1e-2


def test_select_head_by_activation():
  weights = random_weights()
  heads = flat.flat_functional(TARGET, width=8, outputs=6)
  all_heads = values_of(heads)(weights)
  selected = values_of(standardized.select_head(heads, 2))
  np.testing.assert_allclose(selected(weights, 0), all_heads[:, :3], 1e-6)
  np.testing.assert_allclose(selected(weights, 1), all_heads[:, 3:], 1e-6)
  # Without the selection the functional ignores the activation.
  np.testing.assert_array_equal(values_of(heads)(weights, 1), all_heads)


def test_batches_are_standardized_by_id(mixed_dataset):
  """To root mean square 1 over the networks that are named."""
  _, networks = mixed_dataset
  chosen = np.array([0, 3, 5, 6, 9, 14])
  seen = []
  heads = jnp.array([1.0, 2.0, 3.0, 4.0])  # two of each activation
  spy = Operator(
    lambda key: None,
    lambda params, batch: (
      seen.append(batch) or jnp.tile(heads, (batch.graph.n_node.shape[0], 1))
    ),
  )
  functional = standardized.standardized_batch_functional(spy, networks, chosen)
  sections = pack.SectionSizes(*networks.rows(chosen).tolist())
  batch = networks.batch(chosen, sections, 7)
  jax.eval_shape(functional.apply, None, batch)  # as within a program
  seen.clear()
  read = np.asarray(functional.apply(None, batch))
  # Activations take turns in pairs.
  assert read[:6].tolist() == [
    [3.0, 4.0] if n // 2 % 2 else [1.0, 2.0] for n in chosen
  ]
  (scaled,) = seen
  for rows, name in (("nodes", "bias"), ("edges", "kernel")):
    before, after = (getattr(b.graph, rows) for b in (batch, scaled))
    values, kinds = np.asarray(after[name]), np.asarray(after["type"])
    for kind in np.unique(kinds):
      used = values[kinds == kind]
      used = used[used != 0]
      if used.size:
        np.testing.assert_allclose(np.square(used).mean(), 1, 1e-5)
    np.testing.assert_array_equal(values == 0, before[name] == 0)


def test_standardized_operators_keep_running_statistics(normalized):
  keys = jax.random.split(jax.random.key(0), 4)
  weights = jax.vmap(normalized.init)(keys)
  operator = symmetry_levels.operator_with_symmetry(
    "permutation", {"width": 2, "depth": 1, "step": 0.5}, normalized, weights
  )
  params = random_params(operator)
  one = jax.tree.map(lambda w: w[0], weights)
  edited = jax.jit(operator.apply)(params, one)
  assert (edited["params"]["in"] != one["params"]["in"]).all()
  jax.tree.map(
    np.testing.assert_array_equal, edited["batch_stats"], one["batch_stats"]
  )


def test_flat_operators_keep_running_statistics(normalized):
  weights = normalized.init(jax.random.key(0))
  operator = flat.flat_operator(normalized, width=2, step=1.0)
  params = jax.jit(operator.init)(jax.random.key(1))
  edited = jax.jit(operator.apply)(params, weights)
  assert (edited["params"]["in"] != weights["params"]["in"]).all()
  jax.tree.map(
    np.testing.assert_array_equal,
    edited["batch_stats"],
    weights["batch_stats"],
  )
