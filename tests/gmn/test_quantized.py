"""Operators that write the biases of networks with rounded kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Axes, InputError, SymmetrySpec
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.options import Options
from scalegmn_jax.symmetry import actions, gauge, rounding
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

TARGETS = {
  "relu": mlp((3, 5, 4, 2), "relu"),
  "tanh": mlp((3, 5, 4, 2), "tanh"),
  "cnn": cnn((6, 6, 1), (2, 3), 2),
}


def draw(target, key=1):
  """Random weights, with biases."""
  weights = jax.jit(target.init)(jax.random.key(key))
  return jax.tree.map(lambda a: np.asarray(a, float) + 0.1, weights)


def assert_close(one, other):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-10), one, other
  )


@pytest.mark.parametrize("name", TARGETS)
def test_corrected_biases_are_equivariant_in_any_gauge(x64, name):
  target = TARGETS[name]
  corrector = metanetworks.corrector(target, Options(width=3, depth=1))
  params = corrector.init(jax.random.key(0))
  apply = jax.jit(corrector.apply)
  weights = draw(target)
  rounded, rougher = jax.jit(
    lambda w: [rounding.round_kernels(target.spec, w, b) for b in (3, 2)]
  )(weights)
  found = apply(params, weights, rounded)
  for before, after in zip(rounded, found, strict=True):
    np.testing.assert_array_equal(before["kernel"], after["kernel"])
    assert np.abs(before["bias"] - np.asarray(after["bias"])).min() > 0
  g = actions.sample_on_host(np.random.default_rng(2), target.spec, decades=2)
  weights_g, rounded_g, found_g = (
    actions.act(g, target.spec, jax.device_get(w))
    for w in (weights, rounded, found)
  )
  assert_close(apply(params, weights_g, rounded_g), found_g)
  # What is written depends on what the kernels have lost.
  other = apply(params, weights, rougher)
  assert not np.allclose(other[0]["bias"], found[0]["bias"], 1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_a_quantized_network_does_not_depend_on_the_gauge(x64, name):
  """But for the order of neurons, and signs where they are a symmetry."""
  target = TARGETS[name]
  operator = metanetworks.operator(
    target, width=3, depth=1, writes="quantized", bits=3, per_channel=True
  )
  params = operator.init(jax.random.key(0))
  apply, weights = jax.jit(operator.apply), draw(target)
  found = apply(params, weights)
  rounded = jax.jit(
    lambda w: rounding.round_kernels(
      target.spec, gauge.equalize(target.spec, w), 3, per_channel=True
    )
  )(weights)
  for layer, expected in zip(found, rounded, strict=True):
    np.testing.assert_allclose(layer["kernel"], expected["kernel"], 1e-10)
  g = actions.sample_on_host(np.random.default_rng(2), target.spec, decades=2)
  sides = {k: actions.Element(p, np.sign(q)) for k, (p, q) in g.items()}
  again = apply(params, actions.act(g, target.spec, weights))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5),
    again, actions.act(sides, target.spec, jax.device_get(found)),
  )  # fmt: skip


def test_other_weights_are_refused_and_types_stay():
  target = TARGETS["relu"]
  operator = metanetworks.operator(
    target, width=2, depth=0, writes="quantized", bits=4, bidirectional=False
  )
  params = operator.init(jax.random.key(0))
  weights = draw(target)
  with pytest.raises(InputError, match="expected"):
    operator.apply(params, weights[:-1])
  half = jax.tree.map(lambda w: w.astype(np.float16), weights)
  for leaf in jax.tree.leaves(jax.jit(operator.apply)(params, half)):
    assert leaf.dtype == jnp.float16 and np.isfinite(leaf).all()


def test_a_target_without_biases_is_refused():
  target = mlp((2, 3, 2))
  axes = tuple({"kernel": layer["kernel"]} for layer in target.spec.axes)
  assert all(isinstance(layer["kernel"], Axes) for layer in axes)
  spec = SymmetrySpec(target.spec.spaces, axes)

  def init(key):
    return tuple({"kernel": layer["kernel"]} for layer in target.init(key))

  def apply(weights, x, activation=0):
    zeros = ({"bias": 0.0} | layer for layer in weights)
    return target.apply(tuple(zeros), x, activation)

  bare = target._replace(spec=spec, init=init, apply=apply)
  with pytest.raises(InputError, match="no biases"):
    metanetworks.corrector(bare, Options())
