"""What networks are to answer: labels of tasks, or a teacher's outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Networks
from scalegmn_jax.inner import fit, objective
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((4, 5, 3))
LABELS = jnp.array([0, 1, 2, 3, 1, 0])
TASK = jnp.array([2, 0, -1, 0])  # of four classes: one is absent, two share


def network(**fields):
  return Networks(TARGET.init(jax.random.key(0)), 0)._replace(**fields)


def images():
  return jax.random.normal(jax.random.key(1), (6, 4))


def logits(weights):
  return np.asarray(TARGET.apply(weights, images()), np.float64)


def probabilities(weights):
  e = np.exp(logits(weights))
  return e / e.sum(1, keepdims=True)


def test_labels_of_a_task():
  given = network(class_to_output=TASK)
  found = objective.target_probs(TARGET.apply, given, images(), LABELS, 3)
  np.testing.assert_array_equal(
    found,
    [[0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]],
  )
  ce, accuracy, predictions = fit.evaluate_network(
    TARGET.apply, given, images(), LABELS
  )
  inside, own = [0, 1, 3, 4, 5], [2, 0, 0, 0, 2]
  p = probabilities(given.weights)[inside]
  np.testing.assert_allclose(ce, -np.log(p[range(5), own]).mean(), 1e-5)
  np.testing.assert_allclose(accuracy, (p.argmax(1) == own).mean(), 1e-6)
  assert predictions[2] == -1
  np.testing.assert_array_equal(predictions[np.array(inside)], p.argmax(1))


def test_outputs_of_a_teacher():
  teacher = TARGET.init(jax.random.key(2))
  given = network(class_to_output=TASK, teacher=teacher)
  divergence, same, _ = fit.evaluate_network(
    TARGET.apply, given, images(), LABELS
  )
  inside = [0, 1, 3, 4, 5]
  p, q = probabilities(teacher)[inside], probabilities(given.weights)[inside]
  np.testing.assert_allclose(
    divergence, (p * np.log(p / q)).sum(1).mean(), 1e-5
  )
  np.testing.assert_allclose(same, (p.argmax(1) == q.argmax(1)).mean(), 1e-6)
  own = given._replace(weights=teacher)
  kept = fit.evaluate_network(TARGET.apply, own, images(), LABELS)
  np.testing.assert_allclose(kept[0], 0, atol=1e-6)
  assert kept[1] == 1
