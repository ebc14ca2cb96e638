"""Trained metanetworks as functions of one network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import base, trained
from scalegmn_jax.base import InputError
from scalegmn_jax.eval import weight_range
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((3, 4, 2), ("relu", "tanh"))


def operator_of(target=TARGET, about=None, change=None, **model):
  """An untrained operator whose updates `change` may replace."""
  metanetwork = metanetworks.operator(target, **model)
  params = jax.jit(metanetwork.init)(jax.random.key(0))
  if change:
    metanetwork = metanetwork._replace(apply=change)
  return trained.TrainedOperator(
    target, metanetwork, params, model, about=about or {}
  )


SMALL = {"width": 2, "depth": 0}
WEIGHTS = TARGET.init(jax.random.key(1))


def test_values_that_are_not_finite_are_refused():
  operator = operator_of(**SMALL)
  spoiled = jax.tree.map(lambda w: w.at[0].set(jnp.inf), WEIGHTS)
  with pytest.raises(InputError, match="0/bias holds 1 NaN or infinity"):
    operator(spoiled)
  # Traced values are not known.
  assert not jnp.isfinite(jax.jit(operator)(spoiled)[0]["bias"]).all()

  def overflow(params, weights, activation=0):
    return jax.tree.map(lambda w: w + jnp.inf, weights)

  with pytest.raises(InputError, match="result of the operator is not finite"):
    operator_of(change=overflow, **SMALL)(WEIGHTS)


def test_a_known_network_is_edited_within_jit():
  operator = operator_of(**SMALL)
  shifted = jax.jit(lambda x: operator(WEIGHTS)[0]["bias"] + x)(1.0)
  np.testing.assert_allclose(shifted, operator(WEIGHTS)[0]["bias"] + 1, 1e-6)


def test_a_network_far_outside_the_range_is_told():
  networks = jax.vmap(TARGET.init)(jax.random.split(jax.random.key(3), 20))
  networks = base.Networks(networks, jnp.zeros(20, int))
  statistics = weight_range.measure(TARGET, networks)
  operator = operator_of(about={"statistics": statistics}, **SMALL)
  operator(WEIGHTS)
  far = jax.tree.map(lambda w: 100 * w, WEIGHTS)
  with pytest.warns(match="0/kernel has root mean square .* 20 networks"):
    operator(far)
  jax.jit(operator)(far)
  jax.vmap(operator)(jax.tree.map(lambda w: w[None], far))


X = jax.random.normal(jax.random.key(4), (40, 3))


def rescaled(params, weights, activation=0):
  """An edit that flips the outputs: bad, unless the network was wrong."""
  return (weights[0], jax.tree.map(lambda w: -w, weights[1]))


def test_the_original_is_kept_where_the_edit_is_worse_on_images():
  operator = operator_of(change=rescaled, **SMALL)
  edited = operator(WEIGHTS)
  right = TARGET.apply(WEIGHTS, X).argmax(-1)
  confident = (WEIGHTS[0], jax.tree.map(lambda w: 9 * w, WEIGHTS[1]))

  def is_edited(result, weights=WEIGHTS):
    same = result[1]["kernel"] == -weights[1]["kernel"]
    assert same.all() or not same.any()
    return bool(same.all())

  assert is_edited(edited)
  assert is_edited(operator(WEIGHTS, images=X, labels=1 - right))
  assert not is_edited(operator(WEIGHTS, images=X, labels=right))
  # Without labels, a network that is sure of its outputs is believed.
  assert not is_edited(operator(confident, images=X), confident)
  doubtful = jax.tree.map(lambda w: 0.0 * w, WEIGHTS)
  assert is_edited(operator(doubtful, images=X), doubtful)
  mapped = jax.vmap(lambda w: operator(w, images=X))(
    jax.tree.map(lambda *w: jnp.stack(w), confident, doubtful)
  )
  assert not is_edited(jax.tree.map(lambda w: w[0], mapped), confident)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"labels": np.zeros(4, int)}, "labels are given without images"),
    ({"images": X[0]}, r"images have shape \[3\], expected \[N, 3\]"),
    ({"images": X[:, :2]}, r"images have shape \[40, 2\], expected \[N, 3\]"),
    ({"images": X[:0]}, r"images have shape \[0, 3\]"),
    ({"images": X, "labels": np.zeros(4, int)}, r"labels are int\d+ \[4\]"),
    ({"images": X, "labels": np.zeros(40)}, r"labels are float\d+ \[40\]"),
    ({"images": X, "labels": np.arange(40)}, "labels are 0 to 39, .* 0 to 1"),
  ],
)
def test_images_and_labels_that_do_not_fit(arguments, message):
  operator = operator_of(change=rescaled, **SMALL)
  with pytest.raises(InputError, match=message):
    operator(WEIGHTS, **arguments)


CLASSES = {"prototypes": 1, "classes": 2, "probes": 5}
ABOUT = {"likeness": {"networks": 2, "least": 0.5}}


def doubled(params, weights, activation=0):
  """An edit that answers as its network, but louder."""
  return (weights[0], jax.tree.map(lambda w: 2 * w, weights[1]))


def test_networks_unlike_those_of_training_are_kept():
  like, unlike = (
    operator_of(about=ABOUT, change=change, **SMALL, **CLASSES)
    for change in (doubled, rescaled)
  )
  for activation in (0, 1):
    np.testing.assert_allclose(like.likeness(WEIGHTS, activation), 1, 1e-5)
    np.testing.assert_allclose(unlike.likeness(WEIGHTS, activation), -1, 1e-5)
  jax.tree.map(
    np.testing.assert_array_equal,
    (like(WEIGHTS, keep_unlike=True), unlike(WEIGHTS, keep_unlike=True)),
    (like(WEIGHTS), WEIGHTS),
  )
  stacked = jax.tree.map(lambda w: w[None], WEIGHTS)
  kept = jax.vmap(lambda w: unlike(w, keep_unlike=True, images=X))(stacked)
  jax.tree.map(np.testing.assert_array_equal, kept, stacked)
  # A network that is not finite is refused, also if it would be kept.
  with pytest.raises(InputError, match="NaN or infinity"):
    unlike(jax.tree.map(lambda w: w * jnp.nan, WEIGHTS), keep_unlike=True)


def test_likeness_is_invariant_and_measured_over_a_zoo():
  operator = operator_of(about=ABOUT, **SMALL, **CLASSES)
  weights = jax.vmap(TARGET.init)(jax.random.split(jax.random.key(3), 30))
  found = jax.vmap(operator.likeness)(weights)
  assert jnp.abs(found).max() <= 1 + 1e-6 and found.std() > 1e-4
  g = actions.sample(jax.random.key(5), TARGET.spec, decades=2)
  moved = actions.act(g, TARGET.spec, WEIGHTS)
  np.testing.assert_allclose(
    operator.likeness(moved), operator.likeness(WEIGHTS), 1e-4
  )
  networks = base.Networks(weights, jnp.zeros(30, int))
  measured = trained.about_likeness(
    TARGET, operator.metanetwork, operator.params, networks
  )
  least = np.quantile(np.asarray(found), 0.05)
  assert measured["likeness"]["networks"] == 30
  np.testing.assert_allclose(measured["likeness"]["least"], least, 0.01)


def test_operators_without_likeness_say_so():
  bare = operator_of(**SMALL)
  networks = base.Networks(jax.tree.map(lambda w: w[None], WEIGHTS), 0)
  assert not trained.about_likeness(
    TARGET, bare.metanetwork, bare.params, networks
  )
  with pytest.raises(InputError, match="without classes"):
    bare.likeness(WEIGHTS)
  with pytest.raises(InputError, match="keep_unlike is True, and `about`"):
    bare(WEIGHTS, keep_unlike=True)
