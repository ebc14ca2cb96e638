"""Trained metanetworks are saved, loaded and applied."""

import dataclasses
import json

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


def save(folder, link="identity"):
  functional = metanetworks.functional(TARGET, **MODEL)
  params = jax.jit(functional.init)(jax.random.key(0))
  path = saved.save_functional(folder, TARGET, MODEL, params, link=link)
  return functional, params, path


def rewrite(path, change):
  """Replaces the header of a file by change(header), without its checksum."""
  with np.load(path, allow_pickle=False) as file:
    arrays = dict(file)
  header = json.loads(str(arrays.pop("header")))
  assert header.pop("sha256")
  np.savez(path, header=np.array(json.dumps(change(header))), **arrays)


def test_a_functional_comes_back_as_it_was(tmp_path):
  functional, params, _ = save(tmp_path, "sigmoid")
  trained = saved.load_functional(tmp_path)
  assert trained.model == MODEL
  assert trained.target.activations == ("relu", "tanh")
  assert repr(trained).startswith("TrainedFunctional(mlp, ")
  assert "outputs=2" in repr(trained) and "\n" not in repr(trained)

  @jax.jit
  def both(weights, activation):
    output = functional.apply(params, weights, activation)
    return output, trained(weights, activation)

  weights = TARGET.init(jax.random.key(1))
  for activation in (0, 1):
    logits, predicted = both(weights, activation)
    np.testing.assert_allclose(predicted, jax.nn.sigmoid(logits), 1e-6)
    assert jnp.abs(predicted - logits).max() > 1e-3


def test_it_is_compiled_once_alone_and_maps(tmp_path):
  functional, _, path = save(tmp_path)
  traced = []

  def apply(*args):
    traced.append(1)
    return functional.apply(*args)

  trained = dataclasses.replace(
    saved.load_functional(path.parent),
    metanetwork=functional._replace(apply=apply),
  )
  networks = jax.vmap(TARGET.init)(jax.random.split(jax.random.key(1)))
  alone = [trained(jax.tree.map(lambda a, i=i: a[i], networks)) for i in (0, 1)]
  assert len(traced) == 1
  mapped = jax.vmap(trained)(networks)
  np.testing.assert_allclose(mapped, jnp.stack(alone), 1e-5)


def test_each_kind_refuses_files_of_the_other(tmp_path):
  path = save(tmp_path)[2]
  with pytest.raises(InputError, match="no trained operator here"):
    saved.load_operator(tmp_path)
  path.rename(tmp_path / saved.OPERATOR)
  with pytest.raises(
    InputError, match=r"outputs.*\); expected a trained operator"
  ):
    saved.load_operator(tmp_path)
  with pytest.raises(InputError, match="no trained functional here"):
    saved.load_functional(tmp_path)


@pytest.mark.parametrize("cut", (0, 100, 2000))
def test_damaged_functional(cut, tmp_path):
  path = save(tmp_path)[2]
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(InputError, match="expected a trained functional"):
    saved.load_functional(tmp_path)


def test_unknown_link(tmp_path):
  with pytest.raises(InputError, match="link is 'probit', expected one of"):
    save(tmp_path, "probit")
  path = save(tmp_path)[2]
  rewrite(path, lambda header: header | {"link": "probit"})
  with pytest.raises(InputError, match="no link 'probit'"):
    saved.load_functional(tmp_path)


def test_a_model_that_is_not_json_is_refused(tmp_path):
  with pytest.raises(InputError, match="expected JSON values"):
    saved.save_operator(tmp_path, TARGET, {"backward": lambda e, s, r: e}, {})
  assert not list(tmp_path.iterdir())


def test_a_newer_format_is_refused(tmp_path):
  rewrite(save(tmp_path)[2], lambda header: header | {"format": 3})
  with pytest.raises(InputError, match="format 3, .* newer .* at most 2$"):
    saved.load_functional(tmp_path)


def test_format_1_has_other_names_and_arguments_without_effect(tmp_path):
  """Version 0.1 accepted `probes` of operators without classes."""
  model = {"width": 4, "depth": 1}
  operator = metanetworks.operator(TARGET, **model)
  params = jax.jit(operator.init)(jax.random.key(0))
  path = saved.save_operator(tmp_path, TARGET, model, params)
  old = {"edge_chunk": 7, "combinations": False, "classes": 0, "probes": 64}

  def to_format_1(header):
    assert header.pop("format") == 2
    return header | {"model": model | old}

  rewrite(path, to_format_1)
  trained = saved.load_operator(tmp_path)
  new = {"edge_block": 7, "class_combinations": False, "classes": 0}
  assert trained.model == model | new
