"""The layer-statistics baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import statistics
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((4, 6, 3))
NETWORKS = 60


def population():
  """Networks whose kernels have sizes of their own, and biases."""
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


def test_features_of_each_tensor():
  zoo, _ = population()
  found = statistics.layer_statistics(zoo)
  assert found.shape == (NETWORKS, 4 * 7)
  bias = np.asarray(zoo.weights[0]["bias"][3], np.float64)
  quantiles = np.quantile(bias, [0, 0.25, 0.5, 0.75, 1])
  expected = [bias.mean(), bias.var(), *quantiles]
  np.testing.assert_allclose(found[3, :7], expected, 1e-6)
  told = statistics.layer_statistics(zoo, activations=2)
  np.testing.assert_array_equal(told[:, :-2], found)
  np.testing.assert_array_equal(told[:, -1], zoo.activation)


def test_features_see_scaling_but_not_permutations():
  zoo, _ = population()
  before = statistics.layer_statistics(zoo)

  def moved(decades):
    g = actions.sample(jax.random.key(1), TARGET.spec, decades=decades)
    weights = jax.vmap(lambda w: actions.act(g, TARGET.spec, w))(zoo.weights)
    return statistics.layer_statistics(zoo._replace(weights=weights))

  np.testing.assert_allclose(moved(0.0), before, 1e-4, 1e-6)
  assert np.abs(moved(1.0) - before).max() > 1


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
  x = statistics.layer_statistics(population()[0])
  y = law(x)
  found = statistics.fit_regressor((x[:40], y[:40]), (x[40:], y[40:]))
  assert found.name.startswith(kind)
  error = np.square(found.predict(x[40:]) - y[40:]).mean()
  np.testing.assert_allclose(found.error, error)
  assert error < 0.2 * np.var(y[40:])


def test_weights_that_overflow():
  x = np.full((4, 7), np.inf)
  with pytest.raises(InputError, match="too large"):
    statistics.fit_regressor((x, np.ones(4)), (x, np.ones(4)))


def test_pooled_features_are_those_of_any_architecture(mixed_dataset):
  zoos, _ = mixed_dataset
  found = [statistics.pooled_layer_statistics(zoo, 2) for zoo in zoos[:3]]
  assert {f.shape for f in found} == {(4, 4 * 7 + 2 + 2)}
  # Biases, first, all and last kernels, each from its least to its greatest.
  mlp_zoo = jax.tree.leaves(zoos[0].weights)
  kernels = [w.reshape(4, -1) for w in mlp_zoo if w.ndim > 2]
  for i, part in enumerate((kernels[0], np.hstack(kernels), kernels[-1])):
    block = found[0][:, 7 * (i + 1) : 7 * (i + 2)]
    np.testing.assert_allclose(block[:, 0], part.mean(1))
    np.testing.assert_allclose(block[:, [2, -1]].T, [part.min(1), part.max(1)])
  assert (found[0][:, -2] == 4).all() and (found[2][:, -2] == 2).all()
  sizes = sum(w[0].size for w in mlp_zoo)
  np.testing.assert_allclose(found[0][:, -1], np.log(sizes))
