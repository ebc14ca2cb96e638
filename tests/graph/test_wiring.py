"""Wiring by blocks against gathers and segment sums."""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.graph.wiring import wiring_of

pytestmark = pytest.mark.usefixtures("quick_compile")


def by_index(topology, x, m):
  """What `by_blocks` should be."""
  senders, receivers = topology.senders, topology.receivers
  v = topology.vertices
  return (
    x[senders],
    x[receivers],
    jraph.segment_sum(m, jnp.asarray(receivers), v),
    jraph.segment_sum(m, jnp.asarray(senders), v),
  )


def by_blocks(wiring, x, m):
  return (
    wiring.at_senders(x),
    wiring.at_receivers(x),
    wiring.sum_at_receivers(m),
    wiring.sum_at_senders(m),
  )


def features(topology, d=3):
  rng = np.random.default_rng(0)
  return (
    jnp.asarray(rng.normal(size=(topology.vertices, d))),
    jnp.asarray(rng.normal(size=(topology.edges, d))),
  )


def assert_close(a, b):
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, 1e-12, 1e-12)


def test_moves_are_gathers_and_segment_sums(x64, kind):
  topology = topology_of(kind)
  wiring = wiring_of(topology)
  x, m = features(topology)
  expected = by_index(topology, x, m)
  moves = jax.jit(functools.partial(by_blocks, wiring))(x, m)
  assert_close(moves, expected)


def test_reverse_swaps_senders_and_receivers(x64, residual_mlp):
  topology = topology_of(residual_mlp)
  wiring = wiring_of(topology)
  reverse = wiring.reverse()
  x, m = features(topology)
  at_s, at_r, sum_r, sum_s = by_index(topology, x, m)
  moves = jax.jit(functools.partial(by_blocks, reverse))(x, m)
  assert_close(moves, (at_r, at_s, sum_s, sum_r))
  assert reverse.hidden == wiring.hidden
  assert reverse.into_hidden == wiring.out_of_hidden
  assert reverse.out_of_hidden == wiring.into_hidden
  assert reverse.reverse() == wiring


def test_ranges_are_those_of_the_topology(target):
  topology, wiring = topology_of(target), wiring_of(topology_of(target))
  assert wiring.hidden == topology.hidden
  assert wiring.into_hidden == topology.into_hidden
  assert wiring.out_of_hidden == topology.out_of_hidden


def test_moves_are_differentiated_like_gathers(x64, residual_mlp):
  topology = topology_of(residual_mlp)
  wiring = wiring_of(topology)
  x, m = features(topology)

  def gradients(moves):
    def loss(x, m):
      return sum(jnp.sin(y).sum() for y in moves(x, m))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, m)

  assert_close(
    gradients(functools.partial(by_blocks, wiring)),
    gradients(functools.partial(by_index, topology)),
  )


def test_sums_at_vertices_without_edges_are_zero(residual_mlp):
  topology = topology_of(residual_mlp)
  wiring = wiring_of(topology)

  @jax.jit
  def degrees(ones):
    return wiring.sum_at_receivers(ones), wiring.sum_at_senders(ones)

  sums = jax.tree.map(np.asarray, degrees(jnp.ones((topology.edges, 1))))
  assert (sums[0][topology.spaces["input"]] == 0).all()
  assert (sums[1][topology.spaces["output"]] == 0).all()
  # Of the stream: 3 inputs and 9 inner neurons write, 9 and 2 outputs read.
  assert (sums[0][topology.spaces["stream"]] == 12).all()
  assert (sums[1][topology.spaces["stream"]] == 11).all()
