"""User-defined architectures in the registry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import saved
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.targets import registry
from scalegmn_jax.targets.mlp import mlp

MODEL = {"width": 4, "depth": 1}


def two_layer(width, scale):
  """A target of a user's own: outputs of an MLP times a constant."""
  base = mlp((3, width, 2))

  def apply(weights, x, activation=0, dropout=None):
    return scale * base.apply(weights, x, activation, dropout)

  description = {"name": "two_layer", "width": width, "scale": scale}
  return base._replace(apply=apply, description=description)


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch):
  monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))


def test_a_registered_target_is_saved_and_loaded(tmp_path):
  registry.register_target("two_layer", two_layer)
  target = two_layer(8, scale=2.0)
  operator = metanetworks.operator(target, **MODEL)
  params = jax.jit(operator.init)(jax.random.key(0))
  saved.save_operator(tmp_path, target, MODEL, params)
  loaded = saved.load_operator(tmp_path)
  assert loaded.target.description == target.description
  weights = target.init(jax.random.key(1))
  edited = jax.jit(operator.apply)(params, weights, 0)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-7),
    loaded(weights),
    edited,
  )
  x = jnp.ones((2, 3))
  np.testing.assert_array_equal(
    loaded.target.apply(edited, x), target.apply(edited, x)
  )


def test_an_unregistered_target_is_not_loaded(tmp_path):
  target = two_layer(8, scale=2.0)
  operator = metanetworks.operator(target, **MODEL)
  params = jax.jit(operator.init)(jax.random.key(0))
  saved.save_operator(tmp_path, target, MODEL, params)
  with pytest.raises(InputError, match="unknown target network 'two_layer'"):
    saved.load_operator(tmp_path)


def test_a_name_has_one_function():
  registry.register_target("two_layer", two_layer)
  registry.register_target("two_layer", two_layer)
  with pytest.raises(InputError, match="'two_layer' is already registered"):
    registry.register_target("two_layer", lambda **_: mlp((3, 2)))
  with pytest.raises(InputError, match="'mlp'"):
    registry.register_target("mlp", two_layer)


def test_wrong_arguments_of_a_registered_target():
  registry.register_target("two_layer", two_layer)
  with pytest.raises(InputError, match="target network 'two_layer': .*'depth'"):
    registry.make_target({"name": "two_layer", "width": 8, "depth": 3})
