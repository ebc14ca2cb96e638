"""Scores of networks and rows of results."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Networks
from scalegmn_jax.eval import scores
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.targets import mlp


def networks_and_images():
  target = mlp.mlp((5, 7, 4))
  keys = jax.random.split(jax.random.key(0), 3)
  networks = Networks(jax.vmap(target.init)(keys), jnp.zeros(3, jnp.int32))
  x = jax.random.normal(jax.random.key(1), (30, 5))
  return target, networks, x, jnp.arange(30) % 4


def test_scores_against_plain_numpy():
  target, networks, x, y = networks_and_images()
  result = scores.make_scorer(target, l1=0.01)(networks, x, y)
  for i in range(3):
    w = jax.tree.map(
      lambda a, i=i: np.asarray(a[i], np.float64), networks.weights
    )
    h = np.maximum(np.asarray(x) @ w[0]["kernel"] + w[0]["bias"], 0)
    logits = h @ w[1]["kernel"] + w[1]["bias"]
    logits = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ce = -logits[np.arange(30), y].mean()
    l1 = sum(np.abs(a).sum() for a in jax.tree.leaves(w))
    np.testing.assert_allclose(result.cross_entropy[i], ce, 1e-5)
    np.testing.assert_allclose(result.l1[i], l1, 1e-5)
    np.testing.assert_allclose(result.objective_plain[i], ce + 0.01 * l1, 1e-5)
    hits = logits.argmax(1) == np.asarray(y)
    assert result.accuracy[i] == np.float32(hits.mean())
  assert (result.l1_balanced < result.l1).all()


def test_scores_do_not_depend_on_the_gauge():
  """Negative control: the plain objective depends on the gauge."""
  target, networks, x, y = networks_and_images()
  small = jax.tree.map(
    lambda w: jnp.where(jnp.abs(w) < 0.3, w * 1e-4, w), networks.weights
  )
  networks = networks._replace(weights=small)
  g = actions.sample(jax.random.key(3), target.spec)
  regauged = jax.vmap(lambda w: actions.act(g, target.spec, w))(
    networks.weights
  )
  score = scores.make_scorer(target, l1=0.01)
  a, b = score(networks, x, y), score(networks._replace(weights=regauged), x, y)
  assert (a.sparsity > 0.1).all()
  np.testing.assert_allclose(a.sparsity, b.sparsity)
  np.testing.assert_allclose(a.objective, b.objective, 1e-4)
  np.testing.assert_allclose(a.accuracy_pruned, b.accuracy_pruned)
  assert (np.abs(a.objective_plain - b.objective_plain) > 1e-3).all()


def test_accuracy_at_sparsity_ends_at_one_class():
  target, networks, x, y = networks_and_images()
  values = scores.accuracy_at_sparsity(target, (0.0, 0.5, 1.0))(networks, x, y)
  full = scores.make_scorer(target, l1=0.0)(networks, x, y).accuracy
  np.testing.assert_allclose(values[0], full, 1e-6)
  # Without weights all logits are zero and the first class is predicted.
  np.testing.assert_allclose(values[2], float((y == 0).mean()), 1e-6)


def test_plain_l1_of_a_balanced_network_is_the_balanced_one():
  target, networks, x, y = networks_and_images()
  balanced = jax.vmap(lambda w: gauge.balance(target.spec, w))(networks.weights)
  result = scores.make_scorer(target, l1=0.01)(
    networks._replace(weights=balanced), x, y
  )
  np.testing.assert_allclose(result.l1, result.l1_balanced, 1e-4)


def test_score_row_has_the_keys_and_statistics_over_networks():
  target, networks, x, y = networks_and_images()
  original = scores.make_scorer(target, l1=0.01)(networks, x, y)
  changed = original._replace(
    accuracy=original.accuracy - np.array([0.1, 0.3, 0.0], np.float32),
    predictions=np.where(np.arange(30) < 6, -1, original.predictions),
  )
  keys = {"method": "adam", "epochs": 5}
  row = scores.score_row(keys, changed, original, data_passes=5.0)
  assert keys.items() <= row.items()
  np.testing.assert_allclose(row["accuracy_change_min"], -0.3, 1e-5)
  np.testing.assert_allclose(row["agreement"], 0.8)
  np.testing.assert_allclose(row["objective"], original.objective.mean())
  assert row["data_passes"] == 5.0
