"""Residual convolutional networks with BatchNorm."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax import compilation
from scalegmn_jax.base import TargetNetwork, Weights, random_array
from scalegmn_jax.targets.activations import ACTIVATIONS, add_bias, scale
from scalegmn_jax.targets.arguments import (
  one_activation,
  positive_integer,
  positive_integers,
)
from scalegmn_jax.targets.cnn import convolve
from scalegmn_jax.targets.traced import trace

_EPS = 1e-5
"""Added to variances."""

_MOMENTUM = 0.9
"""Share of its value that a running statistic keeps in a step of training."""

Layer = dict[str, jax.Array]
"""The weights of a convolution and its normalization."""

Norm = Callable[[Layer, jax.Array], tuple[jax.Array, Layer]]
"""(weights, output of the convolution) -> (normalized, weights)."""


def resnet(
  input_shape: Sequence[int] = (32, 32, 1),
  classes: int = 10,
  widths: Sequence[int] = (8, 16, 16),
  blocks: int = 1,
  activation: str | Sequence[str] = "relu",
  batch_norm: bool = True,
  residual: bool = True,
) -> TargetNetwork:
  """A ResNet for small images.

  A 3x3 convolution, for each width a stage of basic blocks of two 3x3
  convolutions, the mean over positions, and a dense layer: 2 + 2·blocks·stages
  layers (He et al. 2016, arXiv:1512.03385, section 4.2). A stage but the first
  begins with stride 2 and a 1x1 convolution on the shortcut. BatchNorm follows
  every convolution; its running mean and variance are weights.

  Weights: {"stem": L, "blocks": ({"first": L, "second": L, "shortcut": L},
  ...), "head": {"bias", "kernel"}}, a layer L is {"bias", "kernel", "mean",
  "scale", "variance"}, without BatchNorm {"bias", "kernel"}. The symmetry is
  traced, see `traced.trace`. `init` draws kernels from a normal distribution
  with variance 2 / fan-in.

  Args:
    input_shape: (height, width, channels).
    classes: number of outputs.
    widths: channels of each stage.
    blocks: blocks per stage.
    activation: a key of `activations.ACTIVATIONS`.
    batch_norm: whether BatchNorm follows the convolutions.
    residual: whether blocks have shortcuts.

  Raises:
    InputError: a number is not positive, or no such activation.
  """
  input_shape = positive_integers("resnet: input_shape", input_shape, least=3)
  classes = positive_integer("resnet: classes", classes)
  widths = positive_integers("resnet: widths", widths, least=1)
  blocks = positive_integer("resnet: blocks", blocks)
  name = one_activation("resnet: activation", activation)
  activate = ACTIVATIONS[name]
  sizes = [widths[0], *(width for width in widths for _ in range(blocks))]
  strides = [1, *(1 if i % blocks else 2 for i in range(1, len(sizes) - 1))]

  def layer(key: jax.Array, size: int, d_in: int, d_out: int) -> Layer:
    kernel = random_array(jax.random.normal, key, (size, size, d_in, d_out))
    kernel *= (2 / (size * size * d_in)) ** 0.5
    weights = {"kernel": kernel, "bias": jnp.zeros(d_out)}
    if batch_norm:
      weights |= {"scale": jnp.ones(d_out), "mean": jnp.zeros(d_out)}
      weights["variance"] = jnp.ones(d_out)
    return weights

  def block(key, d_in, d_out, stride):
    keys = jax.random.split(key, 3)
    weights = {
      "first": layer(keys[0], 3, d_in, d_out),
      "second": layer(keys[1], 3, d_out, d_out),
    }
    if residual and stride > 1:
      weights["shortcut"] = layer(keys[2], 1, d_in, d_out)
    return weights

  @compilation.run_once
  def init(key):
    k_stem, k_blocks, k_head = jax.random.split(key, 3)
    keys = jax.random.split(k_blocks, len(strides))
    ends = itertools.pairwise(sizes)
    kernel = random_array(jax.random.normal, k_head, (sizes[-1], classes))
    return {
      "stem": layer(k_stem, 3, input_shape[-1], sizes[0]),
      "blocks": tuple(
        block(k, d_in, d_out, stride)
        for k, (d_in, d_out), stride in zip(keys, ends, strides, strict=True)
      ),
      "head": {
        "kernel": kernel * (2 / sizes[-1]) ** 0.5,
        "bias": jnp.zeros(classes),
      },
    }

  def forward(weights: Weights, x: jax.Array, norm: Norm):
    """(outputs, weights as `norm` leaves them)."""

    def convolved(part, x, stride=1):
      return norm(part, convolve(x, part["kernel"], stride, "SAME"))

    x, stem = convolved(weights["stem"], x)
    x, done = activate(x), []
    for part, stride in zip(weights["blocks"], strides, strict=True):
      new = {}
      y, new["first"] = convolved(part["first"], x, stride)
      y, new["second"] = convolved(part["second"], activate(y))
      if "shortcut" in part:
        x, new["shortcut"] = convolved(part["shortcut"], x, stride)
      x = activate(x + y if residual else y)
      done.append(new)
    head = weights["head"]
    outputs = add_bias(x.mean((1, 2)) @ head["kernel"], head["bias"])
    return outputs, {"stem": stem, "blocks": tuple(done), "head": head}

  def apply(weights, x):
    return forward(weights, x, _running if batch_norm else _bias)[0]

  def train(weights, x):
    return forward(weights, x, _batch)

  target = trace(
    apply,
    jax.eval_shape(init, jax.random.key(0)),
    jax.eval_shape(lambda: jnp.zeros((2, *input_shape))),
    init=init,
    train=train if batch_norm else None,
    statistics=("mean", "variance"),
    verify=False,
  )
  return target._replace(
    activations=(name,),
    description={
      "name": "resnet",
      "input_shape": list(input_shape),
      "classes": classes,
      "widths": list(widths),
      "blocks": blocks,
      "activation": name,
      "batch_norm": bool(batch_norm),
      "residual": bool(residual),
    },
  )


def _bias(layer: Layer, x: jax.Array) -> tuple[jax.Array, Layer]:
  """Adds the bias."""
  return add_bias(x, layer["bias"]), layer


def _running(layer: Layer, x: jax.Array) -> tuple[jax.Array, Layer]:
  """BatchNorm in inference."""
  gain = layer["scale"] * jax.lax.rsqrt(layer["variance"] + _EPS)
  return add_bias(
    scale(add_bias(x, -layer["mean"]), gain), layer["bias"]
  ), layer


def _batch(layer: Layer, x: jax.Array) -> tuple[jax.Array, Layer]:
  """BatchNorm in training: its running statistics move."""
  positions = tuple(range(x.ndim - 1))
  found = {"mean": x.mean(positions), "variance": x.var(positions)}
  moved = {
    name: _MOMENTUM * layer[name] + (1 - _MOMENTUM) * jax.lax.stop_gradient(new)
    for name, new in found.items()
  }
  return _running(layer | found, x)[0], layer | moved
