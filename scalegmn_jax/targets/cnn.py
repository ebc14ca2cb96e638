"""Convolutional networks."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import compilation
from scalegmn_jax.base import InputError, TargetNetwork, random_array
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.activations import activate, add_bias, drop
from scalegmn_jax.targets.arguments import (
  activation_names,
  per_layer,
  positive_integer,
  positive_integers,
)

_SLICES = 128
"""The largest kernel whose patches are one slice per position. More slices
compile for long."""

Padding = str | int
"""Of one convolution: "VALID", "SAME", or rows and columns on all four sides,
as `padding` of `torch.nn.Conv2d`."""


def pads(
  lengths: Sequence[int], k: int, stride: int, padding: Padding
) -> list[tuple[int, int]]:
  """(before, after) of each axis for a kernel of k positions along each."""
  if isinstance(padding, int):
    return [(padding, padding)] * len(lengths)
  axes = len(lengths)
  return list(
    jax.lax.padtype_to_pads(lengths, [k] * axes, [stride] * axes, padding)
  )


def positions(length: int, k: int, stride: int, padding: Padding) -> int:
  """Number of output positions of a convolution along one axis."""
  ((before, after),) = pads((length,), k, stride, padding)
  return (length + before + after - k) // stride + 1


def convolve(
  x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """A convolution as patches and one matrix product.

  `vmap` of `lax.conv` over networks turns the gradient into a grouped
  convolution, which is slow on CPU and on CUDA. Patches are slices of x; if all
  networks share the images, the patches of the first layer are made once. For
  16 small CNNs on 128 images, forward and backward on 2 CPU cores, patches are
  17 times faster than `lax.conv` under `vmap` (`experiments.bench`).

  Args:
    x: [N, H, W, C].
    kernel: [k, k, C, D].
    stride: step along both spatial axes.
    padding: see `Padding`.

  Returns:
    [N, H', W', D].
  """
  k, _, channels, features = kernel.shape
  height, width = (positions(n, k, stride, padding) for n in x.shape[1:3])
  x = jnp.pad(x, ((0, 0), *pads(x.shape[1:3], k, stride, padding), (0, 0)))
  if k * k <= _SLICES:
    rows = stride * (height - 1) + 1
    columns = stride * (width - 1) + 1
    patches = jnp.concatenate(
      [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(k)
        for j in range(k)
      ],
      axis=-1,
    )
  else:
    above, left = (
      stride * np.arange(n)[:, None] + np.arange(k) for n in (height, width)
    )
    windows = x[:, above][:, :, :, left]  # [N, H', k, W', k, C]
    patches = jnp.moveaxis(windows, 2, 3).reshape(len(x), height, width, -1)
  return patches @ kernel.reshape(k * k * channels, features)


def pool_windows(x: jax.Array, size: int, kind: str) -> jax.Array:
  """Pools windows that do not overlap; incomplete ones are left out.

  Args:
    x: [N, H, W, C].
    size: height and width of a window.
    kind: "max" or "average".

  Returns:
    [N, H // size, W // size, C].
  """
  if size == 1:
    return x
  count, height, width, channels = x.shape
  height, width = height // size, width // size
  x = x[:, : height * size, : width * size]
  x = x.reshape(count, height, size, width, size, channels)
  return x.max((2, 4)) if kind == "max" else x.mean((2, 4))


def paddings_of(
  padding: Padding | Sequence[Padding], depth: int
) -> tuple[Padding, ...]:
  """The padding of each convolution.

  Args:
    padding: one for all, or one per convolution.
    depth: number of convolutions.

  Raises:
    InputError: unknown padding, or another number of them.
  """
  several = isinstance(padding, (list, tuple))
  given: list[Any] = list(padding) if several else [padding]
  for p in given:
    number = isinstance(p, int) and not isinstance(p, bool) and p >= 0
    if not number and p not in ("VALID", "SAME"):
      raise InputError(
        f"cnn: padding {p!r}, expected VALID, SAME or a number of pixels"
      )
  result = tuple(given if several else given * depth)
  if len(result) != depth:
    raise InputError(
      f"cnn: padding {result}, expected one for each of {depth} convolutions"
    )
  return result


def cnn(
  input_shape: Sequence[int] = (32, 32, 1),
  channels: Sequence[int] = (16, 16, 16),
  kernel_size: int | Sequence[int] = 3,
  stride: int | Sequence[int] = 2,
  padding: Padding | Sequence[Padding] = "VALID",
  pool: str = "average",
  classes: int = 10,
  activation: str | Sequence[str] = "relu",
  pool_size: int | Sequence[int] = 1,
  pool_type: str = "max",
  dense: Sequence[int] = (),
) -> TargetNetwork:
  """A CNN: convolutions, a global pool or the flattened maps, dense layers.

  The defaults are the architecture of the Small CNN Zoo (Unterthiner et al.
  2020, arXiv:2002.11448): 4,970 weights. LeNet-5 for 28x28 images is
  `cnn((28, 28, 1), (6, 16), 5, 1, (2, 0), "flatten", pool_size=2,
  dense=(120, 84))`.

  Weights: ({"bias": [D], "kernel": [k, k, C, D]}, ..., dense layers), where the
  first dense layer has a kernel [C, K] after global average pooling and
  [H, W, C, K] after flattening, and the others have [K, K']. The weights,
  flattened in order, are one row of the zoo's files. Inputs are
  [N, *input_shape]. Dropout applies to the inputs of the last layer.

  A maximum commutes with positive multipliers, but not with signs: the channels
  of an odd activation (tanh) before a max pool are only permuted.

  Args:
    input_shape: (H, W, C) of the images.
    channels: output channels of each convolution.
    kernel_size: one per convolution, or one for all.
    stride: one per convolution, or one for all.
    padding: one per convolution, or one for all, see `Padding`.
    pool: "average" (over all positions) or "flatten".
    classes: the number of outputs.
    activation: a key of `activations.ACTIVATIONS`, or several keys if networks
      of several activations are stacked.
    pool_size: height, width and stride of the windows that are pooled after the
      activation of a convolution, one per convolution or one for all; 1: none.
      Rows and columns that do not fill a window are left out, as in PyTorch.
    pool_type: "max" or "average", of these windows.
    dense: neurons of dense layers before the last layer.

  Raises:
    InputError: the arguments do not define a network.
  """
  names = activation_names(activation)
  groups = specs.groups_of(names)
  if "sine" in names:
    raise InputError(
      "cnn: the sine activation is not supported, only mlp supports it"
    )
  if pool not in ("average", "flatten"):
    raise InputError(f"cnn: pool {pool!r}, expected average or flatten")
  if pool_type not in ("max", "average"):
    raise InputError(f"cnn: pool_type {pool_type!r}, expected max or average")
  input_shape = positive_integers("cnn: input_shape", input_shape)
  if len(input_shape) != 3:
    raise InputError(f"cnn: input_shape {input_shape}, expected (H, W, C)")
  channels = positive_integers("cnn: channels", channels)
  dense = positive_integers("cnn: dense", dense)
  classes = positive_integer("cnn: classes", classes)
  depth = len(channels)
  kernels = per_layer("cnn: kernel_size", kernel_size, depth)
  strides = per_layer("cnn: stride", stride, depth)
  windows = per_layer("cnn: pool_size", pool_size, depth)
  paddings = paddings_of(padding, depth)
  height, width = input_shape[:2]
  for k, s, p, window in zip(kernels, strides, paddings, windows, strict=True):
    height = positions(height, k, s, p) // window
    width = positions(width, k, s, p) // window
    if min(height, width) < 1:
      pooled = f" and pool_size {windows}" if max(windows) > 1 else ""
      raise InputError(
        f"cnn: images {input_shape} are too small for kernels {kernels} with "
        f"strides {strides}{pooled}"
      )
  sizes = (input_shape[2], *channels, *dense, classes)
  shapes: list[tuple[int, ...]] = list(zip(sizes[:-1], sizes[1:], strict=True))
  shapes[:depth] = [
    (k, k, *shape) for k, shape in zip(kernels, shapes[:depth], strict=True)
  ]
  if pool == "flatten":
    shapes[depth] = (height, width, *shapes[depth])
  unsigned = tuple("permutation" if g == "sign" else g for g in groups)
  hidden_groups = [
    unsigned if window > 1 and pool_type == "max" else groups
    for window in (*windows, *(1 for _ in dense))
  ]

  @compilation.run_once
  def init(key):
    return tuple(
      {
        "bias": jnp.zeros(shape[-1]),
        "kernel": random_array(jax.random.normal, k, shape)
        * (2 / (jnp.prod(jnp.array(shape[:-1])))) ** 0.5,
      }
      for k, shape in zip(
        jax.random.split(key, len(shapes)), shapes, strict=True
      )
    )

  def apply(weights, x, activation=0, dropout=None):
    for layer, s, p, window in zip(
      weights[:depth], strides, paddings, windows, strict=True
    ):
      x = add_bias(convolve(x, layer["kernel"], s, p), layer["bias"])
      x = pool_windows(activate(names, x, activation), window, pool_type)
    x = x.mean((1, 2)) if pool == "average" else x.reshape(x.shape[0], -1)
    for layer in weights[depth:-1]:
      x = add_bias(x @ _matrix(layer["kernel"]), layer["bias"])
      x = activate(names, x, activation)
    last = _matrix(weights[-1]["kernel"])
    return add_bias(drop(x, dropout) @ last, weights[-1]["bias"])

  description = {
    "name": "cnn",
    "input_shape": list(input_shape),
    "channels": list(channels),
    "kernel_size": list(kernels),
    "stride": list(strides),
    "padding": list(paddings)
    if len({*paddings}) > 1
    else (*paddings, padding)[0],
    "pool": pool,
    "classes": classes,
    "activation": list(names),
  }
  # Descriptions of networks without these layers are as in earlier versions.
  if max(windows, default=1) > 1:
    description |= {"pool_size": list(windows), "pool_type": pool_type}
  if dense:
    description["dense"] = list(dense)
  return TargetNetwork(
    init=init,
    apply=apply,
    spec=specs.chain(sizes, hidden_groups, [len(s) - 2 for s in shapes]),
    input_shape=input_shape,
    activations=names,
    description=description,
  )


def _matrix(kernel: jax.Array) -> jax.Array:
  """[H, W, C, K] -> [H W C, K]."""
  return kernel.reshape(-1, kernel.shape[-1])
