"""Operators and functionals of traced networks of many architectures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.batch.schema import architecture_graph
from scalegmn_jax.symmetry import actions
from tests.graph.traced import element, network, with_dead_neurons

SMALL = {"width": 4, "depth": 2}

# One per kind of part and of group: normalizations with running statistics,
# depthwise kernels and gates, concatenations after normalizations, attention
# with a tied embedding, neurons that keep their place, recurrence.
NAMES = (
  "cnn",
  "resnet",
  "mobile",
  "dense_block",
  "gpt",
  "rotary",
  "group_norm",
  "lstm",
)


def random_params(metanetwork):
  """φ of the right shapes, without the time that compiling `init` takes."""
  rng = np.random.default_rng(7)

  def draw(path, shape):
    last = jax.tree_util.keystr(path)
    noise = rng.normal(size=shape.shape)
    if len(shape.shape) > 1 and "code" not in last and "factor" not in last:
      return jnp.asarray(noise / np.sqrt(shape.shape[0]))
    return jnp.asarray((0.0 if "bias" in last else 1.0) + 0.3 * noise)

  shapes = jax.eval_shape(metanetwork.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)


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
  spread = np.abs(outputs - results(other)[1]).min()
  assert spread > 1e-3

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
  return jax.tree.map(lambda w: w + 0.3 * rng.normal(size=w.shape), weights)


@pytest.mark.parametrize("name", NAMES)
def test_operators_and_functionals_have_the_symmetry(x64, name):
  target, weights = network(name)
  results = results_of(target)
  for case in (weights, with_dead_neurons(target, weights)):
    updates, outputs = errors(target, results, case, others(weights), 2.0)
    assert max(updates) <= 1e-10 and outputs <= 1e-10
