"""What metanetworks refuse, and the types that they keep."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import inputs, metanetworks
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.traced import trace

TARGET = mlp((3, 4, 2), ("relu", "tanh"))
SHAPES = jax.eval_shape(TARGET.init, jax.random.key(0))
WEIGHTS = TARGET.init(jax.random.key(1))
STACK = jax.vmap(TARGET.init)(jax.random.split(jax.random.key(2), 5))


def replaced(leaf):
  """The network with another leaf in place of the first kernel."""
  return ({**WEIGHTS[0], "kernel": leaf}, WEIGHTS[1])


UNFIT = {
  "another width": (
    mlp((3, 5, 2)).init(jax.random.key(0)),
    "weight 0/bias has shape [5], expected [4]; a network of another",
  ),
  "another kernel": (
    replaced(jnp.ones((3, 3, 3, 4))),
    "weight 0/kernel has shape [3, 3, 3, 4], expected [3, 4]; a network",
  ),
  "deeper": (
    mlp((3, 4, 4, 2)).init(jax.random.key(0)),
    "the weights are a tuple of 3, expected a tuple of 2",
  ),
  "a stack": (
    STACK,
    "weight 0/bias has shape [5, 4], expected [4]: these are 5 networks; map",
  ),
  "a list": (
    list(WEIGHTS),
    "the weights are a list of 2, expected a tuple of 2; give tuple(weights)",
  ),
  "flax": (
    {"Dense_0": WEIGHTS[0], "Dense_1": WEIGHTS[1]},
    "the weights are a dict with Dense_0, Dense_1, expected a tuple of 2; give "
    "its layers as a tuple",
  ),
  "no biases": (
    tuple({"kernel": layer["kernel"]} for layer in WEIGHTS),
    "weight 0 is a dict with kernel, expected a dict with bias, kernel",
  ),
  "nested": (
    replaced({"w": jnp.ones((3, 4))}),
    "weight 0/kernel is a dict with w, expected an array of shape [3, 4]",
  ),
  "nothing": (None, "the weights are None, expected a tuple of 2"),
  "a number": (replaced(1.0), "weight 0/kernel is float, expected an array"),
  "integers": (
    replaced(np.ones((3, 4), int)),
    "weight 0/kernel is ndarray of int64, expected a JAX or numpy array of",
  ),
  "complex": (
    replaced(jnp.ones((3, 4), complex)),
    "of complex64, expected a JAX or numpy array of real floats",
  ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_weights_that_do_not_fit(name):
  weights, message = UNFIT[name]
  with pytest.raises(InputError, match=re.escape(message)) as error:
    inputs.check_weights(SHAPES, weights)
  assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_many_keys_are_cut_short():
  with pytest.raises(InputError, match=r"a dict with 0, 1, 2, 3, 4, 5, \.\.\."):
    inputs.check_weights(SHAPES, {i: jnp.ones(3) for i in range(99)})


def test_arrays_of_other_libraries_are_refused():
  torch = pytest.importorskip("torch")
  with pytest.raises(InputError, match="0/kernel is Tensor of torch.float32"):
    inputs.check_weights(SHAPES, replaced(torch.ones((3, 4))))


@pytest.mark.parametrize(
  ("activation", "found"),
  [
    ("relu", "activation is 'relu', "),
    (2, "activation is 2, "),
    (-1, "activation is -1, "),
    (jnp.int32(7), "activation is 7, "),
    (0.0, "activation is 0.0, "),
    (None, "activation is None, "),
    (jnp.ones(()), "activation is of float32, "),
    (np.zeros(5, int), r"activation has shape \[5\], .*vmap"),
  ],
)
def test_activations_that_do_not_exist(activation, found):
  with pytest.raises(InputError, match=f"^{found}") as error:
    inputs.check_activation(TARGET.activations, activation)
  assert "expected an index of relu, tanh: 0 or 1" in str(error.value)


def test_the_first_weight_that_is_not_finite():
  inputs.check_finite(WEIGHTS)
  with pytest.raises(InputError, match="weight 0/kernel holds 12 NaN or inf"):
    inputs.check_finite(replaced(jnp.full((3, 4), jnp.nan, jnp.bfloat16)))


@pytest.mark.parametrize("kind", ["operator", "functional"])
def test_metanetworks_check_what_they_are_given(kind):
  metanetwork = getattr(metanetworks, kind)(TARGET, width=2, depth=0)
  params = jax.eval_shape(metanetwork.init, jax.random.key(0))

  def call(weights, activation=0):
    jax.eval_shape(metanetwork.apply, params, weights, activation)

  call(WEIGHTS)
  with pytest.raises(InputError, match=r"these are 5 networks"):
    call(STACK)
  with pytest.raises(InputError, match="activation has shape"):
    call(WEIGHTS, np.zeros(5, int))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_types_are_kept_and_the_computation_is_in_float32(dtype):
  operator = metanetworks.operator(TARGET, width=2, depth=0)
  params = jax.jit(operator.init)(jax.random.key(0))
  apply = jax.jit(operator.apply)
  weights = jax.tree.map(lambda w: w.astype(dtype), WEIGHTS)
  edited = apply(params, weights)
  wide = apply(params, jax.tree.map(lambda w: w.astype(jnp.float32), weights))
  for low, high in zip(*map(jax.tree.leaves, (edited, wide)), strict=True):
    assert low.dtype == dtype
    np.testing.assert_array_equal(low, high.astype(dtype))


def test_targets_and_metanetworks_have_short_names():
  target = cnn((8, 8, 1), (4,) * 9, padding="SAME", activation=("relu", "tanh"))
  assert repr(target) == (
    "TargetNetwork(cnn, inputs (8, 8, 1), 1-4-4-4-4-...-10 neurons, relu/tanh)"
  )
  assert "user-defined" in repr(TARGET._replace(description={}))
  assert repr(metanetworks.operator(TARGET)) == "Operator(operator)"
  assert repr(metanetworks.functional(TARGET)) == "Functional(functional)"


@pytest.mark.parametrize("kind", ["functional", "target", "traced"])
def test_an_eager_init_is_one_program(kind, caplog):
  """Alone; within `jax.jit` it is a part of the program there."""
  init = {
    "functional": lambda: metanetworks.functional(TARGET, width=3, depth=1),
    "target": lambda: mlp((3, 4, 2)),
    "traced": lambda: trace(TARGET.apply, WEIGHTS, jnp.ones((1, 3))),
  }[kind]().init
  key = jax.random.key(0)
  with jax.log_compiles():
    alone = init(key=key)
  programs = [r.message for r in caplog.records if "Compiling" in r.message]
  assert len(programs) == 1
  within = jax.jit(lambda: init(key))()
  mapped = jax.vmap(init)(key[None])
  leaves = map(jax.tree.leaves, (alone, within, mapped))
  for a, b, c in zip(*leaves, strict=True):
    np.testing.assert_allclose(a, b, 1e-6)
    np.testing.assert_allclose(a, c[0], 1e-6)


def test_parameters_of_another_model_are_refused():
  params = jax.eval_shape(
    metanetworks.functional(TARGET, width=3, depth=1).init, jax.random.key(0)
  )
  wider = metanetworks.functional(TARGET, width=4, depth=1)
  with pytest.raises(
    InputError, match="parameters body/vertex_code have shape"
  ):
    jax.eval_shape(wider.apply, params, WEIGHTS)
