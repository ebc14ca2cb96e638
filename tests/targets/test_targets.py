"""Target networks: outputs, initialization, and invalid arguments."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import testing
from scalegmn_jax.base import InputError, Networks, Space, SymmetrySpec
from scalegmn_jax.inner import objective
from scalegmn_jax.targets import activations
from scalegmn_jax.targets.cnn import cnn, convolve
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.registry import make_target


def from_row(target, row):
  """A flat row as the weights of one network, in the order of the leaves."""
  shapes, structure = jax.tree.flatten(
    jax.eval_shape(target.init, jax.random.key(0))
  )
  ends = np.cumsum([s.size for s in shapes])
  assert ends[-1] == row.size
  parts = np.split(row, ends[:-1])
  return jax.tree.unflatten(
    structure,
    [p.reshape(s.shape) for p, s in zip(parts, shapes, strict=True)],
  )


def test_public_checkpoint_reaches_its_accuracy(shared):
  """Against an evaluation in NumPy and float64 without this library."""
  target = cnn()
  folder = shared / "data"
  row = np.load(folder / "small_cnn_zoo" / "best_cifar10_gs_relu.npy")
  networks = jax.tree.map(
    lambda w: jnp.asarray(w)[None],
    Networks(from_row(target, row), np.zeros((), np.int32)),
  )
  with np.load(folder / "cifar10_gs.npz") as file:
    x = file["x_train"].reshape(-1, 1000, 32, 32, 1)
    y = file["y_train"].reshape(-1, 1000).astype(np.int32)

  @jax.jit
  def scores(networks, x, y):
    x = x.astype(jnp.float32) / 127.5 - 1
    return objective.evaluate_networks(target.apply, networks, x, y)[:2]

  ce, accuracy = np.mean(
    [scores(networks, *b) for b in zip(x, y, strict=True)], 0
  )
  # Rounding decides the class of a few images.
  assert abs(50_000 * accuracy[0] - 29_987) < 5
  assert abs(ce[0] - 1.12923) < 1e-5


@pytest.mark.parametrize(
  ("padding", "stride"),
  [("VALID", 1), ("SAME", 1), ("VALID", 2), ("SAME", 2), ("SAME", 3)],
)
def test_convolve_equals_lax_conv(padding, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 7, 6, 2)).astype(np.float32)
  kernels = [
    rng.normal(size=(k, k, 2, 3)).astype(np.float32) for k in range(1, 6)
  ]

  def lax_conv(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  def patches(x, kernel):
    return convolve(x, kernel, stride, padding)

  def values_and_gradients(conv):
    def outputs(x, kernels):
      return [conv(x, kernel) for kernel in kernels]

    def loss(x, kernels):
      return sum((y**2).sum() for y in outputs(x, kernels))

    return jax.jit(
      lambda *args: (outputs(*args), jax.grad(loss, argnums=(0, 1))(*args))
    )(x, kernels)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-3),
    values_and_gradients(patches),
    values_and_gradients(lax_conv),
  )


@pytest.mark.parametrize("padding", ["VALID", "SAME", 2])
def test_large_kernels_equal_lax_conv(padding):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 14, 13, 2)).astype(np.float32)
  kernel = rng.normal(size=(12, 12, 2, 3)).astype(np.float32)
  sides = padding if isinstance(padding, str) else [(padding, padding)] * 2

  def values_and_gradients(conv):
    return jax.jit(lambda *a: jax.vjp(conv, *a)[1](conv(*a)) + (conv(*a),))(
      x, kernel
    )

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 2e-2),
    values_and_gradients(lambda x, k: convolve(x, k, 2, padding)),
    values_and_gradients(
      lambda x, k: jax.lax.conv_general_dilated(
        x, k, (2, 2), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
      )
    ),
  )


def test_a_large_kernel_is_a_small_program():
  def operations(k):
    x, kernel = jnp.zeros((1, 40, 40, 1)), jnp.zeros((k, k, 1, 1))
    jaxpr = jax.make_jaxpr(lambda x, w: convolve(x, w, 1, "VALID"))(x, kernel)
    return len(jaxpr.eqns)

  assert operations(33) < operations(11)


def test_vmap_equals_single_networks(kind, random_weights, images):
  weights = [random_weights(kind, i) for i in range(2)]
  stacked = jax.tree.map(lambda *w: jnp.stack(w), *weights)
  x = images(kind, 3)

  @jax.jit
  def both(stacked):
    return jax.vmap(kind.apply, (0, None, 0))(stacked, x, jnp.arange(1, 3))

  batched = both(stacked)
  assert batched.shape[:2] == (2, 3)
  single = jax.jit(kind.apply)(weights[1], x, 2)
  np.testing.assert_allclose(batched[1], single, 1e-4, 1e-5)


@pytest.mark.parametrize("pool", ["average", "flatten"])
def test_cnn_against_numpy(x64, random_weights, images, pool):
  target = cnn((5, 7, 2), (3,), 3, 2, "VALID", pool, 4, "tanh")
  weights, x = random_weights(target, 0, dead=False), images(target, 2)
  first, last = jax.tree.map(np.asarray, weights)
  y = np.zeros((2, 2, 3, 3))
  for i in range(2):
    for j in range(3):
      window = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
      y[:, i, j] = np.einsum("nhwc,hwcd->nd", window, first["kernel"])
  y = np.tanh(y + first["bias"])
  if pool == "average":
    assert last["kernel"].shape == (3, 4)
    y = y.mean((1, 2)) @ last["kernel"] + last["bias"]
  else:
    assert last["kernel"].shape == (2, 3, 3, 4)
    y = np.einsum("nhwc,hwck->nk", y, last["kernel"]) + last["bias"]
  np.testing.assert_allclose(target.apply(weights, x), y, 1e-12)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_and_dense_layers_against_numpy(
  x64, random_weights, images, kind
):
  """Convolution with padding 1, windows of 2 (one column is left out)."""
  target = cnn(
    (4, 5, 2), (3,), 3, 1, 1, "flatten", 4, "tanh", 2, kind, dense=(5,)
  )
  weights, x = random_weights(target, 0, dead=False), images(target, 2)
  first, second, last = jax.tree.map(np.asarray, weights)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  y = np.zeros((2, 4, 5, 3))
  for i in range(4):
    for j in range(5):
      window = padded[:, i : i + 3, j : j + 3]
      y[:, i, j] = np.einsum("nhwc,hwcd->nd", window, first["kernel"])
  y = np.tanh(y + first["bias"])
  pool = np.max if kind == "max" else np.mean
  y = np.stack(
    [
      np.stack([pool(y[:, i : i + 2, j : j + 2], (1, 2)) for j in (0, 2)], 1)
      for i in (0, 2)
    ],
    1,
  )
  assert second["kernel"].shape == (2, 2, 3, 5)
  y = np.tanh(np.einsum("nhwc,hwck->nk", y, second["kernel"]) + second["bias"])
  y = y @ last["kernel"] + last["bias"]
  np.testing.assert_allclose(target.apply(weights, x), y, 1e-12)


@pytest.mark.parametrize(
  ("pool_type", "group"), [("max", "permutation"), ("average", "sign")]
)
def test_signs_do_not_act_on_channels_before_a_max_pool(pool_type, group):
  target = cnn(
    (8, 8, 1), (4, 4), 3, 1, "SAME", activation=("tanh", "relu"),
    pool_size=(1, 2), pool_type=pool_type, dense=(4,), classes=3,
  )  # fmt: skip
  groups = [space.groups for space in target.spec.spaces.values()]
  signs = ("sign", "scale")
  assert groups == [(), signs, (group, "scale"), signs, ()]
  spaces = target.spec.spaces | {"hidden_2": Space(4, signs)}
  signed = target._replace(spec=SymmetrySpec(spaces, target.spec.axes))
  testing.assert_symmetric(target, jax.random.key(0))
  if pool_type == "max":
    with pytest.raises(AssertionError, match="permutations of hidden_2 are"):
      testing.assert_symmetric(signed, jax.random.key(0))


def test_lenet_5_has_its_weights():
  target = cnn(
    (28, 28, 1), (6, 16), 5, 1, (2, 0), "flatten", pool_size=2, dense=(120, 84)
  )
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  assert [layer["kernel"].shape for layer in shapes] == [
    (5, 5, 1, 6), (5, 5, 6, 16), (5, 5, 16, 120), (120, 84), (84, 10),
  ]  # fmt: skip
  assert sum(w.size for w in jax.tree.leaves(shapes)) == 61_706


def test_descriptions_without_pooling_are_as_in_earlier_versions():
  assert cnn(pool_size=1, pool_type="average", dense=()).description == {
    "name": "cnn", "input_shape": [32, 32, 1], "channels": [16, 16, 16],
    "kernel_size": [3, 3, 3], "stride": [2, 2, 2], "padding": "VALID",
    "pool": "average", "classes": 10, "activation": ["relu"],
  }  # fmt: skip


def test_numbers_of_numpy_are_numbers():
  assert mlp(np.array([3, 2]), omega=np.float32(2)).description == (
    mlp((3, 2), omega=2.0).description
  )


def test_mlp_against_numpy(x64, random_weights, images):
  target = mlp((6, 8, 9, 2), "sine", omega=3.0)
  weights = random_weights(target, 1, dead=False)
  x = jnp.asarray(np.random.default_rng(2).normal(size=(5, 2, 3)))
  y = np.asarray(x).reshape(5, 6)
  for layer in weights[:-1]:
    y = np.sin(3 * (y @ layer["kernel"] + np.asarray(layer["bias"])[None]))
  y = y @ weights[-1]["kernel"] + np.asarray(weights[-1]["bias"])[None]
  np.testing.assert_allclose(target.apply(weights, x), y, 1e-12)


def test_activate_selects_by_index():
  names = tuple(activations.ACTIVATIONS)
  x = jnp.linspace(-2, 2, 5)
  for i, name in enumerate(names):
    np.testing.assert_array_equal(
      activations.activate(names, x, i), activations.ACTIVATIONS[name](x)
    )


def test_dropout_rate_and_scale():
  x = jnp.ones((100, 100))
  y = np.asarray(activations.drop(x, (0.25, jax.random.key(0))))
  np.testing.assert_allclose(np.unique(y), [0, 4 / 3], 1e-6)
  assert abs((y > 0).mean() - 0.75) < 0.02
  assert activations.drop(x, None) is x
  none = activations.drop(x, (jnp.zeros(()), jax.random.key(0)))
  np.testing.assert_array_equal(none, x)


@pytest.mark.parametrize(
  "target",
  [
    cnn((8, 8, 1), (8,), classes=3),
    cnn((8, 8, 1), (4,), classes=3, dense=(8,)),
    mlp((3, 8, 2)),
  ],
  ids=["cnn", "dense", "mlp"],
)
def test_dropout_applies_to_the_last_features(target, random_weights, images):
  weights, x = random_weights(target, 3), images(target, 4)
  for rate, change in ((0.0, False), (0.5, True)):
    y = target.apply(weights, x, 0, (rate, jax.random.key(1)))
    assert np.allclose(y, target.apply(weights, x), 1e-5) != change
  everything = target.apply(weights, x, 0, (0.999, jax.random.key(1)))
  bias = np.asarray(weights[-1]["bias"])[None]
  assert (np.abs(everything - bias) < 1e-6).all(1).any()


def test_default_cnn_has_the_weights_of_the_small_cnn_zoo_in_file_order():
  shapes = jax.eval_shape(cnn().init, jax.random.key(0))
  assert [s.shape for s in jax.tree.leaves(shapes)] == [
    (16,),
    (3, 3, 1, 16),
    (16,),
    (3, 3, 16, 16),
    (16,),
    (3, 3, 16, 16),
    (10,),
    (16, 10),
  ]
  assert sum(s.size for s in jax.tree.leaves(shapes)) == 4970


@pytest.mark.parametrize(
  ("target", "fan_in"),
  [
    (cnn((8, 8, 3), (32,)), (27, 32)),
    (cnn((8, 8, 3), (32,), 3, 2, 1, pool_size=2, dense=(64,)), (27, 32, 64)),
    (mlp((64, 32, 64)), (64, 32)),
  ],
  ids=["cnn", "dense", "mlp"],
)
def test_init_has_zero_biases_and_he_kernels(target, fan_in):
  weights = jax.jit(target.init)(jax.random.key(0))
  for layer, n in zip(weights, fan_in, strict=True):
    assert (layer["bias"] == 0).all()
    assert abs(layer["kernel"].std() * (n / 2) ** 0.5 - 1) < 0.15


def test_siren_init_bounds():
  """±1/2 in the first layer, then ±√(6/n)/ω; kernels and biases."""
  weights = mlp((2, 400, 200, 1), "sine", omega=30.0).init(jax.random.key(0))
  bounds = (1 / 2, (6 / 400) ** 0.5 / 30, (6 / 200) ** 0.5 / 30)
  for layer, bound in zip(weights, bounds, strict=True):
    for w in layer.values():
      assert jnp.abs(w).max() < bound
      if w.size > 100:
        np.testing.assert_allclose(w.std(), bound / 3**0.5, rtol=0.1)
        assert jnp.abs(w).max() > 0.9 * bound


@pytest.mark.parametrize(
  "target",
  [
    cnn(),
    cnn((9, 8, 3), [8, 12], [3, 2], (2, 1), "SAME", "flatten", 5, "tanh"),
    cnn((4, 4, 1), (), classes=2, activation=("relu", "tanh")),
    cnn((8, 8, 1), (2, 3), 3, 1, ("SAME", 0), pool_size=(1, 2), dense=(4, 5)),
    cnn((8, 8, 1), (2,), 3, 1, 1, pool_size=2, pool_type="average"),
    mlp([784, 32, 10], ("relu", "gelu")),
    mlp((2, 8, 8, 1), "sine", omega=30.0),
  ],
)
def test_description_in_json_rebuilds_the_target(target):
  rebuilt = make_target(json.loads(json.dumps(dict(target.description))))
  assert rebuilt.description == target.description
  assert rebuilt.spec == target.spec
  assert rebuilt.activations == target.activations
  key = jax.random.key(0)
  assert jax.eval_shape(rebuilt.init, key) == jax.eval_shape(target.init, key)


def test_rebuilt_target_computes_the_same(random_weights, images):
  target = mlp((3, 8, 2), ("tanh", "sine"), omega=2.0)
  rebuilt = make_target(target.description)
  weights, x = random_weights(target, 0), images(target, 2)
  np.testing.assert_array_equal(
    rebuilt.apply(weights, x, 1), target.apply(weights, x, 1)
  )


@pytest.mark.parametrize(
  ("description", "message"),
  [
    ({}, "unknown target network None"),
    ({"name": "gpt"}, "unknown target network 'gpt', expected one of cnn, mlp"),
    ({"name": ["cnn"]}, "unknown target network"),
    ({"name": "cnn", "depth": 3}, "'depth'"),
    ({"name": "mlp"}, "'sizes'"),
    ({"name": "mlp", "sizes": 5}, "mlp: sizes 5, expected 2 or more"),
    ({"name": "mlp", "sizes": [3, 2], "omega": 0}, "mlp: omega 0, expected"),
    ({"name": "mlp", "sizes": [3, 2], "omega": [30, 1]}, "inrs.Convention"),
    ({"name": "mlp", "sizes": [3, 2], "omega": float("nan")}, "omega nan"),
    ({"name": "mlp", "sizes": [3, 2], "activation": 5}, "activation is 5"),
    ({"name": "mlp", "sizes": [3, 2], "activation": [["relu"]]}, "['relu']"),
    ({"name": "mlp", "sizes": []}, "mlp: sizes"),
    ({"name": "mlp", "sizes": [3]}, "mlp: sizes"),
    ({"name": "mlp", "sizes": [3, 0, 2]}, "mlp: sizes"),
    ({"name": "mlp", "sizes": [3, 2.5, 2]}, "sizes"),
    ({"name": "mlp", "sizes": [3, 2], "activation": "swish"}, "'swish'"),
    ({"name": "mlp", "sizes": [3, 2], "activation": []}, "activation"),
    ({"name": "cnn", "channels": 16}, "cnn: channels 16, expected"),
    ({"name": "cnn", "padding": -1}, "padding -1, expected VALID, SAME or"),
    ({"name": "cnn", "padding": None}, "padding None"),
    ({"name": "cnn", "padding": ["SAME"]}, "one for each of 3 convolutions"),
    ({"name": "cnn", "pool_size": 0}, "pool_size 0, expected 3 positive"),
    ({"name": "cnn", "pool_size": 8}, "too small for kernels"),
    ({"name": "cnn", "pool_type": "sum"}, "pool_type 'sum', expected max or"),
    ({"name": "cnn", "dense": 20}, "cnn: dense 20, expected"),
    ({"name": "cnn", "classes": True}, "cnn: classes True"),
    ({"name": "cnn", "channels": [16, 0, 16]}, "channels"),
    ({"name": "cnn", "channels": [16.0, 16, 16]}, "channels"),
    ({"name": "cnn", "kernel_size": [3, 3]}, "kernel_size"),
    ({"name": "cnn", "kernel_size": 0}, "kernel_size"),
    ({"name": "cnn", "kernel_size": [3, 2.5, 3]}, "kernel_size"),
    ({"name": "cnn", "stride": -1}, "stride"),
    ({"name": "cnn", "padding": "same"}, "padding 'same'"),
    ({"name": "cnn", "pool": "max"}, "pool 'max'"),
    ({"name": "cnn", "input_shape": [32, 32]}, "input_shape"),
    ({"name": "cnn", "input_shape": [32, 0, 1]}, "input_shape"),
    ({"name": "cnn", "input_shape": [14, 32, 1]}, "are too small"),
    ({"name": "cnn", "classes": 0}, "classes 0"),
    ({"name": "cnn", "classes": 2.5}, "classes"),
    ({"name": "cnn", "activation": "sine"}, "sine"),
    ({"name": "cnn", "activation": []}, "activation"),
  ],
)
def test_invalid_descriptions_are_one_line_errors(description, message):
  with pytest.raises(InputError) as error:
    make_target(description)
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def test_smallest_input_has_one_position():
  target = cnn((15, 15, 1), pool="flatten")
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  assert shapes[-1]["kernel"].shape == (1, 1, 16, 10)
