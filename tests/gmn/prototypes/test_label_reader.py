"""Reading the classes of outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.gmn.prototypes import label_reader

PROBS = jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])  # [probes, outputs]
KEYS = jnp.array([[4.0, 0.0], [0.0, 4.0]])  # [probes, classes]
ORDER = jnp.array([2, 0, 1])


def test_scores_are_of_outputs_and_classes():
  scores = label_reader.class_scores(PROBS, KEYS)
  assert scores.shape == (3, 2)
  np.testing.assert_array_equal(scores.argmax(0), [0, 1])
  permuted = label_reader.class_scores(PROBS[:, ORDER], KEYS)
  np.testing.assert_array_equal(permuted, scores[ORDER])


def test_presence_does_not_depend_on_the_order_of_outputs():
  scores = label_reader.class_scores(PROBS, KEYS)
  for combinations, width in ((False, 3), (True, 4)):
    features, permuted = (
      label_reader.presence_features(
        s, jax.nn.softmax(s, axis=0), class_combinations=combinations
      )
      for s in (scores, scores[ORDER])
    )
    assert features.shape == (2, width)
    np.testing.assert_allclose(features, permuted, 1e-6)


def test_the_lead_is_over_other_classes_of_the_same_output():
  scores = jnp.array([[5.0, 3.0, 1.0], [0.0, 0.0, 2.0]])
  shares = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
  features = label_reader.presence_features(
    scores, shares, class_combinations=True
  )
  np.testing.assert_allclose(features[:, -1], [2, -2, 2])


def test_outputs_without_class():
  shares = jnp.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
  shares = label_reader.with_empty(shares)
  np.testing.assert_allclose(shares[:, -1], [0, 0.5, 1])


def test_confidence_is_standardized_over_probes():
  probs = jax.nn.softmax(4 * jax.random.normal(jax.random.key(0), (2, 50, 3)))
  confidence = label_reader.confidence(probs)
  assert confidence.shape == (2, 50)
  np.testing.assert_allclose(confidence.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(confidence.std(-1), 1, atol=0.02)
  same = label_reader.confidence(jnp.full((5, 3), 1 / 3))
  np.testing.assert_allclose(same, 0, atol=1e-3)
