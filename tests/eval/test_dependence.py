"""What edited networks depend on, in small cases that are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Networks
from scalegmn_jax.eval import dependence
from scalegmn_jax.targets import mlp

TASKS, NETWORKS, IMAGES, CLASSES = 3, 4, 5, 6


def draw(*shape, seed=0):
  return np.random.RandomState(seed).normal(size=shape)


def terms():
  """Orthogonal terms [T, B, N, K] of mean squares 1, 2, 3 and 4."""
  common = draw(1, 1, IMAGES, CLASSES, seed=1)
  task = draw(TASKS, 1, IMAGES, CLASSES, seed=2)
  network = draw(1, NETWORKS, IMAGES, CLASSES, seed=3)
  both = draw(TASKS, NETWORKS, IMAGES, CLASSES, seed=4)
  result = []
  for size, term in enumerate((common, task, network, both), 1):
    for axis in (0, 1):
      if term.shape[axis] > 1:
        term = term - term.mean(axis, keepdims=True)
    term = term - term.mean(-1, keepdims=True)
    result.append(term * np.sqrt(size / np.square(term).mean()))
  return result


def test_shares_of_known_terms():
  offset = draw(TASKS, NETWORKS, IMAGES, 1, seed=5)  # no change of a softmax
  found = dependence.shares(sum(terms()) + offset)
  np.testing.assert_allclose(found, np.array([1, 2, 3, 4]) / 10, rtol=1e-12)


@pytest.mark.parametrize("i", range(4))
def test_shares_of_one_term_alone(i):
  outputs = np.broadcast_to(terms()[i], (TASKS, NETWORKS, IMAGES, CLASSES))
  np.testing.assert_allclose(
    dependence.shares(outputs), np.eye(4)[i], atol=1e-12
  )


def test_outputs_without_a_difference_have_no_shares():
  assert np.isnan(dependence.shares(np.ones((2, 2, 3, 4)))).all()


def test_cyclic_orders_leave_a_network_nothing_in_common():
  """One network in every order: its mean over them is the same everywhere."""
  orders = dependence.cyclic_orders(CLASSES)
  assert all(set(column) == set(range(CLASSES)) for column in orders.T)
  answers = draw(NETWORKS, IMAGES, CLASSES)
  outputs = np.stack([answers[..., np.argsort(order)] for order in orders])
  found = dependence.shares(outputs)
  centred = answers - answers.mean(-1, keepdims=True)
  task = np.square(centred.mean(0)).mean() / np.square(centred).mean()
  np.testing.assert_allclose(found, [0, task, 0, 1 - task], atol=1e-12)
  np.testing.assert_array_equal(
    dependence.in_class_order(outputs[2], np.tile(orders[2], (NETWORKS, 1))),
    answers,
  )


def test_mistakes_that_edits_repeat():
  labels = np.array([0, 1, 2, 3])
  before = np.array([[0, 2, 2, 1], [3, 2, 2, 3], [0, 1, 2, 3]])
  after = np.array([[0, 2, 2, 3], [3, 1, 2, 3], [0, 2, 2, 1]])
  # Mistakes (network, image): (0, 1), (0, 3), (1, 0), (1, 1); the edits of
  # their networks repeat the first and the third. Edits of two others repeat
  # the first once, the second once and the last twice.
  found = dependence.same_mistakes(before, after, labels)
  assert found == (0.5, (1 / 2 + 1 / 2 + 0 + 1) / 4)
  right = np.tile(labels, (3, 1))
  assert np.isnan(dependence.same_mistakes(right, after, labels)).all()


TARGET = mlp.mlp((3, 5, 4))


def networks(orders):
  weights = jax.tree.map(
    lambda leaf: draw(2, *leaf.shape).astype(np.float32),
    jax.eval_shape(TARGET.init, jax.random.key(0)),
  )
  teacher = jax.tree.map(lambda w: 2 * w, weights)
  return Networks(weights, jnp.zeros(2, jnp.int32), orders, teacher)


def test_reordered_networks_answer_the_same_classes():
  orders = np.array([[1, 0, 3, 2], [2, 3, 1, 0]])
  others = np.array([[3, 1, 0, 2], [0, 2, 1, 3]])
  before = networks(jnp.asarray(orders))
  after = dependence.reorder(TARGET.spec, before, others)
  np.testing.assert_array_equal(after.class_to_output, others)
  x = jnp.asarray(draw(7, 3), jnp.float32)
  answers = jax.jit(jax.vmap(TARGET.apply, (0, None)))
  for name in ("weights", "teacher"):
    old, new = (
      np.asarray(answers(getattr(n, name), x)) for n in (before, after)
    )
    np.testing.assert_array_equal(
      dependence.in_class_order(new, others),
      dependence.in_class_order(old, orders),
    )
    assert not np.array_equal(new, old)
  back = dependence.reorder(TARGET.spec, after, orders)
  jax.tree.map(np.testing.assert_array_equal, back, before)


def test_orders_of_classes():
  np.testing.assert_array_equal(
    dependence.class_orders(networks(None), 4), [[0, 1, 2, 3]] * 2
  )
  for some in ([[0, 1, 2, -1], [0, 1, 2, 3]], [[0, 0, 1, 2], [0, 1, 2, 3]]):
    assert dependence.class_orders(networks(np.array(some)), 4) is None
  assert (
    dependence.class_orders(networks(np.arange(6).reshape(2, 3)), 4) is None
  )
