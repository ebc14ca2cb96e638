"""The MLP that computes the same map as a CNN.

A convolution is a dense layer between all positions of all channels, most of
whose weights are zero and the others tied. As an MLP it has a free multiplier
per position and channel; the ties leave one per channel (Kuipers et al. 2025,
arXiv:2510.08300).

Letters: H, W, C height, width and channels in, H', W', D out, k of a kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork, Weights
from scalegmn_jax.targets.mlp import mlp


class Unrolled(NamedTuple):
  """A CNN as an MLP.

  Attributes:
    target: the MLP: a neuron per position and channel, in the order of the
      flattened features [H, W, C].
    unroll: weights of the CNN -> those of the MLP, linear. Each weight of the
      MLP is one of the CNN (over the number of positions, after an average
      pool) or a structural zero, so that the MLP of weights that are all one
      is zero at the structural zeros alone.
    untied: weights of the network in between: locally connected, as the MLP
      without its structural zeros, every position with weights of its own.
  """

  target: TargetNetwork
  unroll: Callable[[Weights], Weights]
  untied: int


def _reads(length: int, k: int, stride: int, padding: str) -> np.ndarray:
  """[k, length, positions]: 1 where a position reads a pixel through a slot.

  Slots on the padding read nothing.
  """
  ((before, after),) = jax.lax.padtype_to_pads(
    (length,), (k,), (stride,), padding
  )
  positions = (length + before + after - k) // stride + 1
  slot, pixel, position = np.indices((k, length, positions))
  return pixel == position * stride + slot - before


def unrolled(target: TargetNetwork) -> Unrolled:
  """The MLP of a CNN made by `targets.cnn`.

  Raises:
    InputError: the target is something else.
  """
  made = target.description
  if made.get("name") != "cnn":
    raise InputError(
      f"target network {made.get('name')!r} cannot be unrolled, expected 'cnn'"
    )
  height, width, inputs = made["input_shape"]
  channels = (inputs, *made["channels"])
  sizes, untied = [height * width * inputs], 0
  reads = []
  for k, stride, n_in, n_out in zip(
    made["kernel_size"],
    made["stride"],
    channels[:-1],
    channels[1:],
    strict=True,
  ):
    rows = _reads(height, k, stride, made["padding"])
    columns = _reads(width, k, stride, made["padding"])
    reads.append((rows, columns))
    height, width = rows.shape[-1], columns.shape[-1]
    sizes.append(height * width * n_out)
    untied += int(rows.sum() * columns.sum()) * n_in * n_out + sizes[-1]
  untied += (sizes[-1] + 1) * made["classes"]
  positions = height * width

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
    *convolutions, last = weights
    kernel = last["kernel"]
    if made["pool"] == "average":
      kernel = jnp.tile(kernel, (positions, 1)) / positions
    last = last | {"kernel": kernel.reshape(-1, made["classes"])}
    layers = zip(convolutions, reads, strict=True)
    return (*(convolution(layer, *r) for layer, r in layers), last)

  return Unrolled(
    target=mlp((*sizes, made["classes"]), made["activation"]),
    unroll=unroll,
    untied=untied,
  )
