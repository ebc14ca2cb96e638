"""State dicts of `torch.nn` networks as weights of a target network, and back.

A state dict has tensors by name and no computation. The caller names the target
network, and every shape is checked against it; a wrong activation, stride,
padding or pool cannot be noticed. These networks of `torch.nn` compute the same
functions as our targets:

- `cnn`: Conv2d, activation and MaxPool2d(n) or AvgPool2d(n) (`pool_size`,
  `pool_type`), any number of times; then Flatten, Linear for pool "flatten", or
  AdaptiveAvgPool2d(1), Flatten, Linear for "average"; activation and Linear for
  each further `dense` layer. MaxPool2d before ReLU, LeakyReLU or Tanh is the
  same function as after it. Images are [N, C, H, W] in PyTorch and [N, H, W, C]
  here.
- `mlp`: Flatten, then Linear and activation, Linear last. Images of several
  channels have to be permuted to [N, H, W, C] before they are flattened.
- `padding` as a number means the same in both. "VALID" is 0. "SAME" is k // 2
  for an odd kernel k and stride 1. For stride s it pads H rows by
  max((⌈H/s⌉ - 1) s + k - H, 0) in total, the smaller half of them above: with
  k = 3, s = 2 one row on either side of an odd H, which is `padding=1`, and one
  row below an even H, which is ZeroPad2d((0, 1, 0, 1)) before `padding=0`:
  another function than Conv2d(stride=2, padding=1), which is padding 1 here.
- Layers without bias: the bias is zero. `torch_modules` says which networks
  become such layers: pruned ones, weight_norm, and BatchNorm in eval mode
  directly behind a layer.
- Activations: ReLU, LeakyReLU(0.01), Tanh, SiLU; GELU(approximate="tanh") is
  "gelu". sin(ω(Wx + b)), as in SIREN, is "sine" with `omega`.

Layouts: kernels OIHW -> HWIO; linear (out, in) -> (in, out); a linear layer
after flattening (K, C·H·W) -> [H, W, C, K]. Half and double precision become
float32, as in all zoos.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.zoo import torch_modules
from scalegmn_jax.zoo.names import order_layers
from scalegmn_jax.zoo.torch_modules import StateDict

EPS = 1e-5
"""The default `eps` of BatchNorm in PyTorch."""


class NotFiniteError(InputError):
  """Weights with NaN or infinity."""


class Kernel(NamedTuple):
  """The shape of a kernel in PyTorch.

  Attributes:
    stored: the shape in the state dict.
    axes: [out, in, spatial...]: the shape with spatial axes not flattened.
  """

  stored: tuple[int, ...]
  axes: tuple[int, ...]


def kernels(target: TargetNetwork) -> list[Kernel]:
  """The kernels of a target's networks in PyTorch, in order.

  Raises:
    InputError: the target is neither a cnn nor an mlp.
  """
  name = target.description.get("name")
  if name not in ("cnn", "mlp"):
    raise InputError(
      f"target network {name!r}: only a cnn or an mlp has a state dict"
    )
  shapes = [
    layer["kernel"].shape
    for layer in jax.eval_shape(target.init, jax.random.key(0))
  ]
  convolutions = len(target.description.get("channels", ()))
  result = []
  for i, (*spatial, n_in, n_out) in enumerate(shapes):
    axes = (n_out, n_in, *spatial)
    flat = (n_out, math.prod(axes[1:]))
    result.append(Kernel(axes if i < convolutions else flat, axes))
  return result


def layers(
  state: StateDict, source: object = "state dict", has_order: bool = True
) -> tuple[str, ...]:
  """Names of the layers, "0" of "0.weight", as they are computed.

  Args:
    state: the state dict.
    source: its name in error messages.
    has_order: whether its tensors are in the order of modules, which no number
      in their names contradicts. Otherwise the numbers decide, convolutions
      first.

  Raises:
    InputError: an entry is not of a convolution or linear layer, see
      `torch_modules`, or names do not decide the order.
  """
  found = torch_modules.read_layers(state, source, None, has_order)
  return tuple(_ordered(found, None, has_order, source))


def _ordered(
  found: dict[str, torch_modules.Layer],
  order: Sequence[str] | None,
  has_order: bool,
  source: object,
) -> dict[str, torch_modules.Layer]:
  """Layers as they are computed."""
  if order is not None:
    norms = {layer.norm for layer in found.values()}
    names = [name for name in order if name not in norms]
    if set(names) != set(found):
      raise InputError(
        f"{source}: has layers {', '.join(found)}, expected {', '.join(names)}"
      )
    return {name: found[name] for name in names}
  names = []
  for is_convolution in (True, False):
    group = [
      name
      for name, layer in found.items()
      if (len(layer.weight.shape) == 4) is is_convolution
    ]
    by_number = order_layers(group)
    if has_order and by_number not in (None, group):
      raise InputError(
        f"{source}: layers {', '.join(group)} are in another order than their "
        "numbers, expected their names in order"
      )
    if not has_order and by_number is None:
      raise InputError(
        f"{source}: the order of layers {', '.join(group)} is not known, "
        "expected their names in order"
      )
    names += by_number or []
  return found if has_order else {name: found[name] for name in names}


def to_arrays(
  state: StateDict,
  expected: Sequence[Kernel],
  order: Sequence[str] | None,
  source: object,
  *,
  has_order: bool = True,
  eps: float = EPS,
) -> tuple[dict[str, np.ndarray], ...]:
  """The weights of one network on the host, see `to_weights`.

  Args:
    state: the state dict.
    expected: `kernels(target)`.
    order: see `to_weights`.
    source: name of the state dict in error messages.
    has_order: see `layers`.
    eps: see `to_weights`.
  """
  found = _fitting(state, expected, order, source, has_order)
  result = []
  for layer, kernel in zip(found, expected, strict=True):
    weight, bias = torch_modules.decode(
      state, layer, (kernel.stored, kernel.axes[:1]), eps, source
    )
    weight = _float32(weight, layer.weight, source).reshape(kernel.axes)
    result.append(
      {
        "bias": _float32(bias, layer.bias or layer.weight, source),
        "kernel": weight.transpose(*range(2, weight.ndim), 1, 0),
      }
    )
  return tuple(result)


def _fitting(
  state: StateDict,
  expected: Sequence[Kernel],
  order: Sequence[str] | None,
  source: object,
  has_order: bool,
) -> list[torch_modules.Layer]:
  """The layers of a target in a state dict, as they are computed."""
  found = torch_modules.read_layers(state, source, order, has_order)
  found = _ordered(found, order, has_order, source)
  if len(found) != len(expected):
    raise InputError(
      f"{source}: {len(found)} layers ({', '.join(found)}), expected "
      f"{len(expected)}, the layers of the target network"
    )
  return list(found.values())


def _float32(
  value: np.ndarray, tensor: torch_modules.Tensor, source: object
) -> np.ndarray:
  with np.errstate(over="ignore"):
    value = value.astype(np.float32)
  if not np.isfinite(value).all():
    raise NotFiniteError(
      f"{source}: {tensor.keys[-1]} is not finite in float32"
    )
  return value


def to_weights(
  state: StateDict,
  target: TargetNetwork,
  order: Sequence[str] | None = None,
  eps: float = EPS,
) -> Weights:
  """A state dict as the weights of one network, float32.

  Args:
    state: the state dict.
    target: the architecture.
    order: names of the layers as they are computed, first to last, which may
      have a BatchNorm behind its layer; None for the order in `state`, in which
      a torch module registered them.
    eps: of BatchNorm, which a state dict does not say.

  Raises:
    InputError: layers that the target does not have, another number of layers,
      another shape, other values than floats, or weights that are not finite.
  """
  arrays = to_arrays(state, kernels(target), order, "state dict", eps=eps)
  return jax.device_put(arrays)


def from_weights(
  weights: Weights, target: TargetNetwork, order: Sequence[str]
) -> dict[str, np.ndarray]:
  """The weights of one network as a state dict of float32 arrays.

  Inverse of `to_weights`.

  Args:
    weights: the weights of one network.
    target: the architecture.
    order: names for the layers, first to last.

  Raises:
    InputError: weights of another architecture, or another number of names
      than layers.
  """
  expected = kernels(target)
  if len(set(order)) != len(expected) or len(order) != len(expected):
    raise InputError(
      f"layers {tuple(order)}: expected {len(expected)} different names, one "
      "for each layer of the target network"
    )
  state = {}
  arrays = _stored(weights, target, expected)
  for name, (weight, bias) in zip(order, arrays, strict=True):
    state[torch_modules.join(name, "weight")] = weight
    state[torch_modules.join(name, "bias")] = bias
  return state


def update(
  state: StateDict,
  weights: Weights,
  target: TargetNetwork,
  order: Sequence[str] | None = None,
  *,
  source: object = "state dict",
  has_order: bool = True,
  eps: float = EPS,
) -> dict[str, np.ndarray]:
  """A state dict with the weights of another network of its architecture.

  The module of `state` loads the result, which has its keys, shapes and dtypes,
  and computes the function of the new weights: masks become 1, and BatchNorm
  becomes the identity in eval mode, or adds the bias that its layer lacks.

  Args:
    state: the state dict of the module.
    weights: the new weights.
    target: the architecture.
    order: see `to_weights`.
    source: name of the state dict in error messages.
    has_order: see `layers`.
    eps: see `to_weights`.

  Raises:
    InputError: see `to_weights`; weights of another architecture, a bias that
      is not zero for a layer without one, or numbers beyond the range of a
      dtype.
  """
  expected = kernels(target)
  found = _fitting(state, expected, order, source, has_order)
  values = {}
  arrays = _stored(weights, target, expected)
  for layer, (weight, bias) in zip(found, arrays, strict=True):
    try:
      values |= torch_modules.encode(
        state, layer, weight.astype(np.float64), bias.astype(np.float64), eps
      )
    except InputError as error:
      raise InputError(f"{source}: {error}") from None
  result = {}
  for key, old in state.items():
    if key not in values:  # a counter of batches
      result[key] = np.asarray(old)
      continue
    dtype = jnp.dtype(torch_modules.dtype_name(old))
    with np.errstate(over="ignore"):
      result[key] = np.ascontiguousarray(values[key]).astype(dtype)
    result[key] = result[key].reshape(tuple(old.shape))
    if not np.isfinite(result[key].astype(np.float64)).all():
      raise InputError(f"{source}: the new {key} is not finite in {dtype}")
  return result


def _stored(
  weights: Weights, target: TargetNetwork, expected: Sequence[Kernel]
) -> list[tuple[np.ndarray, np.ndarray]]:
  """(weight, bias) of each layer as PyTorch stores them, float32."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  if jax.tree.map(jnp.shape, weights) != jax.tree.map(jnp.shape, shapes):
    raise InputError(
      f"weights of shapes {[jnp.shape(w) for w in jax.tree.leaves(weights)]}, "
      f"expected one network, {[w.shape for w in jax.tree.leaves(shapes)]}"
    )
  result = []
  for layer, kernel in zip(weights, expected, strict=True):
    weight = np.asarray(layer["kernel"], np.float32)
    weight = weight.transpose(-1, -2, *range(weight.ndim - 2))
    weight = np.ascontiguousarray(weight.reshape(kernel.stored))
    result.append((weight, np.asarray(layer["bias"], np.float32)))
  return result
