"""Trained metanetworks are saved and loaded."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import base, saved
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


def test_the_type_of_products_comes_back(tmp_path):
  model = MODEL | {"dtype": "bfloat16"}
  functional = metanetworks.functional(TARGET, **model)
  params = jax.jit(functional.init)(jax.random.key(0))
  saved.save_functional(tmp_path, TARGET, model, params)
  trained = saved.load_functional(tmp_path)
  weights = TARGET.init(jax.random.key(1))
  jaxpr = jax.make_jaxpr(trained.metanetwork.apply)(params, weights)
  assert "bf16" in str(jaxpr)


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


def test_a_folder_of_several_names_them(tmp_path):
  for name in ("seed_0/a", "seed_0/b"):
    (tmp_path / name).mkdir(parents=True)
    save(tmp_path / name)
  with pytest.raises(InputError, match="here; there are seed_0/a, seed_0/b$"):
    saved.load_functional(tmp_path)
  with pytest.raises(InputError, match="here; train one first$"):
    saved.load_functional(tmp_path / "none")


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


OWN = TARGET._replace(description={})
"""The same architecture as a target of one's own."""


def test_a_target_of_ones_own_is_given_again(tmp_path):
  functional, params, _ = save(tmp_path)
  saved.save_functional(tmp_path, OWN, MODEL, params)
  with pytest.raises(InputError, match="without a description; give target=$"):
    saved.load_functional(tmp_path)
  trained = saved.load_functional(tmp_path, OWN)
  assert trained.target is OWN
  jax.tree.map(np.testing.assert_array_equal, trained.params, params)


@pytest.mark.parametrize(
  ("other", "message"),
  [
    (mlp.mlp((3, 5, 2), ("relu", "tanh")), r"0/bias of shape \[5\], .*\[4\]"),
    (mlp.mlp((3, 4, 2), ("relu", "silu")), r"activations .*'silu'.*'tanh'"),
    (OWN._replace(input_shape=(1, 3)), r"another input_shape .*\[1, 3\]"),
    (
      OWN._replace(spec=dataclasses.replace(OWN.spec, spaces={
        **OWN.spec.spaces, "hidden_1": base.Space(4, ("sign", "sign")),
      })),
      "another symmetry than the target that was saved",
    ),
  ],
)  # fmt: skip
def test_another_target_is_refused(other, message, tmp_path):
  _, params, _ = save(tmp_path)
  saved.save_functional(tmp_path, OWN, MODEL, params)
  with pytest.raises(InputError, match=message):
    saved.load_functional(tmp_path, other)


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path):
  _, params, path = save(tmp_path)
  path.unlink()

  def refused(message, **changes):
    arguments = {"model": MODEL, "params": params, "about": {}} | changes
    with pytest.raises(InputError, match=message):
      saved.save_functional(tmp_path, TARGET, **arguments)
    assert not list(tmp_path.iterdir())

  refused("its model: body/.* has shape None, expected", params={})
  refused("depth is -1, expected at least 0", model=MODEL | {"depth": -1})
  refused("unexpected keyword", model=MODEL | {"prototypes": 1})
  refused("statistics", about={"statistics": {"range": {"0/bias": [0, 1]}}})
  for value, message in ((jnp.nan, "NaN or inf"), (1j, "complex64, expected")):
    spoiled = jax.tree.map(lambda p, v=value: p + v, params)
    refused(message, params=spoiled)


def test_what_it_was_trained_on_is_shown(tmp_path):
  _, params, _ = save(tmp_path)
  about = {"images": "digits", "shape": [8, 8, 1], "scaling": "x/8 - 1"}
  saved.save_functional(tmp_path, TARGET, MODEL, params, about=about)
  trained = saved.load_functional(tmp_path)
  assert trained.about == about
  assert "for digits [8, 8, 1] x/8 - 1, " in repr(trained)


def altered(path, change):
  """Replaces the arrays of a file by change(arrays), its header stays."""
  with np.load(path, allow_pickle=False) as file:
    arrays = dict(file)
  np.savez(path, **change(arrays))


def test_a_file_that_was_changed_fails_its_checksum(tmp_path):
  path = save(tmp_path)[2]
  name = "params/out/out/bias"
  altered(path, lambda arrays: arrays | {name: arrays[name] + 1})
  with pytest.raises(InputError, match="its checksum is wrong"):
    saved.load_functional(tmp_path)
  path = save(tmp_path)[2]
  altered(
    path,
    lambda arrays: (
      arrays
      | {"header": np.array(str(arrays["header"]).replace('"tanh"', '"silu"'))}
    ),
  )
  with pytest.raises(InputError, match="its checksum is wrong"):
    saved.load_functional(tmp_path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda a: a * np.nan, "bias holds NaN or infinity"),
    (lambda a: a + 1j, "bias is complex"),
    (lambda a: a.astype(int), "bias is int64, expected real floats"),
    (lambda a: a.astype("U9"), "bias is <U9, expected real floats"),
  ],
)
def test_parameters_that_are_no_numbers(change, message, tmp_path):
  path = save(tmp_path)[2]
  name = "params/out/out/bias"
  altered(path, lambda arrays: arrays | {name: change(arrays[name])})
  with pytest.raises(InputError, match=message):
    saved.load_functional(tmp_path)


@pytest.mark.parametrize(
  ("section", "key", "value"),
  [
    ("model", "depth", 10**9),
    ("model", "width", 10**12),
    ("model", "outputs", 10**12),
    ("target", "sizes", [3, 10**7, 10**7, 2]),
    ("target", "sizes", [3, 10**20, 2]),
  ],
)
def test_absurd_sizes_are_refused_at_once(section, key, value, tmp_path):
  path = save(tmp_path)[2]

  def change(header):
    del header["architecture"]  # files of format 1 have none
    return header | {section: header[section] | {key: value}}

  rewrite(path, change)
  with pytest.raises(InputError, match="expected a trained functional"):
    saved.load_functional(tmp_path)


@pytest.mark.parametrize("header", ["[1]", '{"target": 1, "model": 2}', "{"])
def test_a_header_that_is_no_object(header, tmp_path):
  path = save(tmp_path)[2]
  altered(path, lambda arrays: arrays | {"header": np.array(header)})
  with pytest.raises(InputError, match="expected a trained functional"):
    saved.load_functional(tmp_path)


def test_a_compressed_file_is_not_unpacked(tmp_path):
  path = save(tmp_path)[2]
  np.savez_compressed(path, header=np.zeros(10**6))
  with pytest.raises(InputError, match="its arrays are compressed"):
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
