"""Targets that are made from a function: results, refusals, speed."""

import dataclasses
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax import base, testing
from scalegmn_jax.eval import weight_range
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import traced


@pytest.fixture(autouse=True)
def rank_promotion():
  """Functions of users add vectors to arrays of a higher rank."""
  with jax.numpy_rank_promotion("allow"):
    yield


def hidden(spec):
  return {name: s for name, s in spec.spaces.items() if not s.fixed}


def mlp(p, x):
  return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"] + p["c"]


def mlp_parameters():
  rng = np.random.default_rng(0)
  shapes = {"w": (3, 5), "b": (5,), "v": (5, 2), "c": (2,)}
  return {
    name: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    for name, shape in shapes.items()
  }


def test_an_operator_of_a_traced_network_is_equivariant():
  params = mlp_parameters()
  target = sg.trace(mlp, params, jnp.ones((2, 3)))
  operator = sg.operator(target, width=2, depth=1)
  phi = operator.init(jax.random.key(0))
  phi = jax.tree.map(lambda x: x + 0.1, phi)

  @jax.jit
  def update(weights):
    new = operator.apply(phi, weights)
    return jax.tree.map(jnp.subtract, new, weights)

  g = actions.sample_on_host(np.random.default_rng(0), target.spec, decades=0.3)
  g = jax.tree.map(
    lambda x: jnp.asarray(x, jax.dtypes.canonicalize_dtype(x.dtype)), g
  )
  at_g = update(actions.act(g, target.spec, params))
  expected = actions.act(g, target.spec, update(params))
  for name, b in expected.items():
    assert jnp.abs(b).max() > 0
    np.testing.assert_allclose(at_g[name], b, atol=1e-4 * jnp.abs(b).max())


def test_shapes_are_enough():
  target = sg.trace(
    mlp,
    jax.eval_shape(mlp_parameters),
    jax.ShapeDtypeStruct((2, 3), jnp.float32),
  )
  assert hidden(target.spec) == {"w[1]": sg.Space(5, ("scale",))}
  assert target.input_shape == (3,)


def test_a_wrong_rule_is_an_internal_error(monkeypatch):
  wrong = sg.SymmetrySpec(
    {"hidden": sg.Space(5, ("sign",))},
    {
      "w": sg.Axes((None, sg.Axis("hidden", 1))),
      "b": sg.Axes((sg.Axis("hidden", 1),)),
      "v": sg.Axes((sg.Axis("hidden", -1), None)),
      "c": sg.Axes((None,)),
    },
  )
  monkeypatch.setattr(traced, "symmetry_of", lambda jaxpr, params: wrong)
  with pytest.raises(RuntimeError, match="changes an output"):
    sg.trace(mlp, mlp_parameters(), jnp.ones((2, 3)))


def test_unknown_primitives_fix_their_axes():
  def apply(p, x):
    return jnp.sort(x @ p["w"], axis=-1) @ p["v"]

  params = {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 2))}
  target = sg.trace(apply, params, jnp.ones((2, 3)), verify=False)
  assert hidden(target.spec) == {}
  assert target.spec.fixed["w[1]"].startswith("sort")


def random_apply(p, x):
  return mlp(p, x + np.random.default_rng().standard_normal())


def printing(p, x):
  jax.debug.print("{x}", x=x)
  return mlp(p, x)


def closing_over(params):
  return lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ params["v"] + p["c"]


def branching(p, x):
  return mlp(p, x) if x.sum() > 0 else x


@pytest.mark.parametrize(
  ("apply", "change", "inputs", "message"),
  [
    (random_apply, {}, (2, 3), "apply is not deterministic"),
    (printing, {}, (2, 3), "apply has effects"),
    (lambda p, x: 2 * x, {}, (2, 3), "parameter b and 3 others of 4: the out"),
    (mlp, {"other": jnp.ones((4, 4))}, (2, 3), "parameter other of 5: the out"),
    (mlp, {}, (2, 4), "raises TypeError: dot_general requires contracting .*"),
    (lambda p, x: p["z"], {}, (2, 3), "raises KeyError: 'z', expected"),
    (branching, {}, (2, 3), "raises TracerBoolConversionError: Attempted bool"),
    (mlp, {"b": jnp.ones(5, int)}, (2, 3), "parameter b is int32, expected a"),
    (mlp, {"b": jnp.ones(5, complex)}, (2, 3), "parameter b is complex64"),
    (mlp, {"b": "text"}, (2, 3), "parameter b is str"),
    (mlp, {"b": jax.nn.relu}, (2, 3), "parameter b is .*, expected a floating"),
    (mlp, {"b": 1.0}, (2, 3), "parameter b is float, expected a floating"),
    (mlp, {"b": jnp.ones((0,))}, (2, 3), "parameter b has shape"),
    (mlp, {"b": jnp.full(5, jnp.nan)}, (2, 3), "parameter b is not finite"),
    (
      lambda p, x: jnp.log(-1 - mlp(p, x) ** 2),
      {},
      (2, 3),
      "outputs are not f",
    ),
  ],
)
def test_bad_inputs(apply, change, inputs, message):
  with pytest.raises(sg.InputError, match=f"trace: .*{message}") as error:
    sg.trace(apply, mlp_parameters() | change, jnp.ones(inputs))
  assert "\n" not in str(error.value)


def test_parameters_as_constants():
  params = mlp_parameters()
  with pytest.raises(sg.InputError, match="apply closes over parameter v, exp"):
    sg.trace(closing_over(params), params, jnp.ones((2, 3)))


def test_inputs_that_are_not_finite():
  with pytest.raises(sg.InputError, match="trace: input 0 is not finite"):
    sg.trace(mlp, mlp_parameters(), jnp.full((2, 3), jnp.inf))


def test_no_inputs_and_no_parameters():
  with pytest.raises(sg.InputError, match="no inputs"):
    sg.trace(mlp, mlp_parameters())
  with pytest.raises(sg.InputError, match="params has no arrays"):
    sg.trace(mlp, {}, jnp.ones((2, 3)))
  with pytest.raises(sg.InputError, match="params has no arrays"):
    sg.trace(mlp, {"w": None, "layers": []}, jnp.ones((2, 3)))


def with_dropout(p, x, key):
  keep = jax.random.bernoulli(key, 0.5, (2, 1))
  return mlp(p, jnp.where(keep, x, 0))


def tree_of_outputs(p, x):
  return {"y": mlp(p, x), "label": (mlp(p, x).argmax(-1), None)}


def embedding(p, tokens):
  return mlp(p, p["e"][tokens["ids"]])


def half(p, x):
  """Rounds inside, its outputs do not show it."""
  p = jax.tree.map(lambda w: w.astype(jnp.bfloat16), p)
  return mlp(p, x.astype(jnp.bfloat16)).astype(jnp.float32)


def half_scan(p, x):
  """Does not run in float32: the type of the carry is given."""
  carry = jnp.zeros((2, 2), jnp.bfloat16)
  return jax.lax.scan(lambda h, _: (h + mlp(p, x), None), carry, length=2)[0]


def rounded(p, x):
  """Its outputs in half precision are rounding errors."""
  y = mlp(p, x).astype(jnp.bfloat16)
  return y * 1.01 - y * 1.02


X = np.ones((2, 3), np.float32)
HALF = {n: w.astype(jnp.bfloat16) for n, w in mlp_parameters().items()}


@pytest.mark.parametrize(
  ("apply", "change", "inputs"),
  [
    (jax.jit(mlp), {}, (X,)),
    (jax.checkpoint(mlp), {}, (X,)),
    (tree_of_outputs, {}, (X,)),
    (mlp, {"nothing": None, "more": [None]}, (X,)),
    (with_dropout, {}, (X, jax.random.key(0))),
    (with_dropout, {}, (X, jax.random.PRNGKey(0))),
    (
      with_dropout,
      {},
      jax.eval_shape(lambda: (jnp.ones((2, 3)), jax.random.key(0))),
    ),
    (
      embedding,
      {"e": np.eye(7, 3, dtype=np.float32)},
      ({"ids": X.astype(int)},),
    ),
    (half, {}, (X,)),
    (mlp, HALF, (X,)),
    (half_scan, HALF, (X.astype(jnp.bfloat16),)),
    (rounded, HALF, (X,)),
    (mlp, {n: np.asarray(w) for n, w in mlp_parameters().items()}, (X,)),
    (mlp, {n: np.float64(w) for n, w in mlp_parameters().items()}, (X,)),
  ],
)
def test_functions_of_many_kinds(apply, change, inputs):
  spec = sg.trace(apply, mlp_parameters() | change, *inputs).spec
  assert hidden(spec)["w[1]"] == sg.Space(5, ("scale",))


def resnet_18(p, x):
  """Of ImageNet, as in torchvision."""

  def norm(n, x):
    x = (x - n["mean"]) * jax.lax.rsqrt(n["var"] + 1e-5)
    return x * n["scale"] + n["bias"]

  def conv(x, kernel, strides=1):
    return jax.lax.conv_general_dilated(
      x, kernel, (strides, strides), "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip

  x = jax.nn.relu(norm(p["stem"]["n"], conv(x, p["stem"]["k"], 2)))
  x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
  for name, block in p["blocks"].items():
    strides = 2 if name[0] != "1" and name[1] == "a" else 1
    y = conv(x, block["k1"], strides)
    y = jax.nn.relu(norm(block["n1"], y))
    y = norm(block["n2"], conv(y, block["k2"]))
    if "skip" in block:
      x = norm(block["n3"], conv(x, block["skip"], strides))
    x = jax.nn.relu(x + y)
  return x.mean((1, 2)) @ p["w"] + p["b"]


def resnet_18_shapes():
  def norm(n):
    return dict.fromkeys(("mean", "var", "scale", "bias"), (n,))

  blocks, last = {}, 64
  for stage, n in enumerate((64, 128, 256, 512), 1):
    for letter in "ab":
      block = {
        "k1": (3, 3, last, n), "n1": norm(n), "k2": (3, 3, n, n), "n2": norm(n),
      }  # fmt: skip
      if last != n:
        block |= {"skip": (1, 1, last, n), "n3": norm(n)}
      blocks[f"{stage}{letter}"], last = block, n
  stem = {"k": (7, 7, 3, 64), "n": norm(64)}
  return jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    {"stem": stem, "blocks": blocks, "w": (512, 10), "b": (10,)},
    is_leaf=lambda x: isinstance(x, tuple),
  )


def test_resnet_18_takes_less_than_a_second():
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  start = time.process_time()
  spec = sg.trace(resnet_18, resnet_18_shapes(), image, verify=False).spec
  assert time.process_time() - start < 1
  sizes = [s.size for s in spec.spaces.values() if not s.fixed]
  # One stream per stage, and one space inside each of the eight blocks.
  assert sorted(sizes) == sorted([64, 128, 256, 512] * 3)


@pytest.fixture
def residual():
  """(target, inputs) of `Residual`."""
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  params = Residual().init(jax.random.key(0), x)
  return sg.trace(Residual().apply, params, x), x


def test_symmetric_is_asserted_of_traced_targets(residual):
  target, x = residual
  testing.assert_symmetric(target, jax.random.key(0), inputs=x)
  name = "params/Conv_1/kernel[3]"
  space = target.spec.spaces[name]
  wrong = dataclasses.replace(
    space, multipliers=("sign",) * len(space.multipliers)
  )
  spec = dataclasses.replace(
    target.spec, spaces={**target.spec.spaces, name: wrong}
  )
  with pytest.raises(AssertionError, match=r"permutations of .*Conv_1/kernel"):
    testing.assert_symmetric(
      target._replace(spec=spec), jax.random.key(0), inputs=x
    )


def test_ranges_of_traced_networks(residual):
  target, _ = residual
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 2))
  networks = base.Networks(weights, np.zeros(2, int))
  found = weight_range.measure(target, networks)["range"]
  # Biases begin at 0 in training, kernels do not.
  assert found["params/BatchNorm_1/bias"][0] == 0
  assert found["params/Conv_1/kernel"][0] > 0


@pytest.mark.parametrize(
  "name",
  ["batch_stats/norm/var", "layer1.0.bn1.running_var", "net/~/norm/~/var_ema"],
)
def test_running_statistics_are_known_by_name(name):
  def apply(p, x):
    x = x @ p["w"] * jax.lax.rsqrt(p[name] + 1e-5).reshape(1, -1)
    return jax.nn.relu(x) @ p["v"]

  params = {"w": jnp.ones((3, 4)), name: jnp.ones(4), "v": jnp.ones((4, 2))}
  target = sg.trace(apply, params, jnp.ones((2, 3)), verify=False)
  found = {n for n, axes in target.spec.axes.items() if axes.statistic}
  assert found == {name}


def test_a_hundred_layers_take_seconds():
  layers = 100

  def apply(p, x):
    x = x @ p["in"]
    for block in p["blocks"]:
      y = jax.nn.relu(nn.LayerNorm().apply({"params": block["n"]}, x))
      x = x + jax.nn.relu(y @ block["a"]) @ block["b"]
    return x @ p["out"]

  block = {
    "n": {"scale": (4,), "bias": (4,)}, "a": (4, 6), "b": (6, 4),
  }  # fmt: skip
  params = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    {"in": (3, 4), "blocks": [block] * layers, "out": (4, 2)},
    is_leaf=lambda x: isinstance(x, tuple),
  )
  start = time.process_time()
  x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  spec = sg.trace(apply, params, x, verify=False).spec
  assert time.process_time() - start < 5
  # The stream has a multiplier for each normalization.
  sizes = [(s.size, len(s.multipliers)) for s in hidden(spec).values()]
  assert sorted(sizes) == [(4, layers), *[(6, 0)] * layers]


class Transformer(nn.Module):
  """A vision transformer as users of flax write it."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (4, 4), (4, 4))(x)
    x = x.reshape(len(x), -1, 8)
    x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
    x = x + nn.Dense(8)(nn.gelu(nn.Dense(6)(nn.LayerNorm()(x))))
    return nn.Dense(3)(nn.LayerNorm()(x).mean(1))


class Residual(nn.Module):
  """A residual CNN with batch normalization in inference mode."""

  @nn.compact
  def __call__(self, x):
    def norm(x):
      return nn.BatchNorm(use_running_average=True)(x)

    x = nn.relu(norm(nn.Conv(4, (3, 3), use_bias=False)(x)))
    y = nn.relu(norm(nn.Conv(6, (3, 3), use_bias=False)(x)))
    x = nn.relu(x + norm(nn.Conv(4, (3, 3), use_bias=False)(y)))
    return nn.Dense(3)(x.mean((1, 2)))


def summary(spec):
  """Sorted (size, positive multipliers, signs) of the hidden spaces."""
  return sorted(
    (s.size, *(s.multipliers.count(g) for g in ("scale", "sign")))
    for s in hidden(spec).values()
  )


@pytest.mark.parametrize(
  ("module", "expected"),
  [
    # The stream: 3 normalizations; heads: q·k and v·o; their dimensions.
    (Transformer(), [(2, 2, 2), (4, 1, 1), (4, 1, 1), (6, 0, 0), (8, 3, 3)]),
    # Two convolutions write to the stream, each before its normalization.
    (Residual(), [(4, 3, 2), (6, 2, 1)]),
  ],
)
def test_flax_modules(module, expected):
  x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  params = jax.eval_shape(module.init, jax.random.key(0), x)
  spec = sg.trace(module.apply, params, x, verify=False).spec
  assert summary(spec) == expected
