"""Convolutional networks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import activate, add_bias, drop


def convolve(
  x: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
  """A convolution as patches and one matrix product.

  `vmap` of `lax.conv` over networks turns the gradient into a grouped
  convolution, which is slow on CPU and on CUDA. Patches are slices of x; if all
  networks share the images, the patches of the first layer are made once. For
  16 small CNNs on 128 images, forward and backward on 2 CPU cores, patches are
  17 times faster than `lax.conv` under `vmap` (`experiments.bench`).

  Args:
    x: [N, H, W, C].
    kernel: [kh, kw, C, D].
    stride: step along both spatial axes.
    padding: "SAME" or "VALID".

  Returns:
    [N, H', W', D].
  """
  kh, kw, channels, features = kernel.shape
  pads = jax.lax.padtype_to_pads(
    x.shape[1:3], (kh, kw), (stride, stride), padding
  )
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  height = (x.shape[1] - kh) // stride + 1
  width = (x.shape[2] - kw) // stride + 1
  rows = stride * (height - 1) + 1
  columns = stride * (width - 1) + 1
  patches = jnp.concatenate(
    [
      x[:, i : i + rows : stride, j : j + columns : stride]
      for i in range(kh)
      for j in range(kw)
    ],
    axis=-1,
  )
  return patches @ kernel.reshape(kh * kw * channels, features)


def _per_layer(
  name: str, value: int | Sequence[int], layers: int
) -> tuple[int, ...]:
  """One positive integer per layer; an integer stands for all layers."""
  values = (value,) * layers if isinstance(value, int) else tuple(value)
  if len(values) != layers or not all(
    isinstance(v, int) and v > 0 for v in values
  ):
    raise InputError(
      f"cnn: {name} {values}, expected {layers} positive integers"
    )
  return values


def cnn(
  input_shape: Sequence[int] = (32, 32, 1),
  channels: Sequence[int] = (16, 16, 16),
  kernel_size: int | Sequence[int] = 3,
  stride: int | Sequence[int] = 2,
  padding: str = "VALID",
  pool: str = "average",
  classes: int = 10,
  activation: str | Sequence[str] = "relu",
) -> TargetNetwork:
  """A CNN: convolutions, a pool, one dense layer.

  The defaults are the architecture of the Small CNN Zoo (Unterthiner et al.
  2020, arXiv:2002.11448): 4,970 weights.

  Weights: ({"bias": [D], "kernel": [kh, kw, C, D]}, ..., last), where `last`
  has a kernel [C, K] after global average pooling and [H, W, C, K] after
  flattening. The weights, flattened in order, are one row of the zoo's files.
  Inputs are [N, *input_shape]. Dropout applies to the pooled features.

  Args:
    input_shape: (H, W, C) of the images.
    channels: output channels of each convolution.
    kernel_size: one per convolution, or one for all.
    stride: one per convolution, or one for all.
    padding: "VALID" or "SAME".
    pool: "average" (over all positions) or "flatten".
    classes: K, the number of outputs.
    activation: a key of `activations.ACTIVATIONS`, or several keys if networks
      of several activations are stacked.

  Raises:
    InputError: the arguments do not define a network.
  """
  names = (activation,) if isinstance(activation, str) else tuple(activation)
  groups = specs.groups_of(names)
  if "sine" in names:
    raise InputError(
      "cnn: the sine activation is not supported, only mlp supports it"
    )
  if padding not in ("VALID", "SAME"):
    raise InputError(f"cnn: padding {padding!r}, expected VALID or SAME")
  if pool not in ("average", "flatten"):
    raise InputError(f"cnn: pool {pool!r}, expected average or flatten")
  if len(input_shape) != 3 or not all(
    isinstance(n, int) and n > 0 for n in (*input_shape, classes)
  ):
    raise InputError(
      f"cnn: input_shape {tuple(input_shape)} and classes {classes}, expected "
      "3 positive integers and a positive integer"
    )
  channels = _per_layer("channels", channels, len(tuple(channels)))
  depth = len(channels)
  kernels = _per_layer("kernel_size", kernel_size, depth)
  strides = _per_layer("stride", stride, depth)
  height, width, _ = input_shape
  for k, s in zip(kernels, strides, strict=True):
    if padding == "VALID":
      height, width = (height - k) // s + 1, (width - k) // s + 1
    else:
      height, width = -(-height // s), -(-width // s)
    if min(height, width) < 1:
      raise InputError(
        f"cnn: images {tuple(input_shape)} are too small for kernels "
        f"{kernels} with strides {strides}"
      )
  sizes = (input_shape[2], *channels, classes)
  shapes: list[tuple[int, ...]] = [
    (k, k, n_in, n_out)
    for k, n_in, n_out in zip(kernels, sizes[:-2], sizes[1:-1], strict=True)
  ]
  shapes.append(
    (sizes[-2], classes)
    if pool == "average"
    else (height, width, sizes[-2], classes)
  )

  def init(key):
    return tuple(
      {
        "bias": jnp.zeros(shape[-1]),
        "kernel": jax.random.normal(k, shape)
        * (2 / (jnp.prod(jnp.array(shape[:-1])))) ** 0.5,
      }
      for k, shape in zip(jax.random.split(key, depth + 1), shapes, strict=True)
    )

  def apply(weights, x, activation=0, dropout=None):
    for layer, s in zip(weights[:-1], strides, strict=True):
      x = add_bias(convolve(x, layer["kernel"], s, padding), layer["bias"])
      x = activate(names, x, activation)
    x = x.mean((1, 2)) if pool == "average" else x.reshape(x.shape[0], -1)
    last = weights[-1]["kernel"].reshape(x.shape[-1], -1)
    return add_bias(drop(x, dropout) @ last, weights[-1]["bias"])

  return TargetNetwork(
    init=init,
    apply=apply,
    spec=specs.chain(sizes, groups, [len(s) - 2 for s in shapes]),
    input_shape=tuple(input_shape),
    activations=names,
    description={
      "name": "cnn",
      "input_shape": list(input_shape),
      "channels": list(channels),
      "kernel_size": list(kernels),
      "stride": list(strides),
      "padding": padding,
      "pool": pool,
      "classes": classes,
      "activation": list(names),
    },
  )
