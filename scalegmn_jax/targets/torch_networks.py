"""Standard networks of PyTorch as functions of their own state dicts.

    params = sg.load_network("resnet18.pt")
    target = sg.trace(sg.torch_networks.resnet, params, images)

Each function is (params, x [N, C, H, W]) -> [N, K]. `params` are a state dict
as torchvision names and stores it: {name: array}, kernels [out, in, height,
width], linear layers [out, in]. Nothing is transposed, so that edited weights
are written back as they are, by `sg.save_network`. Depths, widths, groups and
biases are read from the names and shapes.

The functions compute what the modules compute in eval mode: no dropout, and
BatchNorm with running statistics. Integers, such as `num_batches_tracked`, are
not used.

Sources: torchvision.models; He et al. 2016 (arXiv:1512.03385), Simonyan and
Zisserman 2015 (arXiv:1409.1556), LeCun et al. 1998, Dosovitskiy et al. 2021
(arXiv:2010.11929), Sandler et al. 2018 (arXiv:1801.04381).
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError

StateDict = Mapping[str, Any]

_BATCH_NORM_EPS = 1e-5
_LAYER_NORM_EPS = 1e-6  # of the ViT of torchvision
_HEAD = 64  # dimensions of a head of ViT-B, -L and -H


def _with_its_names(network: Callable[..., jax.Array]) -> Callable[..., Any]:
  """Turns a missing name into a one-line `InputError`."""

  @functools.wraps(network)
  def checked(params: StateDict, x: jax.Array, *args: Any, **kwargs: Any):
    try:
      return network(params, x, *args, **kwargs)
    except KeyError as error:
      raise InputError(
        f"{network.__name__}: params have no {error.args[0]}, expected a state "
        "dict with the names of torchvision"
      ) from None

  return checked


@_with_its_names
def resnet(params: StateDict, x: jax.Array) -> jax.Array:
  """ResNet-18 to -152, wide ResNet, ResNeXt, and the ResNet-20 of CIFAR.

  A first kernel of 3x3 or less stands for the stem for small images, with
  stride 1 and without pooling. Blocks have the stride in the 3x3 convolution.

  Args:
    params: the state dict: conv1, bn1, layer1.0.conv1, ..., fc.
    x: [N, C, H, W].

  Raises:
    InputError: a weight is missing.
  """
  small = params["conv1.weight"].shape[-1] <= 3
  x = _conv(params, "conv1", x, stride=1 if small else 2)
  x = jax.nn.relu(_batch_norm(params, "bn1", x))
  if not small:
    x = _max_pool(x, 3, 2, padding=1)
  for stage in _numbers(params, "layer{}.0.conv1.weight", start=1):
    for block in _numbers(params, f"layer{stage}.{{}}.conv1.weight"):
      stride = 2 if stage > 1 and block == 0 else 1
      x = _residual_block(params, f"layer{stage}.{block}", x, stride)
  return _linear(params, "fc", x.mean((2, 3)))


def _residual_block(
  params: StateDict, name: str, x: jax.Array, stride: int
) -> jax.Array:
  """A basic block, or a bottleneck of three convolutions."""
  shortcut = x
  if f"{name}.downsample.0.weight" in params:
    shortcut = _conv(params, f"{name}.downsample.0", x, stride=stride)
    shortcut = _batch_norm(params, f"{name}.downsample.1", shortcut)
  bottleneck = f"{name}.conv3.weight" in params
  for i, s in enumerate((1, stride, 1) if bottleneck else (stride, 1), 1):
    x = jax.nn.relu(x) if i > 1 else x
    x = _conv(params, f"{name}.conv{i}", x, stride=s)
    x = _batch_norm(params, f"{name}.bn{i}", x)
  return jax.nn.relu(x + shortcut)


@_with_its_names
def vgg(params: StateDict, x: jax.Array) -> jax.Array:
  """VGG-11 to -19, with or without BatchNorm.

  The numbers of the modules in `features` say where the max pools are; the last
  convolution is followed by one.

  Args:
    params: the state dict: features.0, ..., classifier.0, ... or classifier.
    x: [N, C, H, W].

  Raises:
    InputError: a weight is missing.
  """
  convs = [
    i for i in _modules(params, "features") if _is_conv(params, f"features.{i}")
  ]
  if not convs:
    raise KeyError("features.0.weight")
  for i, following in itertools.zip_longest(convs, convs[1:]):
    x = _conv(params, f"features.{i}", x)
    if f"features.{i + 1}.running_mean" in params:
      i += 1
      x = _batch_norm(params, f"features.{i}", x)
    x = jax.nn.relu(x)
    if following != i + 2:  # the module after the ReLU is a pool
      x = _max_pool(x, 2, 2)
  names = [f"classifier.{i}" for i in _modules(params, "classifier")]
  names = names or ["classifier"]
  positions = params[f"{names[0]}.weight"].shape[1] // x.shape[1]
  x = _adaptive_mean(x, math.isqrt(positions))
  x = x.reshape(len(x), -1)
  for name in names[:-1]:
    x = jax.nn.relu(_linear(params, name, x))
  return _linear(params, names[-1], x)


@_with_its_names
def lenet(params: StateDict, x: jax.Array) -> jax.Array:
  """LeNet with ReLU: convolutions with 2x2 max pools, then linear layers.

  The first convolution is padded if the sizes of `fc1` say so.

  Args:
    params: the state dict: conv1, conv2, ..., fc1, fc2, ....
    x: [N, C, H, W].

  Raises:
    InputError: a weight is missing, or images of another size.
  """
  convs = list(_numbers(params, "conv{}.weight", start=1))
  kernels = [params[f"conv{i}.weight"].shape for i in convs]
  inputs = params["fc1.weight"].shape[1]
  for padding in (0, kernels[0][-1] // 2):
    size = np.array(x.shape[2:]) + 2 * padding
    for kernel in kernels:
      size = (size - kernel[-1] + 1) // 2
    if size.min() > 0 and kernels[-1][0] * size.prod() == inputs:
      break
  else:
    raise InputError(
      f"lenet: images of {x.shape[2]}x{x.shape[3]} do not give the {inputs} "
      "inputs of fc1, expected images of the size that it was trained on"
    )
  for i in convs:
    x = _conv(params, f"conv{i}", x, padding=padding if i == 1 else 0)
    x = _max_pool(jax.nn.relu(x), 2, 2)
  x = x.reshape(len(x), -1)
  *hidden, last = _numbers(params, "fc{}.weight", start=1)
  for i in hidden:
    x = jax.nn.relu(_linear(params, f"fc{i}", x))
  return _linear(params, f"fc{last}", x)


@_with_its_names
def mobilenet_v2(
  params: StateDict,
  x: jax.Array,
  downsampling: Sequence[int] = (0, 2, 4, 7, 14),
) -> jax.Array:
  """MobileNetV2 of any width.

  Args:
    params: the state dict: features.0.0, ..., classifier.1.
    x: [N, C, H, W].
    downsampling: the numbers of the modules in `features` with stride 2, which
      names and shapes do not say.

  Raises:
    InputError: a weight is missing.
  """
  blocks = [
    i
    for i in range(1, len(params))
    if f"features.{i}.conv.0.0.weight" in params
  ]
  if not blocks:
    raise KeyError("features.1.conv.0.0.weight")

  def normalized(conv, norm, x, stride=1):
    return _batch_norm(params, norm, _conv(params, conv, x, stride=stride))

  def unit(name, x, stride=1):
    return jax.nn.relu6(normalized(f"{name}.0", f"{name}.1", x, stride))

  stride = {i: 2 for i in downsampling}
  x = unit("features.0", x, stride.get(0, 1))
  for i in blocks:
    name, y = f"features.{i}.conv", x
    # An expansion, if there is one, a depthwise convolution, a projection.
    expands = f"{name}.1.0.weight" in params
    if expands:
      y = unit(f"{name}.0", y)
    y = unit(f"{name}.{int(expands)}", y, stride.get(i, 1))
    y = normalized(f"{name}.{1 + expands}", f"{name}.{2 + expands}", y)
    x = x + y if i not in stride and x.shape == y.shape else y
  x = unit(f"features.{blocks[-1] + 1}", x)
  return _linear(params, "classifier.1", x.mean((2, 3)))


@_with_its_names
def vit(params: StateDict, x: jax.Array, heads: int | None = None) -> jax.Array:
  """ViT-B, -L and -H of any patch size.

  Args:
    params: the state dict: class_token, conv_proj, encoder.pos_embedding,
      encoder.layers.encoder_layer_0.ln_1, ..., heads.head.
    x: [N, C, H, W], of the size of the position embedding.
    heads: of attention, which names and shapes do not say; None for heads of 64
      dimensions.

  Raises:
    InputError: a weight is missing, or heads that do not divide the width.
  """
  patch = params["conv_proj.weight"].shape[-1]
  x = _conv(params, "conv_proj", x, stride=patch, padding=0)
  count, width = x.shape[:2]
  x = x.reshape(count, width, -1).swapaxes(1, 2)
  heads = heads or max(width // _HEAD, 1)
  if width % heads:
    raise InputError(
      f"vit: heads is {heads}, expected a divisor of the width, {width}"
    )
  token = jnp.broadcast_to(params["class_token"], (count, 1, width))
  x = jnp.concatenate([token, x], 1) + params["encoder.pos_embedding"]
  layer = "encoder.layers.encoder_layer_{}"
  for i in _numbers(params, f"{layer}.ln_1.weight"):
    name = layer.format(i)
    y = _layer_norm(params, f"{name}.ln_1", x)
    x = x + _attention(params, f"{name}.self_attention", y, heads)
    y = _layer_norm(params, f"{name}.ln_2", x)
    # Files before torchvision 0.13 have other names.
    old = f"{name}.mlp.linear_1.weight" in params
    first, second = ("linear_1", "linear_2") if old else ("0", "3")
    y = jax.nn.gelu(_linear(params, f"{name}.mlp.{first}", y), False)
    x = x + _linear(params, f"{name}.mlp.{second}", y)
  x = _layer_norm(params, "encoder.ln", x)[:, 0]
  if "heads.pre_logits.weight" in params:
    x = jnp.tanh(_linear(params, "heads.pre_logits", x))
  return _linear(params, "heads.head", x)


def _attention(
  params: StateDict, name: str, x: jax.Array, heads: int
) -> jax.Array:
  """`torch.nn.MultiheadAttention` of x [N, T, D] with itself."""
  count, tokens, width = x.shape
  # Split before the product: the three parts have symmetries of their own.
  weights = jnp.split(params[f"{name}.in_proj_weight"], 3)
  biases = jnp.split(params[f"{name}.in_proj_bias"], 3)
  q, k, v = (
    (jnp.einsum("nti,oi->nto", x, w) + b[None, None]).reshape(
      count, tokens, heads, -1
    )
    for w, b in zip(weights, biases, strict=True)
  )
  scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width // heads)
  x = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)
  return _linear(params, f"{name}.out_proj", x.reshape(count, tokens, width))


def _numbers(params: StateDict, pattern: str, start: int = 0) -> Iterator[int]:
  """The numbers from `start` on for which a name exists."""
  return itertools.takewhile(
    lambda i: pattern.format(i) in params, itertools.count(start)
  )


def _modules(params: StateDict, name: str) -> list[int]:
  """The numbers of the modules with a weight in a `torch.nn.Sequential`."""
  middles = [
    key.removeprefix(f"{name}.").removesuffix(".weight") for key in params
  ]
  numbers = [int(middle) for middle in middles if middle.isdecimal()]
  return sorted(i for i in numbers if f"{name}.{i}.weight" in params)


def _is_conv(params: StateDict, name: str) -> bool:
  return params[f"{name}.weight"].ndim == 4


def _conv(
  params: StateDict,
  name: str,
  x: jax.Array,
  *,
  stride: int = 1,
  padding: int | None = None,
) -> jax.Array:
  """`torch.nn.Conv2d`; the padding is half the kernel where none is given."""
  kernel = params[f"{name}.weight"]
  sizes = [k // 2 if padding is None else padding for k in kernel.shape[2:]]
  x = jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), [(size, size) for size in sizes],
    dimension_numbers=("NCHW", "OIHW", "NCHW"),
    feature_group_count=x.shape[1] // kernel.shape[1],
  )  # fmt: skip
  bias = params.get(f"{name}.bias")
  return x if bias is None else x + _per_channel(bias)


def _batch_norm(params: StateDict, name: str, x: jax.Array) -> jax.Array:
  """`torch.nn.BatchNorm2d` in eval mode."""
  mean, variance, weight, bias = (
    params[f"{name}.{part}"]
    for part in ("running_mean", "running_var", "weight", "bias")
  )
  scale = weight * jax.lax.rsqrt(variance + _BATCH_NORM_EPS)
  return (x - _per_channel(mean)) * _per_channel(scale) + _per_channel(bias)


def _per_channel(vector: jax.Array) -> jax.Array:
  return vector[None, :, None, None]


def _linear(params: StateDict, name: str, x: jax.Array) -> jax.Array:
  """`torch.nn.Linear` on the last axis."""
  x = jnp.einsum("...i,oi->...o", x, params[f"{name}.weight"])
  bias = params.get(f"{name}.bias")
  return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _layer_norm(params: StateDict, name: str, x: jax.Array) -> jax.Array:
  """`torch.nn.LayerNorm` over the last axis of x [N, T, D]."""
  x = x - x.mean(-1, keepdims=True)
  variance = jnp.square(x).mean(-1, keepdims=True)
  x = x * jax.lax.rsqrt(variance + _LAYER_NORM_EPS)
  weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
  return x * weight[None, None] + bias[None, None]


def _max_pool(
  x: jax.Array, size: int, stride: int, padding: int = 0
) -> jax.Array:
  """`torch.nn.MaxPool2d`."""
  pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (1, 1, size, size), (1, 1, stride, stride), pads
  )


def _adaptive_mean(x: jax.Array, size: int) -> jax.Array:
  """`torch.nn.AdaptiveAvgPool2d`."""
  for axis in (2, 3):
    length = x.shape[axis]
    if length == size:
      continue
    windows = np.zeros((size, length), x.dtype)
    for i in range(size):
      begin, end = i * length // size, -(-(i + 1) * length // size)
      windows[i, begin:end] = 1 / (end - begin)
    x = jnp.moveaxis(
      jnp.tensordot(x, jnp.asarray(windows), (axis, 1)), -1, axis
    )
  return x
