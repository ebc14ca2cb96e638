"""Augmented networks: which functions they are, and what commutes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training import augmentation

pytestmark = pytest.mark.usefixtures("x64")

TARGET = mlp((2, 8, 9, 1), "sine", omega=3.0)
RANGES = augmentation.AugmentRanges(rotation=30.0, scale=1.5, shift=0.3)


@pytest.fixture
def weights(random_weights):
  return random_weights(TARGET, 0, dead=False)


@pytest.fixture
def points():
  return jnp.asarray(np.random.default_rng(1).normal(size=(20, 2)))


def test_a_moved_network_is_the_function_of_moved_coordinates(weights, points):
  rng = np.random.default_rng(2)
  matrix, offset = rng.normal(size=(2, 2)), rng.normal(size=2)
  transformed = augmentation.transform_input(
    weights, jnp.asarray(matrix), jnp.asarray(offset)
  )
  at = points @ matrix.T + offset[None]
  np.testing.assert_allclose(
    TARGET.apply(transformed, points), TARGET.apply(weights, at), 1e-9, 1e-11
  )
  # The transposed matrix is another map.
  at = points @ matrix + offset[None]
  assert not np.allclose(
    TARGET.apply(transformed, points), TARGET.apply(weights, at), 0.01, 0.01
  )


def test_moving_commutes_with_the_group(weights):
  g = actions.sample(jax.random.key(0), TARGET.spec)
  key = jax.random.key(1)
  a = augmentation.augment(key, actions.act(g, TARGET.spec, weights), RANGES)
  b = actions.act(g, TARGET.spec, augmentation.augment(key, weights, RANGES))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-10), a, b)


def test_coordinates_stay_within_the_ranges(weights):
  """Read off the first layer: W' = AᵀW and b' = b + tW."""

  def one(key):
    first = augmentation.augment(key, weights, RANGES)[0]
    inverse = jnp.linalg.pinv(weights[0]["kernel"])
    matrix = (first["kernel"] @ inverse).T
    offset = (first["bias"] - weights[0]["bias"]) @ inverse
    return matrix, offset

  matrix, offset = jax.lax.map(one, jax.random.split(jax.random.key(0), 200))
  size = jnp.sqrt(jnp.linalg.det(matrix))
  angle = jnp.rad2deg(jnp.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
  for values, low, high in (
    (angle, -30, 30), (jnp.log(size), -np.log(1.5), np.log(1.5)),
    (offset, -0.3, 0.3),
  ):  # fmt: skip
    assert low - 1e-9 <= values.min() < 0.9 * low
    assert 0.9 * high < values.max() <= high + 1e-9


def test_noise_is_in_units_of_each_tensor(weights):
  keys = jax.random.split(jax.random.key(0), 500)
  noisy = jax.vmap(lambda k: augmentation.add_noise(k, weights, 0.1))(keys)

  def check(w, n):
    std = (n - w[None]).std()
    np.testing.assert_allclose(std, 0.1 * w.std(), rtol=0.1)

  jax.tree.map(check, weights, noisy)


def test_no_range_is_no_change(weights):
  same = augmentation.augment(
    jax.random.key(0), weights, augmentation.AugmentRanges()
  )
  jax.tree.map(np.testing.assert_array_equal, same, weights)
