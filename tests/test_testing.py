"""The public assertions pass exactly for functions with the symmetry."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.base import Axes, Axis, InputError, Space
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((3, 8, 2), ("relu", "tanh"))
SPEC = TARGET.spec
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def outputs(weights):
  return TARGET.apply(weights, X)


def equivariant(weights):
  """The weights, multiplied by an invariant."""
  gate = 2 + jnp.sin(outputs(weights).sum())
  return jax.tree.map(lambda w: w * gate, weights)


def with_last_kernel(f, change):
  """Changes the update of the last kernel that f returns."""

  def changed(weights):
    *rest, last = f(weights)
    return (*rest, {**last, "kernel": change(last["kernel"], weights)})

  return changed


@pytest.fixture(scope="module")
def weights(random_weights):
  return random_weights(TARGET, 0, dead=False)


@pytest.fixture(scope="module")
def stacked(random_weights):
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
    lambda update, weights: update * gauge.l1(SPEC, weights),
  ],
  ids=["constant", "gauge"],
)
def test_one_wrong_tensor_is_named(weights, change):
  with pytest.raises(AssertionError, match="update of 1/kernel has relative"):
    testing.assert_equivariant(
      with_last_kernel(equivariant, change), SPEC, weights, KEY
    )


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_update_that_is_zero_or_not_finite_shows_nothing(weights, value):
  f = with_last_kernel(equivariant, lambda u, _: jnp.full_like(u, value))
  with pytest.raises(AssertionError, match="1/kernel is zero or not finite"):
    testing.assert_equivariant(f, SPEC, weights, KEY)


def test_an_update_that_overflows_elsewhere_on_the_orbit_fails(weights):
  def exploding(update, weights):
    regauged = weights[1]["kernel"][0, 0] != first
    return jnp.where(regauged, jnp.nan, update)

  first = weights[1]["kernel"][0, 0]
  with pytest.raises(AssertionError, match="1/kernel has relative error inf"):
    testing.assert_equivariant(
      with_last_kernel(equivariant, exploding), SPEC, weights, KEY
    )


def test_the_activation_selects_the_group(weights):
  def scale_equivariant(weights):
    """Norms of incoming weights do not carry signs."""
    rows = jnp.vstack([weights[0]["bias"][None], weights[0]["kernel"]])
    sizes = {"hidden_1": jnp.linalg.norm(rows, axis=0)}
    inverse = {name: 1 / s for name, s in sizes.items()}
    ones = jax.tree.map(jnp.ones_like, weights)
    return gauge.scale_axes(SPEC, ones, sizes, inverse)

  testing.assert_equivariant(
    scale_equivariant, SPEC, weights, KEY, activation=0
  )
  with pytest.raises(AssertionError, match="not equivariant"):
    testing.assert_equivariant(
      scale_equivariant, SPEC, weights, KEY, activation=1
    )


def test_the_worst_of_several_samples_counts(weights):
  def f(weights):
    return jax.tree.map(jnp.tanh, weights)

  @jax.jit
  def measure(key):
    three = testing.equivariance_error(f, SPEC, weights, key, samples=3)
    keys = jax.random.split(key, 3)
    elements = jax.vmap(lambda k: actions.sample(k, SPEC))(keys)
    return three, elements

  worst, elements = measure(KEY)
  assert list(worst) == ["0/bias", "0/kernel", "1/bias", "1/kernel"]
  assert all(e.shape == () for e in worst.values())
  # The bias of the hidden neurons: tanh(q b) / q against tanh(b).
  b, q = np.asarray(weights[0]["bias"]), elements["hidden_1"].multiplier
  b, q = b[np.asarray(elements["hidden_1"].permutation)], np.asarray(q)
  distance = np.linalg.norm(np.tanh(q * b) / q - np.tanh(b), axis=1)
  expected = distance.max() / np.linalg.norm(np.tanh(b[0]))
  np.testing.assert_allclose(worst["0/bias"], expected, 1e-4)
  assert distance.max() > 1.05 * distance.min()
  assert worst["1/bias"] < 1e-6


def test_errors_of_small_updates_are_relative(weights):
  def tiny(weights):
    return jax.tree.map(lambda u: 1e-30 * u, equivariant(weights))

  testing.assert_equivariant(tiny, SPEC, weights, KEY)


def test_invariant_function_passes(stacked):
  testing.assert_invariant(outputs, SPEC, stacked, KEY, samples=2)


def test_function_that_is_not_invariant_fails(stacked):
  def f(weights):
    return outputs(weights) + 1e-3 * weights[0]["bias"][0]

  with pytest.raises(AssertionError, match="not invariant"):
    testing.assert_invariant(f, SPEC, stacked, KEY)


@pytest.mark.parametrize(
  "f",
  [
    lambda w: jnp.stack([outputs(w).sum(), jnp.ones(())]),
    lambda w: jnp.nan * outputs(w),
  ],
  ids=["one output", "nan"],
)
def test_function_that_is_the_same_for_all_networks_shows_nothing(stacked, f):
  with pytest.raises(AssertionError, match="it shows nothing"):
    testing.assert_invariant(f, SPEC, stacked, KEY)


def test_least_spread_is_an_option(stacked):
  def small(weights):
    return 1e-6 * outputs(weights)

  testing.assert_invariant(small, SPEC, stacked, KEY, spread=1e-9)


def test_measure_of_invariance_is_in_units_of_the_spread(stacked):
  @jax.jit
  def measure(key):
    return testing.invariance_error(
      lambda w: gauge.l1(SPEC, w) * jnp.array([1, 1000]), SPEC, stacked, key
    )

  result = measure(KEY)
  np.testing.assert_allclose(result.error[0], result.error[1], 1e-4)
  spread = np.asarray(
    jax.vmap(functools.partial(gauge.l1, SPEC))(stacked)
  ).std()
  np.testing.assert_allclose(result.spread, [spread, 1000 * spread], 1e-3)


def test_a_value_that_is_not_finite_elsewhere_on_the_orbit_fails(stacked):
  firsts = stacked[1]["kernel"][:, 0, 0]

  def f(weights):
    regauged = (weights[1]["kernel"][0, 0] != firsts).all()
    return jnp.where(regauged, jnp.nan, outputs(weights).sum())

  with pytest.raises(AssertionError, match="changes by inf"):
    testing.assert_invariant(f, SPEC, stacked, KEY)


def test_declared_symmetries_of_all_targets_hold(target):
  testing.assert_symmetric(target, KEY)


def redeclared(target, **layers):
  """The residual target with other axes: {layer: (sender, receiver)}."""
  axes = dict(target.spec.axes)
  for layer, (sender, receiver) in layers.items():
    axes[layer] = {
      "bias": Axes((Axis(receiver, 1),)),
      "kernel": Axes((Axis(sender, -1), Axis(receiver, 1))),
    }
  return target._replace(spec=dataclasses.replace(target.spec, axes=axes))


def with_bias(target, axis):
  axes = dict(target.spec.axes)
  axes["b"] = axes["b"] | {"bias": Axes((axis,))}
  return target._replace(spec=dataclasses.replace(target.spec, axes=axes))


def with_space(target, name, space):
  spaces = target.spec.spaces | {name: space}
  return target._replace(spec=dataclasses.replace(target.spec, spaces=spaces))


@pytest.fixture(scope="module")
def square(residual_mlp):
  """The residual target with as many inner neurons as the stream has."""
  inner = {"b": ((8,), (8, 8)), "c": ((8,), (8, 8))}

  def init(key):
    return residual_mlp.init(key) | {
      layer: {
        "bias": jnp.zeros(bias),
        "kernel": 0.3 * jax.random.normal(jax.random.fold_in(key, i), kernel),
      }
      for i, (layer, (bias, kernel)) in enumerate(inner.items())
    }

  target = residual_mlp._replace(init=init)
  return with_space(target, "inner", Space(8, ("scale",)))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda t: redeclared(t, c=("inner", "inner")),
      r"axis 0 of weight c/bias is .* but Axis\('stream', 1\) fits and axis 1 "
      r"of weight c/kernel .*'inner', 1\), but Axis\('stream', 1\) fits$",
    ),
    (
      lambda t: with_bias(t, Axis("inner", -1)),
      r": axis 0 of weight b/bias .* but Axis\('inner', 1\) fits$",
    ),
    (
      lambda t: with_bias(t, None),
      r": axis 0 of weight b/bias is declared as None, but Axis\('inner', 1\)",
    ),
    (
      lambda t: with_space(t, "output", Space(2, ("scale",))),
      r"axis 1 of weight d/kernel is declared as Axis\('output', 1\), but None",
    ),
    (
      lambda t: with_space(t, "inner", Space(8, ("sign",))),
      "permutations of inner are symmetries, their multipliers are not",
    ),
  ],
  ids=["receiver", "power", "no axis", "output", "group"],
)
def test_the_weight_to_blame_is_named(square, change, message):
  testing.assert_symmetric(square, KEY)
  with pytest.raises(AssertionError, match=message) as error:
    testing.assert_symmetric(change(square), KEY)
  assert str(error.value).startswith("activation 'relu': the declared symmetry")


def test_a_network_that_no_axis_makes_symmetric(square):
  def apply(weights, x, activation=0):
    return square.apply(weights, x) + weights["a"]["kernel"][0, 0] * x[:, :2]

  with pytest.raises(AssertionError, match="the spaces stream is wrong, or "):
    testing.assert_symmetric(square._replace(apply=apply), KEY)


def test_each_activation_is_tested():
  target = mlp((3, 4, 2), ("relu", "silu"))
  wrong = with_space(target, "hidden_1", Space(4, ("scale", "scale")))
  with pytest.raises(AssertionError, match="^activation 'silu'"):
    testing.assert_symmetric(wrong, KEY)


def test_outputs_that_do_not_depend_on_inputs_show_nothing():
  target = mlp((3, 4, 2))
  constant = target._replace(
    apply=lambda w, x, activation=0: jnp.ones((len(x), 2))
  )
  with pytest.raises(AssertionError, match="show nothing"):
    testing.assert_symmetric(constant, KEY)
  with pytest.raises(InputError, match="'hidden_1' has 4 neurons"):
    testing.assert_symmetric(target._replace(init=mlp((3, 5, 2)).init), KEY)
