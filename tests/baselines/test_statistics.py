"""The layer-statistics baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import statistics
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((4, 6, 3))
NETWORKS = 60


def make_networks():
  """(networks with nonzero biases, their scales)."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(TARGET.init, jax.random.key(0))
  sizes = rng.uniform(0.5, 2, NETWORKS)
  weights = jax.tree.map(
    lambda s: jnp.asarray(
      rng.normal(size=(NETWORKS, *s.shape))
      * sizes.reshape(-1, *[1] * len(s.shape)),
      jnp.float32,
    ),
    shapes,
  )
  return Networks(weights, jnp.arange(NETWORKS) % 2), sizes


def test_statistics_of_each_tensor():
  networks, _ = make_networks()
  result = statistics.layer_statistics(networks)
  assert result.shape == (NETWORKS, 4 * 7)
  bias = np.asarray(networks.weights[0]["bias"][3], np.float64)
  quantiles = np.quantile(bias, [0, 0.25, 0.5, 0.75, 1])
  expected = [bias.mean(), bias.var(), *quantiles]
  np.testing.assert_allclose(result[3, :7], expected, 1e-6)
  with_activation = statistics.layer_statistics(networks, activations=2)
  np.testing.assert_array_equal(with_activation[:, :-2], result)
  np.testing.assert_array_equal(with_activation[:, -1], networks.activation)


def test_balanced_statistics_do_not_depend_on_scales_at_a_normalization(
  x64, normalized
):
  """Multipliers before and after it: the running mean is scaled, too."""
  keys = jax.random.split(jax.random.key(0), 3)
  weights = jax.vmap(normalized.init)(keys)
  g = {
    name: actions.Element(e.permutation, jnp.abs(e.multiplier))
    for name, e in actions.sample(keys[0], normalized.spec).items()
  }
  scaled = jax.vmap(lambda w: actions.act(g, normalized.spec, w))(weights)
  balance = gauge.balance_networks(normalized)

  def of(weights, fix=lambda networks: networks):
    networks = fix(Networks(weights, jnp.zeros(3, int)))
    return statistics.layer_statistics(networks)

  np.testing.assert_allclose(of(scaled, balance), of(weights, balance), 2e-3)
  assert np.abs(of(scaled) - of(weights)).max() > 1
  assert (of(scaled, balance)[:, ::7] != of(scaled)[:, ::7]).mean() > 0.5


def test_statistics_are_invariant_to_permutations_but_not_to_scaling():
  networks, _ = make_networks()
  before = statistics.layer_statistics(networks)

  def of_regauged(decades):
    g = actions.sample(jax.random.key(1), TARGET.spec, decades=decades)
    weights = jax.vmap(lambda w: actions.act(g, TARGET.spec, w))(
      networks.weights
    )
    return statistics.layer_statistics(networks._replace(weights=weights))

  np.testing.assert_allclose(of_regauged(0.0), before, 1e-4, 1e-6)
  assert np.abs(of_regauged(1.0) - before).max() > 1


@pytest.mark.parametrize(
  ("kind", "law"),
  (
    ("ridge", lambda x: x @ np.linspace(-1, 1, x.shape[1])),
    ("trees", lambda x: (x[:, 1] > np.median(x[:, 1])).astype(float)),
  ),
)
def test_the_better_regressor_is_chosen_on_validation(kind, law, monkeypatch):
  monkeypatch.setattr(
    statistics,
    "BOOSTING",
    {"learning_rate": (0.1,), "max_iter": (50,), "min_samples_leaf": (5,)},
  )
  x = statistics.layer_statistics(make_networks()[0])
  y = law(x)
  result = statistics.fit_regressor((x[:40], y[:40]), (x[40:], y[40:]))
  assert result.name.startswith(kind)
  error = np.square(result.predict(x[40:]) - y[40:]).mean()
  np.testing.assert_allclose(result.error, error)
  assert error < 0.2 * np.var(y[40:])


def test_weights_that_overflow():
  x = np.full((4, 7), np.inf)
  with pytest.raises(InputError, match="too large"):
    statistics.fit_regressor((x, np.ones(4)), (x, np.ones(4)))


def test_pooled_statistics_have_one_length_for_all_architectures(
  mixed_dataset,
):
  zoos, _ = mixed_dataset
  result = [
    statistics.pooled_layer_statistics(networks, 2) for networks in zoos[:3]
  ]
  assert {f.shape for f in result} == {(4, 4 * 7 + 2 + 2)}
  # Blocks: biases, first kernel, all kernels, last kernel.
  mlp_zoo = jax.tree.leaves(zoos[0].weights)
  kernels = [w.reshape(4, -1) for w in mlp_zoo if w.ndim > 2]
  for i, part in enumerate((kernels[0], np.hstack(kernels), kernels[-1])):
    block = result[0][:, 7 * (i + 1) : 7 * (i + 2)]
    np.testing.assert_allclose(block[:, 0], part.mean(1))
    np.testing.assert_allclose(block[:, [2, -1]].T, [part.min(1), part.max(1)])
  assert (result[0][:, -2] == 4).all() and (result[2][:, -2] == 2).all()
  sizes = sum(w[0].size for w in mlp_zoo)
  np.testing.assert_allclose(result[0][:, -1], np.log(sizes))


def test_a_classifier_is_chosen_on_validation_networks():
  """Classes are intervals of one feature: trees find them, lines do not."""
  rng = np.random.default_rng(0)
  features = rng.uniform(-1, 1, (240, 3))
  classes = (np.abs(features[:, 1]) > 0.5).astype(int)
  classifier = statistics.fit_classifier(
    (features[:160], classes[:160]), (features[160:200], classes[160:200])
  )
  assert classifier.name.startswith("trees") and classifier.accuracy > 0.9
  logits = classifier.predict(features[200:])
  assert logits.shape == (40, 2)
  np.testing.assert_allclose(np.exp(logits).sum(1), 1, 1e-6)
  assert (logits.argmax(1) == classes[200:]).mean() > 0.9
  with pytest.raises(InputError, match="too large"):
    statistics.fit_classifier((features * np.inf, classes), (features, classes))
