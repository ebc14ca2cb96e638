"""State dicts of `torch.nn` networks as weights of a target network, and back.

A state dict has tensors by name and no computation. The caller names the target
network, and every shape is checked against it; a wrong activation, stride,
padding or pool cannot be noticed. These networks of `torch.nn` compute the same
functions as our targets:

- `cnn`: Conv2d and activation, any number of times; then Flatten, Linear for
  pool "flatten", or AdaptiveAvgPool2d(1), Flatten, Linear for "average". Images
  are [N, C, H, W] in PyTorch and [N, H, W, C] here.
- `mlp`: Flatten, then Linear and activation, Linear last. Images of several
  channels have to be permuted to [N, H, W, C] before they are flattened.
- Padding "VALID" is `padding=0`. "SAME" is `padding=k // 2` for an odd kernel k
  and stride 1. For stride s it pads H rows by max((⌈H/s⌉ - 1) s + k - H, 0) in
  total, the smaller half of them above: with k = 3, s = 2 one row on either
  side of an odd H, which is `padding=1`, and one row below an even H, which is
  ZeroPad2d((0, 1, 0, 1)) before `padding=0`. Conv2d(stride=2, padding=1) on an
  even H is a different function that no target computes.
- Activations: ReLU, LeakyReLU(0.01), Tanh, SiLU; GELU(approximate="tanh") is
  "gelu". sin(ω(Wx + b)), as in SIREN, is "sine" with `omega`.

Layouts: kernels OIHW -> HWIO; linear (out, in) -> (in, out); a linear layer
after flattening (K, C·H·W) -> [H, W, C, K]. Half and double precision become
float32, as in all zoos.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork, Weights

StateDict = Mapping[str, Any]
"""{"<layer>.weight", "<layer>.bias"} -> torch.Tensor or numpy array."""


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
  result = []
  for i, (*spatial, n_in, n_out) in enumerate(shapes):
    axes = (n_out, n_in, *spatial)
    last = i == len(shapes) - 1
    result.append(Kernel((n_out, math.prod(axes[1:])) if last else axes, axes))
  return result


def layers(state: StateDict, source: object = "state dict") -> tuple[str, ...]:
  """Names of the layers, "0" of "0.weight", in the order of the state dict.

  Raises:
    InputError: an entry is not the weight or bias of a convolution or linear
      layer.
  """
  names = {}
  for key, value in state.items():
    if not isinstance(key, str) or not hasattr(value, "shape"):
      raise InputError(
        f"{source}: {key!r} is of type {type(value).__name__}, expected "
        "tensors by name, as model.state_dict() returns them"
      )
    name, _, part = key.rpartition(".")
    min_ndim = {"weight": 2, "bias": 1}.get(part, math.inf)
    if len(value.shape) < min_ndim:
      raise InputError(
        f"{source}: has {key} of shape {tuple(value.shape)}, expected weights "
        "and biases of convolutions and linear layers only (normalization can "
        "be folded into them)"
      )
    names[name] = None
  return tuple(names)


def to_arrays(
  state: StateDict,
  expected: Sequence[Kernel],
  order: Sequence[str] | None,
  source: object,
) -> tuple[dict[str, np.ndarray], ...]:
  """The weights of one network on the host, see `to_weights`.

  Args:
    state: the state dict.
    expected: `kernels(target)`.
    order: see `to_weights`.
    source: name of the state dict in error messages.
  """
  stored = layers(state, source)
  names = stored if order is None else tuple(order)
  if set(names) != set(stored):
    raise InputError(
      f"{source}: has layers {', '.join(stored)}, expected {', '.join(names)}"
    )
  if len(names) != len(expected):
    raise InputError(
      f"{source}: {len(names)} layers ({', '.join(names)}), expected "
      f"{len(expected)}, the layers of the target network"
    )

  def array(key, shape):
    if key not in state:
      raise InputError(f"{source}: has no {key}, expected one of shape {shape}")
    if tuple(state[key].shape) != shape:
      raise InputError(
        f"{source}: {key} has shape {tuple(state[key].shape)}, expected {shape}"
      )
    return _float32(state[key], f"{source}: {key}")

  result = []
  for name, kernel in zip(names, expected, strict=True):
    weight = array(_key(name, "weight"), kernel.stored).reshape(kernel.axes)
    result.append(
      {
        "bias": array(_key(name, "bias"), kernel.axes[:1]),
        "kernel": weight.transpose(*range(2, weight.ndim), 1, 0),
      }
    )
  return tuple(result)


def to_weights(
  state: StateDict,
  target: TargetNetwork,
  order: Sequence[str] | None = None,
) -> Weights:
  """A state dict as the weights of one network, float32.

  Args:
    state: the state dict.
    target: the architecture.
    order: names of the layers as they are computed, first to last; None for
      the order in `state`, in which a torch module registered them.

  Raises:
    InputError: layers that the target does not have (without biases, or of
      normalization), another number of layers, another shape, integers, or
      weights that are not finite.
  """
  arrays = to_arrays(state, kernels(target), order, "state dict")
  return jax.tree.map(jnp.asarray, arrays)


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
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  if jax.tree.map(jnp.shape, weights) != jax.tree.map(jnp.shape, shapes):
    raise InputError(
      f"weights of shapes {[jnp.shape(w) for w in jax.tree.leaves(weights)]}, "
      f"expected one network, {[w.shape for w in jax.tree.leaves(shapes)]}"
    )
  state = {}
  for name, layer, kernel in zip(order, weights, expected, strict=True):
    weight = np.asarray(layer["kernel"], np.float32)
    weight = weight.transpose(-1, -2, *range(weight.ndim - 2))
    state[_key(name, "weight")] = np.ascontiguousarray(
      weight.reshape(kernel.stored)
    )
    state[_key(name, "bias")] = np.asarray(layer["bias"], np.float32)
  return state


def _key(layer: str, part: str) -> str:
  return f"{layer}.{part}" if layer else part


def _float32(value: Any, where: str) -> np.ndarray:
  """A torch.Tensor, or an array, as finite float32."""
  if hasattr(value, "detach"):
    value = value.detach().cpu()
    if value.is_floating_point():
      value = value.double()  # numpy has no bfloat16
    value = value.numpy()
  if not jnp.issubdtype(value.dtype, jnp.floating):
    raise InputError(f"{where} is of {value.dtype}, expected floats")
  with np.errstate(over="ignore"):
    value = np.asarray(value).astype(np.float32)
  if not np.isfinite(value).all():
    raise InputError(f"{where} is not finite in float32")
  return value
