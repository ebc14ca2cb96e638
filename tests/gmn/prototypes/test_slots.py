"""Neurons in slots, and weights between slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.gmn.prototypes import slots
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.sizes import vertex_sizes
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import actions, canonical
from scalegmn_jax.targets import mlp

KEY = jax.random.key(0)


TARGET = mlp.mlp((3, 5, 4, 2), ("relu", "tanh"))


@functools.partial(jax.jit, static_argnums=1)
def slots_and_signs(weights, activation):
  """(assignments, signs) of the hidden layers of a network."""
  spec, topology = TARGET.spec, topology_of(TARGET)
  sizes = vertex_sizes(topology, weights)
  hidden = {
    stage: sizes[rows]
    for stage, rows in topology.stages.items()
    if topology.is_hidden(rows)
  }
  inverse = {stage: canonical.inverse(s) for stage, s in hidden.items()}
  fixed = convert.scale(topology, weights, inverse, hidden)
  signed = {n: jnp.full(len(s), activation == 1) for n, s in hidden.items()}
  signs = slots.canonical_signs(topology, fixed, signed)
  return slots.assign_slots(spec, fixed), {
    stage.spaces[0]: sign for stage, sign in signs.items()
  }


def test_neurons_are_ranked_by_outgoing_weights():
  weights = (
    {"bias": jnp.zeros(3), "kernel": jnp.eye(3)},
    {"bias": jnp.zeros(1), "kernel": jnp.array([[2.0], [-3.0], [1.0]])},
  )
  target = mlp.mlp((3, 3, 1), "relu")
  ranks = slots.assign_slots(target.spec, weights)
  assert set(ranks) == {"hidden_1"}
  np.testing.assert_array_equal(ranks["hidden_1"].argmax(1), [1, 2, 0])


def test_ties_are_broken_by_incoming_weights():
  weights = (
    {"bias": jnp.array([0.0, 5.0, 0.0]), "kernel": jnp.eye(3)},
    {"bias": jnp.zeros(1), "kernel": jnp.array([[0.0], [0.0], [1.0]])},
  )
  target = mlp.mlp((3, 3, 1), "relu")
  ranks = slots.assign_slots(target.spec, weights)["hidden_1"]
  np.testing.assert_array_equal(ranks.argmax(1), [0, 1, 2])


@pytest.mark.parametrize("activation", [0, 1])
def test_slots_follow_the_neurons(x64, activation):
  weights = TARGET.init(KEY)
  ranks, signs = slots_and_signs(weights, activation)
  g = actions.sample(
    jax.random.key(2), TARGET.spec, activation=activation, dtype=float
  )
  moved_ranks, moved_signs = slots_and_signs(
    actions.act(g, TARGET.spec, weights), activation
  )
  assert set(ranks) == set(g)
  for name, (permutation, q) in g.items():
    np.testing.assert_array_equal(moved_ranks[name], ranks[name][permutation])
    np.testing.assert_allclose(ranks[name].sum(0), 1)
    expected = signs[name][permutation]
    if activation:
      expected = expected * q
      assert (q < 0).any()
    np.testing.assert_array_equal(moved_signs[name], expected)


def test_without_incoming_weights_the_sign_is_of_the_outgoing_ones():
  weights = TARGET.init(KEY)
  weights[0]["kernel"] = weights[0]["kernel"].at[:, 2].set(0.0)
  _, signs = slots_and_signs(weights, 1)
  sent = weights[1]["kernel"][2] * signs["hidden_2"]
  assert signs["hidden_1"][2] == jnp.sign(sent.sum())


def test_placing_permutes_like_the_group(x64):
  """A group element is a permutation matrix with signs."""
  target = mlp.mlp((3, 5, 4, 2), "tanh")
  weights = target.init(KEY)
  g = actions.sample(jax.random.key(2), target.spec, dtype=float)
  matrices = {
    name: jnp.eye(len(q))[permutation] * q[:, None]
    for name, (permutation, q) in g.items()
  }
  placed = slots.place(target.spec, weights, matrices)
  expected = actions.act(g, target.spec, weights)
  for a, b in zip(*map(jax.tree.leaves, (placed, expected)), strict=True):
    np.testing.assert_allclose(a, b, 1e-12, 1e-12)
