"""Operators and functionals of traced networks of many architectures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Axes, InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.batch.schema import architecture_graph
from scalegmn_jax.symmetry import actions
from tests.gmn.parameters import random_params
from tests.graph.traced import element, network, with_dead_neurons

SMALL = {"width": 4, "depth": 2}

# One per kind of part and of group: normalizations with running statistics,
# depthwise kernels and gates, concatenations after normalizations, attention
# with a tied embedding, neurons that keep their place, groups, recurrence.
NAMES = (
  "cnn",
  "resnet",
  "mobile",
  "dense_block",
  "gpt",
  "rotary",
  "shuffled",
  "lstm",
)


def results_of(target, **options):
  """weights -> (update of the operator, outputs of the functional)."""
  operator = metanetworks.operator(target, **SMALL, **options)
  functional = metanetworks.functional(target, outputs=2, **SMALL, **options)
  writes, reads = random_params(operator), random_params(functional)

  @jax.jit
  def results(weights):
    edited = operator.apply(writes, weights)
    return (
      jax.tree.map(jnp.subtract, edited, weights),
      functional.apply(reads, weights),
    )

  return results


def errors(target, results, weights, other, decades=1.0):
  """(error of each update, of the outputs in units of their spread)."""
  g = element(target.spec, 3, decades)
  update, outputs = jax.device_get(results(weights))
  at_g, outputs_at_g = results(actions.act(g, target.spec, weights))
  moved = actions.act(g, target.spec, update)
  spread = np.std([outputs, *(results(w)[1] for w in other)], axis=0).min()
  assert spread > 1e-4

  def error(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))

  for leaf in jax.tree.leaves(update):
    assert np.abs(leaf).max() > 1e-3  # there is an update to measure
  return (
    jax.tree.leaves(jax.tree.map(error, jax.device_get(at_g), moved)),
    float(np.abs(outputs_at_g - outputs).max() / spread),
  )


def others(weights):
  rng = np.random.default_rng(5)
  return [
    jax.tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape), weights)
    for _ in range(3)
  ]


@pytest.mark.parametrize("name", NAMES)
def test_operators_and_functionals_have_the_symmetry(x64, name):
  target, weights = network(name)
  results = results_of(target)
  for case in (weights, with_dead_neurons(target, weights)):
    updates, outputs = errors(target, results, case, others(weights), 2.0)
    assert max(updates) <= 1e-10 and outputs <= 1e-10


@pytest.mark.parametrize("bidirectional", [False, True])
def test_residual_networks_float32(bidirectional):
  """With dead neurons and scales of zero, and in one direction as well."""
  target, weights = network("preactivation")
  dead = with_dead_neurons(target, weights)
  weights, dead, *more = jax.tree.map(
    np.float32, (weights, dead, *others(weights))
  )
  results = results_of(target, bidirectional=bidirectional)
  for case in (weights, dead):
    updates, outputs = errors(target, results, case, more)
    assert max(updates) <= 1e-4 and outputs <= 1e-4


def test_gradients_are_finite_with_dead_neurons_and_scales_of_zero(x64):
  target, weights = network("preactivation")
  operator = metanetworks.operator(target, **SMALL)
  params = random_params(operator)

  @jax.jit
  def gradients(params, weights):
    def loss(params, weights):
      edited = operator.apply(params, weights)
      return sum((w**2).sum() for w in jax.tree.leaves(edited))

    return jax.grad(loss, argnums=(0, 1))(params, weights)

  zeros = jax.tree.map(np.zeros_like, weights)
  for case in (with_dead_neurons(target, weights), zeros):
    for gradient in jax.tree.leaves(gradients(params, case)):
      assert jnp.isfinite(gradient).all()


def wrong_exponent(target):
  """The bias after a normalization as if it were before it."""
  before = target.spec.axes["stem"].axes[1]
  axes = {**target.spec.axes, "b": Axes((before,))}
  return target._replace(spec=dataclasses.replace(target.spec, axes=axes))


@pytest.mark.parametrize(
  ("change", "options"),
  [(wrong_exponent, {}), (lambda t: t, {"symmetry": "permutation"})],
  ids=["exponent", "permutation"],
)
def test_control_other_symmetries_fail(x64, change, options):
  target, weights = network("preactivation")
  functional = metanetworks.functional(change(target), **SMALL, **options)
  params = random_params(functional)
  read = jax.jit(lambda weights: functional.apply(params, weights))
  g = element(target.spec, 3)
  values = [read(w)[0] for w in (weights, *others(weights))]
  error = abs(read(actions.act(g, target.spec, weights))[0] - values[0])
  assert error > 1e-2 * np.std(values)


@pytest.mark.parametrize("name", ["resnet", "cnn"])
def test_what_needs_plain_networks_refuses_others_by_name(name):
  target, _ = network(name)
  with pytest.raises(InputError, match="^prototypes: weight .*: (axis|space) "):
    metanetworks.operator(target, prototypes=1)
  with pytest.raises(InputError, match="^batches of several .*: weight "):
    architecture_graph(target)
