"""Traced targets as JSON values, and back."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax import saved
from scalegmn_jax.targets.described import describe
from scalegmn_jax.targets.registry import make_target


def normalized(p, x):
  """A convolution, a BatchNorm, a flattening and a dense layer."""
  x = jax.lax.conv_general_dilated(
    x, p["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  mean, variance, scale = (v[None, None, None] for v in p["norm"])
  x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale)
  return x.reshape(len(x), -1) @ p["dense"][0]


def parameters():
  return {
    "conv": jnp.ones((3, 3, 1, 4)),
    "norm": (jnp.zeros(4), jnp.ones(4), jnp.ones(4)),
    "dense": [jnp.ones((2 * 2 * 4, 3))],
  }


def target(activation=jax.nn.relu, **kwargs):
  def apply(p, x):
    return activation(x @ p["w"]) @ p["v"]

  params = {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 2))}
  return sg.trace(apply, params, jnp.ones((2, 3)), verify=False, **kwargs)


def test_multipliers_and_split_axes_are_rebuilt():
  params = parameters()
  x = jnp.ones((1, 2, 2, 1))
  traced = sg.trace(normalized, params, x, verify=False)
  (hidden,) = [s for s in traced.spec.spaces.values() if not s.fixed]
  assert hidden.multipliers.count("scale") == 2
  assert isinstance(traced.spec.axes["dense"][0].axes[0], sg.Split)
  values = json.loads(json.dumps(traced.description))
  rebuilt = make_target(values)
  assert rebuilt.spec.spaces == dict(traced.spec.spaces)
  assert rebuilt.spec.axes == traced.spec.axes
  assert rebuilt.input_shape == (2, 2, 1)
  assert rebuilt.description == values
  zeros = rebuilt.init(jax.random.key(0))
  assert jax.tree.structure(zeros) == jax.tree.structure(params)
  assert repr(rebuilt) == repr(traced)
  with pytest.raises(sg.InputError, match="without its function, give target="):
    rebuilt.apply(params, x)


def test_fractions_roles_and_statistics_are_rebuilt():
  spec = sg.SymmetrySpec(
    {"h": sg.Space(2, ("permutation",), ("scale", "sign"), permuted=False)},
    {
      "v": sg.Axes((None,), statistic=True),
      "w": sg.Axes((sg.Axis("h", (1, -2), "scales"), None)),
    },
  )
  values = describe(spec, {"v": jnp.ones(1), "w": jnp.ones((2, 3))}, (3,))
  rebuilt = make_target(json.loads(json.dumps(values)))
  assert rebuilt.spec == spec


def test_descriptions_tell_functions_apart():
  program = target().description["program"]
  assert target().description["program"] == program
  assert target(jax.nn.leaky_relu).description["program"] != program

  def init(key):
    return {"w": jax.random.normal(key, (3, 5)), "v": jnp.ones((5, 2))}

  assert target(init=init).description["program"] != program


class Pair(NamedTuple):
  w: jax.Array
  v: jax.Array


def test_other_containers_have_no_description():
  params = Pair(jnp.ones((3, 5)), jnp.ones((5, 2)))
  traced = sg.trace(
    lambda p, x: jax.nn.relu(x @ p.w) @ p.v, params, jnp.ones((2, 3)),
    verify=False,
  )  # fmt: skip
  assert traced.description == {}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"spaces": {}}, "unknown space"),
    ({"weights": {"set": []}}, "its description is damaged"),
    ({"weights": 3}, "its description is damaged"),
    ({"spaces": {"w[1]": {"size": 5}}}, "its description is damaged"),
    ({"width": 3}, "target network 'traced': .*'width'"),
  ],
)
def test_damaged_descriptions(change, message):
  with pytest.raises(sg.InputError, match=message) as error:
    make_target({**target().description, **change})
  assert "\n" not in str(error.value)


MODEL = {"width": 2, "depth": 1}


def test_a_saved_operator_of_a_traced_target_is_loaded(tmp_path):
  traced = target()
  operator = sg.operator(traced, **MODEL)
  phi = jax.jit(operator.init)(jax.random.key(0))
  sg.save_operator(tmp_path, traced, MODEL, phi)
  weights = traced.init(jax.random.key(1))
  loaded = sg.load_operator(tmp_path)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-5),
    loaded(weights),
    jax.jit(operator.apply)(phi, weights),
  )
  assert sg.load_operator(tmp_path, traced).target is traced
  with pytest.raises(sg.InputError, match="another symmetry than the target"):
    sg.load_operator(tmp_path, target(jnp.tanh))


def test_the_architecture_of_a_file_has_multipliers_and_split_axes():
  shapes = parameters()
  x = jnp.ones((1, 2, 2, 1))
  traced = sg.trace(normalized, shapes, x, verify=False)
  found = saved._architecture(traced, shapes)
  assert found == json.loads(json.dumps(found))

  def scaled(p, x):  # the mean is not used as one
    mean, *others = p["norm"]
    return normalized({**p, "norm": (0 * mean, *others)}, x)

  plain = sg.trace(scaled, shapes, x, verify=False)
  assert saved._architecture(plain, shapes)["symmetry"] != found["symmetry"]
