"""Modules in a state dict: layers, how they store a weight, normalization.

A layer stores its weight as it is, or as tensors that the weight is computed
from: masked (torch.nn.utils.prune) or normalized (weight_norm, by a hook or as
a parametrization). BatchNorm in eval mode is affine per channel, so that it is
folded exactly into the layer before it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo.names import order_layers

StateDict = Mapping[str, Any]
"""{"<layer>.weight", "<layer>.bias"} -> torch.Tensor or numpy array."""

Shape = tuple[int, ...]


class Form(NamedTuple):
  """A way to store a weight w.

  Attributes:
    suffixes: what follows "weight" or "bias" in the names of the tensors; the
      last tensor has the shape of w.
    decode: tensors -> w.
    encode: (w, shapes of the tensors) -> tensors.
  """

  suffixes: tuple[str, ...]
  decode: Callable[..., np.ndarray]
  encode: Callable[..., tuple[np.ndarray, ...]]


def _norm(v: np.ndarray, shape: Shape) -> np.ndarray:
  """Norms of v over the axes that have size 1 in `shape`; () for all axes."""
  axes = tuple(i for i, n in enumerate(shape) if n == 1) if shape else None
  return np.sqrt(np.square(v).sum(axes, keepdims=bool(shape)))


def _encode_norm(
  w: np.ndarray, shapes: Sequence[Shape]
) -> tuple[np.ndarray, ...]:
  g = _norm(w, shapes[0])
  return g, np.where(g == 0, 1, w)  # g = 0 times any direction


_NORM = (lambda g, v: v * (g / _norm(v, g.shape)), _encode_norm)
_FORMS = (
  Form(("",), lambda w: w, lambda w, shapes: (w,)),
  Form(
    ("_mask", "_orig"),
    lambda mask, w: mask * w,
    lambda w, shapes: (np.ones_like(w), w),
  ),
  Form(("_g", "_v"), *_NORM),
  Form((".original0", ".original1"), *_NORM),
)


class Tensor(NamedTuple):
  """A weight or a bias in a state dict.

  Attributes:
    form: how it is stored.
    keys: of its tensors.
    shape: its shape.
  """

  form: Form
  keys: tuple[str, ...]
  shape: Shape


class Layer(NamedTuple):
  """A convolution or a linear layer.

  Attributes:
    name: "0" of "0.weight".
    weight: its kernel.
    bias: None means zero.
    norm: the name of the BatchNorm behind it, or None.
    norm_keys: the keys of its tensors {"running_mean": key}.
  """

  name: str
  weight: Tensor
  bias: Tensor | None
  norm: str | None = None
  norm_keys: Mapping[str, str] = {}


_BATCH_NORM = {"running_mean", "running_var"}
_RECURRENT = re.compile("weight_[ih]h_l[0-9]+")


def read_layers(
  state: StateDict,
  source: object,
  order: Sequence[str] | None = None,
  has_order: bool = True,
) -> dict[str, Layer]:
  """The layers of a state dict by name, in its order.

  Args:
    state: the state dict.
    source: name of the state dict in error messages.
    order: names of layers, which may have a BatchNorm behind a layer; or None.
    has_order: whether tensors in `state` are in the order of modules.

  Raises:
    InputError: an entry is neither of a layer nor of a BatchNorm behind one.
  """
  modules: dict[str, dict[str, str]] = {}
  for key, value in state.items():
    if not isinstance(key, str) or not hasattr(value, "shape"):
      raise InputError(
        f"{source}: {key!r} is of type {type(value).__name__}, expected "
        "tensors by name, as model.state_dict() returns them"
      )
    name, part = _split(key)
    modules.setdefault(name, {})[part] = key
  layers, norms = {}, {}
  for name, parts in modules.items():
    if _BATCH_NORM <= parts.keys():
      norms[name] = _batch_norm(state, parts, source)
    else:
      layers[name] = _layer(state, name, parts, source)
  for norm, parts in norms.items():
    size = state[parts["running_var"]].shape[0]
    if order is not None and norm in order:
      name = _previous(order, norm)
    else:
      name = _guess(norm, size, layers, list(modules) if has_order else [])
    layer = None if name is None else layers.get(name)
    if layer is None or layer.norm is not None or layer.weight.shape[0] != size:
      raise _unknown_place(norm, source)
    layers[layer.name] = layer._replace(norm=norm, norm_keys=parts)
  if order is None and not has_order:
    _check_first(layers, source)
  return layers


def _split(key: str) -> tuple[str, str]:
  """The name of a module and the rest of a key."""
  name, mark, rest = f".{key}".rpartition(".parametrizations.")
  if mark:
    return name[1:], rest
  name, _, rest = key.rpartition(".")
  return name, rest


def _layer(
  state: StateDict, name: str, parts: dict[str, str], source: object
) -> Layer:
  weight, bias = (_tensor(state, parts, kind) for kind in ("weight", "bias"))
  used = {key for t in (weight, bias) if t is not None for key in t.keys}
  for part, key in parts.items():
    shape = tuple(state[key].shape)
    if key not in used or (part == "weight" and len(shape) < 2):
      raise InputError(
        f"{source}: has {key} of shape {shape}, expected {_advice(part, parts)}"
      )
  if weight is None:
    raise InputError(f"{source}: has no {name}.weight, but {name}.bias")
  return Layer(name, weight, bias)


def _tensor(
  state: StateDict, parts: Mapping[str, str], kind: str
) -> Tensor | None:
  for form in _FORMS:
    names = [kind + suffix for suffix in form.suffixes]
    if all(name in parts for name in names):
      keys = tuple(parts[name] for name in names)
      return Tensor(form, keys, tuple(state[keys[-1]].shape))
  return None


def _advice(part: str, parts: Mapping[str, str]) -> str:
  """What to do about a tensor that no layer has."""
  if _RECURRENT.fullmatch(part):
    return "a cnn or an mlp: an LSTM, GRU or RNN is none"
  if part.startswith("in_proj"):
    return "a cnn or an mlp: attention is none"
  if any(p in parts for p in ("weight_u", "weight.0._u")):
    call = "utils.parametrize.remove_parametrizations(layer, 'weight')"
    if "weight_u" in parts:
      call = "utils.remove_spectral_norm(layer)"
    return (
      f"the weight itself: torch.nn.{call} in eval mode, before the state dict "
      "is saved, applies spectral_norm"
    )
  if part.startswith(("weight.", "bias.")):
    return (
      "the weight itself: torch.nn.utils.parametrize.remove_parametrizations("
      f"layer, {part.partition('.')[0]!r}), before the state dict is saved"
    )
  if part in ("weight", "bias") and "bias" in parts:
    return (
      "weights and biases of convolutions and linear layers: LayerNorm, "
      "GroupNorm, or BatchNorm without running statistics, cannot be folded"
    )
  if part == "weight":
    return (
      "weights and biases of convolutions and linear layers: no target has "
      "PReLU or RMSNorm; an activation without weights is one of the target's"
    )
  return (
    "weights and biases of convolutions and linear layers, pruning masks, "
    "weight_norm or BatchNorm only"
  )


def _batch_norm(
  state: StateDict, parts: dict[str, str], source: object
) -> dict[str, str]:
  """The keys of a BatchNorm, whose tensors all have one entry per channel."""
  parts = {k: v for k, v in parts.items() if k != "num_batches_tracked"}
  shape = tuple(state[parts["running_var"]].shape)
  for part, key in parts.items():
    known = part in {*_BATCH_NORM, "weight", "bias"}
    if not known or len(shape) != 1 or tuple(state[key].shape) != shape:
      raise InputError(
        f"{source}: has {key} of shape {tuple(state[key].shape)}, expected "
        "the tensors of a BatchNorm, one number per channel"
      )
  return parts


def _previous(names: Sequence[str], name: str) -> str | None:
  place = list(names).index(name)
  return names[place - 1] if place else None


def _guess(
  norm: str, size: int, layers: Mapping[str, Layer], modules: Sequence[str]
) -> str | None:
  """The layer that a BatchNorm is behind; None if names do not tell.

  Args:
    norm: the name of the BatchNorm.
    size: its channels.
    layers: all layers.
    modules: layers and BatchNorms in order; [] if it is not known.
  """
  parent, _, last = norm.rpartition(".")
  if last.isdecimal() and any(n.rpartition(".")[0] == parent for n in layers):
    # In an nn.Sequential, where modules without weights have numbers as well.
    return join(parent, str(int(last) - 1))
  numbers = re.findall("[0-9]+", norm)  # "bn2" is behind "conv2"
  twins = [
    name
    for name, layer in layers.items()
    if re.findall("[0-9]+", name) == numbers and layer.weight.shape[0] == size
  ]
  if modules:
    before = _previous(modules, norm)
    if before in twins:
      return before
    if not twins:
      return None if last.isdecimal() else before
    # A BatchNorm that comes first is before its twin, not behind it.
    place = modules.index(norm)
    twins = [name for name in twins if modules.index(name) < place]
  return twins[0] if len(twins) == 1 else None


def _check_first(layers: Mapping[str, Layer], source: object) -> None:
  """Checks what a file without an order says about BatchNorms.

  Without bn1, "bn2" may be behind conv1, in front of conv2.
  """
  for is_convolution in (True, False):
    group = [
      name
      for name, layer in layers.items()
      if (len(layer.weight.shape) == 4) is is_convolution
    ]
    first = (order_layers(group) or group or [""])[0]
    for name in group:
      norm = layers[name].norm
      if norm is None or layers[first].norm is not None:
        continue
      if not norm.rpartition(".")[2].isdecimal():
        raise _unknown_place(norm, source)


def _unknown_place(norm: str, source: object) -> InputError:
  return InputError(
    f"{source}: the layer before the BatchNorm {norm!r} is not known, expected "
    f"one directly before it, or names of layers in order with {norm!r} behind "
    "its layer"
  )


def join(module: str, part: str) -> str:
  """The key of a tensor of a module."""
  return f"{module}.{part}" if module else part


def decode(
  state: StateDict, layer: Layer, shapes: tuple[Shape, Shape], eps: float,
  source: object,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
  """The weight and the bias that a layer computes with, as float64.

  Args:
    state: the state dict.
    layer: one of its layers.
    shapes: of its weight and bias.
    eps: of BatchNorm; a state dict does not say it.
    source: name of the state dict in error messages.

  Raises:
    InputError: another shape, or a tensor without numbers.
  """
  weight = _decode(state, layer.weight, shapes[0], source)
  bias = np.zeros(shapes[1])
  if layer.bias is not None:
    bias = _decode(state, layer.bias, shapes[1], source)
  if layer.norm is not None:
    default = {"weight": 1, "bias": 0}
    norm = default | {
      part: to_numpy(state[key], f"{source}: {key}")
      for part, key in layer.norm_keys.items()
    }
    with np.errstate(all="ignore"):  # the result is checked
      scale = norm["weight"] / np.sqrt(norm["running_var"] + eps)
    weight = (weight.T * scale).T
    bias = (bias - norm["running_mean"]) * scale + norm["bias"]
  return weight, bias


def _decode(
  state: StateDict, tensor: Tensor, shape: Shape, source: object
) -> np.ndarray:
  """One weight; shapes are checked before anything is read."""
  for i, key in enumerate(tensor.keys):
    found = tuple(state[key].shape)
    fits = found == shape
    if i == 0 and tensor.form.encode is _encode_norm:  # [1, ..., n, ..., 1]
      fits = not found or (
        len(found) == len(shape)
        and all(n in (1, m) for n, m in zip(found, shape, strict=True))
      )
    if not fits:
      raise InputError(f"{source}: {key} has shape {found}, expected {shape}")
  arrays = [to_numpy(state[key], f"{source}: {key}") for key in tensor.keys]
  with np.errstate(all="ignore"):
    return tensor.form.decode(*arrays)


def encode(
  state: StateDict, layer: Layer, weight: np.ndarray, bias: np.ndarray,
  eps: float,
) -> dict[str, np.ndarray]:  # fmt: skip
  """The tensors with which a layer computes with this weight and bias.

  A BatchNorm becomes the identity, or adds the bias that its layer lacks.

  Args:
    state: the state dict that the layer is of.
    layer: one of its layers.
    weight: its new weight.
    bias: its new bias.
    eps: of BatchNorm.

  Raises:
    InputError: a bias that is not zero, for a layer without one.
  """
  values = _encode(state, layer.weight, weight)
  added = None
  if layer.bias is not None:
    values |= _encode(state, layer.bias, bias)
  else:
    added = bias
  if layer.norm is not None:
    size = (len(bias),)
    norm = {
      "running_mean": np.zeros(size),
      "running_var": np.full(size, 1 - eps),
      "weight": np.ones(size),
      "bias": np.zeros(size),
    }
    if added is not None and "bias" in layer.norm_keys:
      norm["bias"] = added
    elif added is not None:
      norm["running_mean"] = -added
    values |= {key: norm[part] for part, key in layer.norm_keys.items()}
  elif added is not None and added.any():
    raise InputError(
      f"layer {layer.name!r} has no bias to load the new one, which is up to "
      f"{np.abs(added).max():.3g}, expected zero, or a module with a bias"
    )
  return values


def _encode(
  state: StateDict, tensor: Tensor, value: np.ndarray
) -> dict[str, np.ndarray]:
  shapes = [tuple(state[key].shape) for key in tensor.keys]
  return dict(zip(tensor.keys, tensor.form.encode(value, shapes), strict=True))


def to_numpy(value: Any, where: str) -> np.ndarray:
  """A torch.Tensor, or an array, as float64.

  Raises:
    InputError: it is not made of floats that mean numbers.
  """
  name = dtype_name(value)
  if re.match("float[468]_", name):
    raise InputError(
      f"{where} is of {name}, which needs a scale that a state dict does not "
      "define, expected the network in bfloat16 or float32"
    )
  if hasattr(value, "detach"):
    if value.is_meta:
      raise InputError(
        f"{where} is on the device meta, where tensors have no values, "
        "expected the state dict of a network with weights"
      )
    if not value.is_floating_point() or value.is_quantized:
      raise InputError(f"{where} is of {name}, expected floats")
    value = value.detach().cpu().to_dense()  # of a sparse layout
    value = value.double().numpy()  # numpy has no bfloat16
  if not jnp.issubdtype(value.dtype, jnp.floating):
    raise InputError(f"{where} is of {name}, expected floats")
  return np.asarray(value).astype(np.float64)


def dtype_name(value: Any) -> str:
  """The name of a dtype, the same for PyTorch and numpy."""
  return str(value.dtype).removeprefix("torch.")
