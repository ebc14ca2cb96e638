"""Supervision: network-specific labels, and outputs of a teacher."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Network
from scalegmn_jax.inner import objective
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((4, 5, 3))
LABELS = jnp.array([0, 1, 2, 3, 1, 0])
CLASSES = jnp.array([2, 0, -1, 0])  # class 2 is absent; 1 and 3 share output 0


def network(**fields):
  return Network(TARGET.init(jax.random.key(0)), 0)._replace(**fields)


def images():
  return jax.random.normal(jax.random.key(1), (6, 4))


def logits(weights):
  return np.asarray(TARGET.apply(weights, images()), np.float64)


def probabilities(weights):
  e = np.exp(logits(weights))
  return e / e.sum(1, keepdims=True)


def test_network_specific_labels():
  labelled = network(class_to_output=CLASSES)
  probs = objective.target_probs(TARGET.apply, labelled, images(), LABELS, 3)
  np.testing.assert_array_equal(
    probs,
    [[0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]],
  )
  ce, accuracy, predictions = objective.evaluate_network(
    TARGET.apply, labelled, images(), LABELS
  )
  rows, outputs = [0, 1, 3, 4, 5], [2, 0, 0, 0, 2]
  p = probabilities(labelled.weights)[rows]
  np.testing.assert_allclose(ce, -np.log(p[range(5), outputs]).mean(), 1e-5)
  np.testing.assert_allclose(accuracy, (p.argmax(1) == outputs).mean(), 1e-6)
  assert predictions[2] == -1
  np.testing.assert_array_equal(predictions[np.array(rows)], p.argmax(1))


def test_outputs_of_a_teacher():
  teacher = TARGET.init(jax.random.key(2))
  labelled = network(class_to_output=CLASSES, teacher=teacher)
  divergence, accuracy, _ = objective.evaluate_network(
    TARGET.apply, labelled, images(), LABELS
  )
  rows = [0, 1, 3, 4, 5]
  p, q = probabilities(teacher)[rows], probabilities(labelled.weights)[rows]
  np.testing.assert_allclose(
    divergence, (p * np.log(p / q)).sum(1).mean(), 1e-5
  )
  np.testing.assert_allclose(
    accuracy, (p.argmax(1) == q.argmax(1)).mean(), 1e-6
  )
  same = labelled._replace(weights=teacher)
  divergence, accuracy, _ = objective.evaluate_network(
    TARGET.apply, same, images(), LABELS
  )
  np.testing.assert_allclose(divergence, 0, atol=1e-6)
  assert accuracy == 1


def test_images_of_other_sets_are_not_computed(monkeypatch):
  """A network of the second of three image sets, in blocks of five images that
  do not end with the sets."""
  labels = np.arange(33) // 11 * 3 + np.arange(33) % 3
  own = labels // 3 == 1
  x = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32)
  x[:10] = x[25:] = np.nan  # blocks without an image of the second set
  classes = jnp.array([-1, -1, -1, 2, 0, 1, -1, -1, -1])
  teacher = TARGET.init(jax.random.key(2))
  few = classes[3:6]
  monkeypatch.setattr(objective, "_BLOCK", 5)
  for fields in ({}, {"teacher": teacher}):
    one = network(**fields)
    found = jax.jit(objective.evaluate_network, static_argnums=0)(
      TARGET.apply, one._replace(class_to_output=classes), x, labels
    )
    expected = objective.evaluate_network(
      TARGET.apply, one._replace(class_to_output=few), x[own], labels[own] - 3
    )
    np.testing.assert_allclose(found[0], expected[0], 1e-5)
    np.testing.assert_allclose(found[1], expected[1], 1e-6)
    np.testing.assert_array_equal(found[2][own], expected[2])
    assert (found[2][~own] == -1).all()


def test_losses_compute_under_strict_promotion_of_types():
  losses = finetune_losses(TARGET, l1=0.1)
  taught = network(
    class_to_output=CLASSES, teacher=TARGET.init(jax.random.key(2))
  )
  with jax.numpy_dtype_promotion("strict"):
    shapes = jax.eval_shape(losses, taught, images(), LABELS)
  assert {shape.dtype for shape in shapes} == {jnp.dtype(jnp.float32)}


def test_running_statistics_have_no_gradient(normalized):
  """Of a target without a function of its training, too."""
  weights = normalized.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (5, 3))
  labels = jnp.arange(5) % 4

  def loss(weights):
    one = Network(weights, jnp.array(0))
    return objective.training_divergence(normalized, one, x, labels)

  gradient, moved = jax.jit(jax.grad(loss, has_aux=True))(weights)
  assert not any(g.any() for g in jax.tree.leaves(gradient["batch_stats"]))
  assert all(g.any() for g in jax.tree.leaves(gradient["params"]))
  jax.tree.map(np.testing.assert_array_equal, moved, weights)
