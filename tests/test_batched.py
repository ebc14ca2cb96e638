"""Functions of one network, mapped over many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import batched
from scalegmn_jax.base import Functional, Network, Networks, Operator

B = 7
NETWORKS = Networks(
  {"w": np.arange(2.0 * B).reshape(B, 2)},
  np.arange(B),
  class_to_output=np.arange(3 * B).reshape(B, 3),
)


def double(params, weights, activation=0):
  return jax.tree.map(lambda w: params * w + activation, weights)


def total(params, weights, activation=0):
  return jnp.stack([params * weights["w"].sum(), activation])


@pytest.mark.parametrize("vmap_size", [1, 3, None])
def test_f_gets_one_network_at_a_time(vmap_size):
  def f(network, x):
    assert isinstance(network, Network)
    assert network.class_to_output is not None and network.teacher is None
    return network.weights["w"] * x, network.class_to_output.max()

  x = np.linspace(1.0, 2.0, B, dtype=np.float32)
  values, outputs = jax.jit(
    lambda n, x: batched.map_networks(f, n, x, vmap_size=vmap_size)
  )(NETWORKS, x)
  np.testing.assert_allclose(values, NETWORKS.weights["w"] * x[:, None], 1e-6)
  np.testing.assert_array_equal(outputs, np.arange(B) * 3 + 2)


@pytest.mark.parametrize("batch_size", [1, 3, B, 2 * B, None])
def test_results_do_not_depend_on_the_batch_size(batch_size):
  shapes = set()

  def f(shared, network):
    shapes.add(network.weights["w"].shape)
    return shared * network.weights["w"].sum()

  apply = batched.apply_batched(f, batch_size=batch_size)
  expected = 2 * NETWORKS.weights["w"].sum(1)
  np.testing.assert_allclose(apply(2.0, NETWORKS), expected)
  some = NETWORKS.take(slice(1, 3))
  np.testing.assert_allclose(apply(2.0, some), expected[1:3])
  assert shapes == {(2,)}


def test_one_program_in_turn_serves_any_number_of_networks():
  traced = []

  def f(shared, item):
    w, key = item
    traced.append(w.shape)
    return shared * w.sum() + jax.random.uniform(key)

  keys = jax.random.split(jax.random.key(0), 2 * batched.CPU_BATCH + 1)
  w = np.random.default_rng(0).normal(size=(len(keys), 3)).astype(np.float32)
  apply = batched.apply_batched(f, in_turn=True)
  whole = np.asarray(apply(2.0, (w, keys)))
  expected = 2 * w.sum(1) + np.asarray(jax.vmap(jax.random.uniform)(keys))
  np.testing.assert_allclose(whole, expected, rtol=1e-5)
  for count in (1, 2, batched.CPU_BATCH, batched.CPU_BATCH + 1):
    some = apply(2.0, (w[:count], keys[:count]))
    np.testing.assert_array_equal(some, whole[:count])
  assert traced == [(3,)]
  assert apply(2.0, (w[:0], keys[:0])).shape == (0,)


def test_large_networks_do_not_fill_up_a_block(monkeypatch):
  monkeypatch.setattr(batched, "_CPU_BATCH_BYTES", 100)
  blocks = []

  def f(_, w):
    return w.sum()

  def place(leaf):
    blocks.append(len(leaf))
    return leaf

  apply = batched.apply_batched(f, in_turn=True)
  take = batched._take
  monkeypatch.setattr(
    batched, "_take", lambda tree, rows: jax.tree.map(place, take(tree, rows))
  )
  w = np.ones((5, 10), np.float32)
  np.testing.assert_array_equal(apply(None, w), np.full(5, 10.0))
  w = np.ones((5, 100), np.float32)
  np.testing.assert_array_equal(apply(None, w), np.full(5, 100.0))
  assert blocks == [2, 2, 2, 1, 1, 1, 1, 1]


def test_networks_are_updated_by_one_program():
  traced = []

  def f(item, network, x):
    traced.append(network.weights["w"].shape)
    return item + x * network.weights["w"].sum()

  update = batched.update_in_turn(f)
  calls = []
  items = np.arange(float(B), dtype=np.float32)
  whole = update(
    items, NETWORKS, 2.0, on_call=lambda items, done: calls.append(done)
  )
  np.testing.assert_array_equal(whole, items + 2 * NETWORKS.weights["w"].sum(1))
  assert calls[0] == 1 and calls[-1] == B
  part = update(items[:3], NETWORKS.take(slice(3)), 2.0, done=1)
  np.testing.assert_array_equal(part, [items[0], *whole[1:3]])
  assert traced == [(2,)]


def test_operators_keep_all_but_the_weights():
  edited = batched.edit_networks(Operator(lambda key: 2.0, double))(
    2.0, NETWORKS
  )
  expected = 2 * NETWORKS.weights["w"] + np.arange(B)[:, None]
  np.testing.assert_allclose(edited.weights["w"], expected)
  assert edited.class_to_output is NETWORKS.class_to_output
  assert edited.activation is NETWORKS.activation


def test_functionals_are_stacked():
  read = batched.read_networks(Functional(lambda key: 2.0, total))
  values = read(2.0, NETWORKS)
  expected = np.stack([2 * NETWORKS.weights["w"].sum(1), np.arange(B)], axis=1)
  np.testing.assert_allclose(values, expected)
  assert read(2.0, NETWORKS.take(slice(1))).shape == (1, 2)


def test_networks_are_taken_by_slices_masks_and_indices():
  assert NETWORKS.size == B
  for rows in (slice(2, 4), np.array([2, 3]), np.isin(np.arange(B), [2, 3])):
    some = NETWORKS.take(rows)
    assert some.size == 2 and some.teacher is None
    np.testing.assert_array_equal(some.activation, [2, 3])
    np.testing.assert_array_equal(some.weights["w"], [[4, 5], [6, 7]])
