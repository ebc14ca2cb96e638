"""What a finished training leaves behind can be loaded and used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import saved
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((3, 4, 2), ("relu", "tanh"))
MODEL = {"width": 4, "depth": 1, "outputs": 2}


def save(folder, link):
  functional = metanetworks.functional(TARGET, **MODEL)
  params = jax.jit(functional.init)(jax.random.key(0))
  path = saved.save_functional(folder, TARGET, MODEL, params, link=link)
  return functional, params, path


def test_a_functional_comes_back_as_it_was(tmp_path):
  functional, params, _ = save(tmp_path, "sigmoid")
  found = saved.load_functional(tmp_path)
  assert found.model == MODEL and found.target.activations == ("relu", "tanh")

  @jax.jit
  def both(weights, activation):
    output = functional.apply(params, weights, activation)
    return output, found(weights, activation)

  weights = TARGET.init(jax.random.key(1))
  for activation in (0, 1):
    logits, predicted = both(weights, activation)
    np.testing.assert_allclose(predicted, jax.nn.sigmoid(logits), 1e-6)
    assert jnp.abs(predicted - logits).max() > 1e-3


def test_it_is_compiled_once_alone_and_maps(tmp_path):
  functional, _, path = save(tmp_path, "identity")
  traced = []

  def apply(*given):
    traced.append(1)
    return functional.apply(*given)

  found = dataclasses.replace(
    saved.load_functional(path.parent),
    metanetwork=functional._replace(apply=apply),
  )
  networks = jax.vmap(TARGET.init)(jax.random.split(jax.random.key(1)))
  alone = [found(jax.tree.map(lambda a, i=i: a[i], networks)) for i in (0, 1)]
  assert len(traced) == 1
  np.testing.assert_allclose(jax.vmap(found)(networks), jnp.stack(alone), 1e-5)


def test_the_two_kinds_do_not_take_each_others_files(tmp_path):
  path = save(tmp_path, "identity")[2]
  with pytest.raises(InputError, match="no trained operator here"):
    saved.load_operator(tmp_path)
  path.rename(tmp_path / saved.OPERATOR)
  with pytest.raises(InputError, match="not a trained operator: .*outputs"):
    saved.load_operator(tmp_path)
  with pytest.raises(InputError, match="no trained functional here"):
    saved.load_functional(tmp_path)


@pytest.mark.parametrize("cut", (0, 100, 2000))
def test_damaged_functional(cut, tmp_path):
  path = save(tmp_path, "identity")[2]
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(InputError, match="not a trained functional"):
    saved.load_functional(tmp_path)


def test_unknown_link(tmp_path):
  save(tmp_path, "probit")
  with pytest.raises(InputError, match="no link 'probit'"):
    saved.load_functional(tmp_path)
