"""Vision transformers."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax import compilation
from scalegmn_jax.base import InputError, TargetNetwork, random_array
from scalegmn_jax.targets.activations import ACTIVATIONS, add_bias, scale
from scalegmn_jax.targets.arguments import (
  one_activation,
  positive_integer,
  positive_integers,
)
from scalegmn_jax.targets.traced import trace

_EPS = 1e-6
"""Added to variances."""

_ATTENTION = ("query", "key", "value", "out")
"""Names of the dense layers of attention."""

Layer = Mapping[str, jax.Array]
"""The weights of a dense layer or of a LayerNorm."""


def vit(
  input_shape: Sequence[int] = (8, 8, 1),
  classes: int = 10,
  patch: int = 2,
  width: int = 16,
  heads: int = 2,
  depth: int = 2,
  mlp: int = 32,
  activation: str | Sequence[str] = "gelu",
) -> TargetNetwork:
  """A vision transformer for small images (Dosovitskiy et al. 2021,
  arXiv:2010.11929).

  Patches, a dense layer and learned positions; `depth` blocks of attention and
  an MLP, each with LayerNorm before it and a shortcut around it; LayerNorm, the
  mean over patches and a dense layer.

  Weights: {"patches": D, "positions": [patches, width], "blocks": ({"norm_1":
  N, "query": D, "key": D, "value": D, "out": D, "norm_2": N, "mlp_1": D,
  "mlp_2": D}, ...), "norm": N, "head": D}, a dense layer D is {"bias",
  "kernel"}, a LayerNorm N is {"bias", "scale"}. The last axes of query, key and
  value are (heads, width / heads). The symmetry is traced, see `traced.trace`.
  `init` draws kernels from a normal distribution with variance 1 / fan-in.

  Args:
    input_shape: (height, width, channels).
    classes: number of outputs.
    patch: height and width of a patch; divides those of the images.
    width: neurons of the stream; a multiple of heads.
    heads: of attention.
    depth: number of blocks.
    mlp: hidden neurons of the MLPs.
    activation: of the MLPs, a key of `activations.ACTIVATIONS`.

  Raises:
    InputError: a number is not positive, or does not divide what it should; no
      such activation.
  """
  rows, columns, channels = input_shape = positive_integers(
    "vit: input_shape", input_shape, least=3
  )
  sizes = {
    "classes": classes, "patch": patch, "width": width, "heads": heads,
    "depth": depth, "mlp": mlp,
  }  # fmt: skip
  sizes = {n: positive_integer(f"vit: {n}", v) for n, v in sizes.items()}
  name = one_activation("vit: activation", activation)
  if rows % patch or columns % patch:
    raise InputError(
      f"vit: patch {patch}, expected a divisor of the height {rows} and the "
      f"width {columns} of the images"
    )
  if width % heads:
    raise InputError(
      f"vit: width {width}, expected a multiple of heads ({heads})"
    )
  count = (rows // patch) * (columns // patch)

  def dense(key, d_in, d_out):
    kernel = random_array(jax.random.normal, key, (d_in, d_out))
    return {"kernel": kernel * d_in**-0.5, "bias": jnp.zeros(d_out)}

  def norm():
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}

  def block(key):
    keys = jax.random.split(key, 6)
    square = {
      name: dense(k, width, width)
      for name, k in zip(_ATTENTION, keys[:4], strict=True)
    }
    return {
      "norm_1": norm(),
      **square,
      "norm_2": norm(),
      "mlp_1": dense(keys[4], width, mlp),
      "mlp_2": dense(keys[5], mlp, width),
    }

  @compilation.run_once
  def init(key):
    k_patches, k_positions, k_blocks, k_head = jax.random.split(key, 4)
    positions = random_array(jax.random.normal, k_positions, (count, width))
    return {
      "patches": dense(k_patches, patch * patch * channels, width),
      "positions": 0.02 * positions,
      "blocks": tuple(map(block, jax.random.split(k_blocks, depth))),
      "norm": norm(),
      "head": dense(k_head, width, classes),
    }

  def apply(weights, x):
    x = x.reshape(len(x), rows // patch, patch, columns // patch, patch, -1)
    x = jnp.moveaxis(x, 2, 3).reshape(len(x), count, -1)
    x = _dense(weights["patches"], x) + weights["positions"][None]
    for part in weights["blocks"]:
      y = _layer_norm(part["norm_1"], x)
      x = x + _dense(part["out"], attention(part, y))
      y = _dense(part["mlp_1"], _layer_norm(part["norm_2"], x))
      x = x + _dense(part["mlp_2"], ACTIVATIONS[name](y))
    x = _layer_norm(weights["norm"], x).mean(1)
    return _dense(weights["head"], x)

  def attention(part, x):
    """x [N, T, width] -> [N, T, width], the heads side by side."""
    q, k, v = (
      _dense(part[n], x).reshape(len(x), count, heads, -1)
      for n in _ATTENTION[:3]
    )
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) * (width // heads) ** -0.5
    shares = jax.nn.softmax(scores)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", shares, v)
    return mixed.reshape(len(x), count, width)

  target = trace(
    apply,
    jax.eval_shape(init, jax.random.key(0)),
    jax.eval_shape(lambda: jnp.zeros((2, *input_shape))),
    init=init,
    verify=False,
  )
  return target._replace(
    activations=(name,),
    description={
      "name": "vit",
      "input_shape": list(input_shape),
      **sizes,
      "activation": name,
    },
  )


def _dense(layer: Layer, x: jax.Array) -> jax.Array:
  """x [..., in] -> [..., out]."""
  return add_bias(x @ layer["kernel"], layer["bias"])


def _layer_norm(layer: Layer, x: jax.Array) -> jax.Array:
  """Normalizes over the last axis."""
  x = x - x.mean(-1, keepdims=True)
  x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + _EPS)
  return add_bias(scale(x, layer["scale"]), layer["bias"])
