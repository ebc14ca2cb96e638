"""The symmetry of one small network, as users of each library write it.

A residual convolution with a normalization, then attention over the pixels.
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import scalegmn_jax as sg


def drawn(shapes):
  """Random parameters; vectors are positive: they may be variances."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    x = rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
    return np.abs(x) + 0.5 if x.size == max(x.shape) else x

  return jax.tree.map(draw, shapes)


IMAGES = np.random.default_rng(1).standard_normal((2, 4, 4, 3))


def with_linen():
  class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
      x = linen.Conv(4, (3, 3))(x)
      y = linen.relu(linen.BatchNorm(use_running_average=True)(x))
      x = x + linen.Conv(4, (3, 3))(y)
      x = x.reshape(len(x), -1, 4)
      x = x + linen.MultiHeadDotProductAttention(2, qkv_features=6)(
        linen.LayerNorm()(x)
      )
      return linen.Dense(2)(x.mean(1))

  network = Network()
  shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
  return network.apply, shapes, IMAGES


def with_nnx():
  class Network(nnx.Module):
    def __init__(self, rngs):
      self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
      self.bn = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
      self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)
      self.ln = nnx.LayerNorm(4, rngs=rngs)
      self.attention = nnx.MultiHeadAttention(2, 4, 6, decode=False, rngs=rngs)
      self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
      x = self.stem(x)
      x = x + self.conv(nnx.relu(self.bn(x)))
      x = x.reshape(len(x), -1, 4)
      x = x + self.attention(self.ln(x))
      return self.out(x.mean(1))

  graph, params, rest = nnx.split(
    Network(nnx.Rngs(0)), (nnx.Param, nnx.BatchStat), ...
  )
  return lambda p, x: nnx.merge(graph, p, rest)(x), params, IMAGES


def with_haiku():
  hk = pytest.importorskip("haiku", reason="needs dm-haiku, see the test extra")

  def network(x, is_training=False):
    x = hk.Conv2D(4, 3)(x)
    y = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(x, is_training))
    x = x + hk.Conv2D(4, 3)(y)
    x = x.reshape(len(x), -1, 4)
    y = hk.LayerNorm(-1, True, True)(x)
    start = hk.initializers.VarianceScaling()
    heads = hk.MultiHeadAttention(2, 3, w_init=start, model_size=4)
    return hk.Linear(2)((x + heads(y, y, y)).mean(1))

  transformed = hk.without_apply_rng(hk.transform_with_state(network))
  params, state = transformed.init(jax.random.key(0), IMAGES, True)
  # Averages are parameters; numbers of updates and sums are not.
  averages = {m: {"average": found["average"]} for m, found in state.items()}

  def apply(p, x):
    merged = {module: state[module] | p[1][module] for module in state}
    return transformed.apply(p[0], merged, x)[0]

  return apply, (params, averages), IMAGES


def with_equinox():
  eqx = pytest.importorskip("equinox", reason="see the test extra")

  class Network(eqx.Module):
    stem: eqx.nn.Conv2d
    gn: eqx.nn.GroupNorm
    conv: eqx.nn.Conv2d
    ln: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    out: eqx.nn.Linear

    def __init__(self, key):
      k = jax.random.split(key, 4)
      self.stem = eqx.nn.Conv2d(3, 4, 3, padding=1, key=k[0])
      self.gn = eqx.nn.GroupNorm(2, 4)
      self.conv = eqx.nn.Conv2d(4, 4, 3, padding=1, key=k[1])
      self.ln = eqx.nn.LayerNorm(4)
      self.attention = eqx.nn.MultiheadAttention(2, 4, key=k[2])
      self.out = eqx.nn.Linear(4, 2, key=k[3])

    def __call__(self, x):
      x = self.stem(x)
      x = x + self.conv(jax.nn.relu(self.gn(x)))
      x = x.reshape(4, -1).T
      y = jax.vmap(self.ln)(x)
      return self.out((x + self.attention(y, y, y)).mean(0))

  params, static = eqx.partition(
    Network(jax.random.key(0)), eqx.is_inexact_array
  )

  def apply(p, x):
    return jax.vmap(eqx.combine(p, static))(x)

  return apply, params, np.moveaxis(IMAGES, -1, 1)


# The stream after each of its normalizations; heads, and their dimensions
# of q·k and of v·o.
ATTENTION = ["2++--", "3+-", "3+-"]


@pytest.mark.parametrize(
  ("network", "expected"),
  [
    (with_linen, ["4++-", *ATTENTION]),
    (with_nnx, ["4++-", *ATTENTION]),
    (with_haiku, ["4++-", *ATTENTION]),
    # Groups of the stream, and channels within.
    (with_equinox, ["2++-", "2++-", "2++--", "2+-", "2+-"]),
  ],
)
def test_symmetry_is_found(x64, found, relative_change, network, expected):
  apply, shapes, inputs = network()
  params = drawn(shapes)
  spec = sg.trace(apply, params, inputs).spec
  assert sorted(found(spec).values()) == sorted(expected)
  assert relative_change(apply, spec, params, inputs) <= 1e-12


def test_counters_of_haiku_are_refused():
  hk = pytest.importorskip("haiku", reason="needs dm-haiku, see the test extra")

  def network(x, is_training=False):
    return hk.BatchNorm(True, True, 0.9)(hk.Linear(3)(x), is_training)

  transformed = hk.without_apply_rng(hk.transform_with_state(network))
  both = transformed.init(jax.random.key(0), IMAGES, True)
  with pytest.raises(sg.InputError, match="mean_ema/counter is int32"):
    sg.trace(lambda p, x: transformed.apply(*p, x)[0], both, IMAGES)


@pytest.mark.parametrize("library", ("linen", "haiku"))
def test_recurrent_cells(x64, found, relative_change, library):
  x = np.random.default_rng(0).standard_normal((2, 6, 3))
  if library == "linen":

    class Network(linen.Module):
      @linen.compact
      def __call__(self, x):
        types = {"dtype": float, "param_dtype": float}
        x = linen.RNN(linen.OptimizedLSTMCell(5, **types))(x)
        x = linen.RNN(linen.GRUCell(4, **types))(x)
        return linen.Dense(2)(x[:, -1])

    apply, init = Network().apply, Network().init
  else:
    hk = pytest.importorskip("haiku", reason="needs dm-haiku")

    def network(x):
      x = jnp.swapaxes(x, 0, 1)
      for cell in (hk.LSTM(5), hk.GRU(4)):
        x, _ = hk.dynamic_unroll(cell, x, cell.initial_state(2))
      return hk.Linear(2)(x[-1])

    apply, init = hk.without_apply_rng(hk.transform(network))[::-1]
  params = drawn(jax.eval_shape(init, jax.random.key(0), x))
  spec = sg.trace(apply, params, x).spec
  assert sorted(found(spec).values()) == ["4-", "5-"]
  assert relative_change(apply, spec, params, x) <= 1e-12


def test_layers_of_a_scan_of_flax(x64, found, relative_change):
  class Layer(linen.Module):
    @linen.compact
    def __call__(self, x, _):
      return x + linen.Dense(4)(linen.relu(linen.Dense(5)(x))), None

  class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
      x = linen.Dense(4)(x)
      layers = linen.scan(
        linen.remat(Layer),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
      )
      x, _ = layers()(x, None)
      return linen.Dense(2)(x)

  x = np.random.default_rng(0).standard_normal((2, 3))
  params = drawn(jax.eval_shape(Network().init, jax.random.key(0), x))
  spec = sg.trace(Network().apply, params, x).spec
  # One permutation for the hidden neurons of all three layers.
  assert sorted(found(spec).values()) == ["4+-", "5+"]
  assert relative_change(Network().apply, spec, params, x) <= 1e-12
