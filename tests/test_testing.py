"""The public assertions pass what is equivariant, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.symmetry import canonical, gauge
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((3, 8, 9, 2), ("relu", "tanh"))
SPEC = TARGET.spec
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def equivariant(weights):
  """Of the size of the gauge, in the direction of the weights."""
  sizes = gauge.vertex_sizes(SPEC, weights)
  inverse = {name: 1 / s for name, s in sizes.items()}
  normalized = gauge.scale_axes(SPEC, weights, inverse, sizes)
  gates = jax.tree.map(jnp.tanh, normalized)
  return jax.tree.map(jnp.multiply, weights, gates)


def with_last_kernel(f, change):
  """f with another update of the last kernel."""

  def changed(weights):
    *rest, last = f(weights)
    return (*rest, {**last, "kernel": change(last["kernel"], weights)})

  return changed


@pytest.fixture(scope="module")
def weights(random_weights):
  return random_weights(TARGET, 0, dead=False)


@pytest.fixture(scope="module")
def zoo(random_weights):
  networks = [random_weights(TARGET, i, dead=False) for i in range(5)]
  return jax.tree.map(lambda *w: jnp.stack(w), *networks)


def test_equivariant_function_passes(weights):
  testing.assert_equivariant(equivariant, SPEC, weights, KEY, samples=3)


def test_equivariant_function_is_exact_in_float64(x64, random_weights):
  testing.assert_equivariant(
    equivariant,
    SPEC,
    random_weights(TARGET, 0, dead=False),
    KEY,
    decades=2.0,
    tolerance=1e-12,
  )


@pytest.mark.parametrize(
  "change",
  [
    lambda update, weights: update + 1e-3,
    lambda update, weights: jnp.tanh(update),
    lambda update, weights: update[::-1],
    lambda update, weights: update * gauge.l1(weights),
  ],
  ids=["constant", "elementwise", "order", "gauge"],
)
def test_one_wrong_tensor_is_named(weights, change):
  with pytest.raises(AssertionError, match="update of 2/kernel has relative"):
    testing.assert_equivariant(
      with_last_kernel(equivariant, change), SPEC, weights, KEY
    )


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_update_that_is_zero_or_not_finite_shows_nothing(weights, value):
  f = with_last_kernel(equivariant, lambda u, _: jnp.full_like(u, value))
  with pytest.raises(AssertionError, match="2/kernel is zero or not finite"):
    testing.assert_equivariant(f, SPEC, weights, KEY)


def test_zero_function_fails(weights):
  with pytest.raises(AssertionError, match="it shows nothing"):
    testing.assert_equivariant(
      lambda w: jax.tree.map(jnp.zeros_like, w), SPEC, weights, KEY
    )


def test_an_update_that_overflows_elsewhere_on_the_orbit_fails(weights):
  def exploding(update, weights):
    changed = weights[1]["kernel"][0, 0] != first
    return jnp.where(changed, jnp.nan, update)

  first = weights[1]["kernel"][0, 0]
  with pytest.raises(AssertionError, match="2/kernel has relative error inf"):
    testing.assert_equivariant(
      with_last_kernel(equivariant, exploding), SPEC, weights, KEY
    )


def test_group_is_that_of_the_activation(weights):
  def of_scale_alone(weights):
    """Sizes forget signs."""
    sizes = gauge.vertex_sizes(SPEC, weights)
    inverse = {name: 1 / s for name, s in sizes.items()}
    ones = jax.tree.map(jnp.ones_like, weights)
    return gauge.scale_axes(SPEC, ones, sizes, inverse)

  testing.assert_equivariant(of_scale_alone, SPEC, weights, KEY, activation=0)
  with pytest.raises(AssertionError, match="not equivariant"):
    testing.assert_equivariant(of_scale_alone, SPEC, weights, KEY, activation=1)


def test_the_worst_of_several_samples_counts(weights):
  def error(key, samples):
    return testing.equivariance_error(
      lambda w: jax.tree.map(jnp.tanh, w), SPEC, weights, key, samples=samples
    )

  worst = jax.jit(functools.partial(error, samples=3))(KEY)
  assert list(worst) == [f"{i}/{n}" for i in range(3) for n in ("bias", "kernel")]
  assert all(e.shape == () and 0.01 < e < 100 for e in worst.values())
  with pytest.raises(AssertionError, match=f"{max(worst.values()):.3g}"):
    testing.assert_equivariant(
      lambda w: jax.tree.map(jnp.tanh, w), SPEC, weights, KEY, samples=3
    )


def test_small_updates_are_measured_like_large_ones(weights):
  def tiny(weights):
    return jax.tree.map(lambda u: 1e-30 * u, equivariant(weights))

  testing.assert_equivariant(tiny, SPEC, weights, KEY)


def outputs(weights):
  return TARGET.apply(weights, X)


def test_invariant_function_passes(zoo):
  testing.assert_invariant(outputs, SPEC, zoo, KEY, samples=2)


@pytest.mark.parametrize(
  "f",
  [
    gauge.l1,
    lambda w: outputs(w) + 1e-3 * w[0]["bias"][0],
    lambda w: canonical.norm(w[1]["kernel"].ravel()),
  ],
  ids=["l1", "one weight", "norm"],
)
def test_function_that_is_not_invariant_fails(zoo, f):
  with pytest.raises(AssertionError, match="not invariant"):
    testing.assert_invariant(f, SPEC, zoo, KEY)


@pytest.mark.parametrize(
  "f",
  [
    lambda w: jnp.ones(()),
    lambda w: 1e-6 * gauge.l1(w),
    lambda w: jnp.stack([outputs(w).sum(), jnp.ones(())]),
    lambda w: jnp.nan * outputs(w),
  ],
  ids=["constant", "small", "one output", "nan"],
)
def test_function_that_is_the_same_for_all_networks_shows_nothing(zoo, f):
  with pytest.raises(AssertionError, match="it shows nothing"):
    testing.assert_invariant(f, SPEC, zoo, KEY)


def test_least_spread_can_be_chosen(zoo):
  def small(weights):
    return 1e-6 * outputs(weights)

  testing.assert_invariant(small, SPEC, zoo, KEY, spread=1e-9)


def test_measure_of_invariance_is_in_units_of_the_spread(zoo):
  @jax.jit
  def measure(key):
    return testing.invariance_error(
      lambda w: jnp.stack([gauge.l1(w), 1000 * gauge.l1(w)]), SPEC, zoo, key
    )

  measured = measure(KEY)
  np.testing.assert_allclose(measured.error[0], measured.error[1], 1e-4)
  values = [gauge.l1(jax.tree.map(lambda w: w[i], zoo)) for i in range(5)]
  np.testing.assert_allclose(
    measured.spread, np.std(values) * np.float32([1, 1000]), 1e-3
  )


def test_a_value_that_is_not_finite_elsewhere_on_the_orbit_fails(zoo):
  firsts = zoo[1]["kernel"][:, 0, 0]

  def f(weights):
    moved = (weights[1]["kernel"][0, 0] != firsts).all()
    return jnp.where(moved, jnp.nan, outputs(weights).sum())

  with pytest.raises(AssertionError, match="changes by inf"):
    testing.assert_invariant(f, SPEC, zoo, KEY)
