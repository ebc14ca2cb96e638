"""Unrolls a CNN into the MLP that computes the same function.

A convolution is a dense layer between all positions of all channels, with
most weights zero and the others tied. The MLP has a free multiplier per
position and channel; weight sharing leaves one per channel (Kuipers et al.
2025, arXiv:2510.08300).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.targets.cnn import Padding, paddings_of, pads, positions
from scalegmn_jax.targets.mlp import mlp


class Unrolled(NamedTuple):
  """A CNN unrolled into an MLP.

  Attributes:
    target: the MLP; it has one neuron per position and channel, in the order
      of the flattened features [H, W, C].
    unroll: weights of the CNN -> weights of the MLP, linear. Each weight of the
      MLP equals a weight of the CNN (divided by the number of positions after
      an average pool) or is a structural zero. If all CNN weights are one, the
      MLP weights are zero exactly at the structural zeros.
    untied: number of weights of the locally connected network: the MLP weights
      without the structural zeros.
  """

  target: TargetNetwork
  unroll: Callable[[Weights], Weights]
  untied: int


def _connections(
  length: int, k: int, stride: int, padding: Padding
) -> np.ndarray:
  """Connections of a one-dimensional convolution, [k, length, positions] bool.

  Entry (slot, pixel, position) is true where the output position receives the
  pixel through this slot of the kernel. Slots on the padding have none.
  """
  ((before, _),) = pads((length,), k, stride, padding)
  shape = k, length, positions(length, k, stride, padding)
  slot, pixel, position = np.indices(shape)
  return pixel == position * stride + slot - before


def unrolled(target: TargetNetwork) -> Unrolled:
  """Unrolls a CNN.

  Args:
    target: made by `targets.cnn`, without pooling between convolutions.

  Raises:
    InputError: the target is not a CNN, or pools windows.
  """
  description = target.description
  name = description.get("name")
  if name != "cnn":
    raise InputError(
      f"target network {name!r} cannot be unrolled, expected 'cnn'"
    )
  if "pool_size" in description:
    raise InputError(
      f"pool_size is {description['pool_size']}: a CNN with pooling between "
      "convolutions cannot be unrolled, expected 1"
    )
  height, width, inputs = description["input_shape"]
  channels = (inputs, *description["channels"])
  depth = len(description["channels"])
  paddings = paddings_of(description["padding"], depth)
  sizes, untied = [height * width * inputs], 0
  connections = []
  for k, stride, padding, n_in, n_out in zip(
    description["kernel_size"],
    description["stride"],
    paddings,
    channels[:-1],
    channels[1:],
    strict=True,
  ):
    rows = _connections(height, k, stride, padding)
    columns = _connections(width, k, stride, padding)
    connections.append((rows, columns))
    height, width = rows.shape[-1], columns.shape[-1]
    sizes.append(height * width * n_out)
    untied += int(rows.sum() * columns.sum()) * n_in * n_out + sizes[-1]
  maps = height * width
  for n_out in (*description.get("dense", ()), description["classes"]):
    untied += (sizes[-1] + 1) * n_out
    sizes.append(n_out)

  def convolution(layer, rows, columns):
    kernel = layer["kernel"]
    dense = jnp.einsum(
      "ihp,jwq,ijcd->hwcpqd",
      rows.astype(kernel.dtype),
      columns.astype(kernel.dtype),
      kernel,
      optimize="optimal",
    )
    bias = jnp.tile(layer["bias"], rows.shape[-1] * columns.shape[-1])
    return {"bias": bias, "kernel": dense.reshape(-1, len(bias))}

  def unroll(weights):
    first, *others = weights[depth:]
    kernel = first["kernel"]
    if description["pool"] == "average":
      kernel = jnp.tile(kernel, (maps, 1)) / maps
    first = first | {"kernel": kernel.reshape(-1, kernel.shape[-1])}
    layers = zip(weights[:depth], connections, strict=True)
    return (*(convolution(layer, *c) for layer, c in layers), first, *others)

  return Unrolled(
    target=mlp(sizes, description["activation"]),
    unroll=unroll,
    untied=untied,
  )
