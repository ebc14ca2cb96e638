"""The floor: unavoidable work, matrix products counted by formula.

The formulas count multiply-adds of matrix products per network. They do not
count elementwise operations (norms, gates, activations), so they are lower
bounds for any program. A canonical form with several representatives needs as
many products as one with a single representative.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from scalegmn_jax.graph.topology import Topology


@dataclasses.dataclass(frozen=True)
class Products:
  """Multiply-adds of matrix products.

  Attributes:
    forward: multiply-adds of one forward pass.
    constant: the part whose input needs no gradient: images, and the features
      of the input network.
  """

  forward: int
  constant: int = 0

  def __add__(self, other: "Products") -> "Products":
    return Products(
      self.forward + other.forward, self.constant + other.constant
    )

  def times(self, count: int) -> "Products":
    return Products(count * self.forward, count * self.constant)

  @property
  def forward_flops(self) -> int:
    return 2 * self.forward

  @property
  def step_flops(self) -> int:
    """Operations of a forward and a backward pass.

    The backward pass of a product has two products: for the gradient of the
    parameters, and for the gradient of the input, if that is needed.
    """
    return 2 * (3 * self.forward - self.constant)


def metanetwork(
  topology: Topology,
  *,
  width: int,
  depth: int,
  bidirectional: bool,
  outputs: int | None,
) -> Products:
  """Products of a metanetwork on one network.

  Args:
    topology: graph of the input network.
    width: d.
    depth: message passing layers.
    bidirectional: whether messages pass both ways.
    outputs: outputs of a functional; None for an operator.
  """
  is_operator = outputs is None
  vertices, edges, d = topology.vertices, topology.edges, width
  hidden = _size(topology.hidden)
  fixed = vertices - hidden
  square = d * d
  # Edges into hidden vertices, along the graph and in reverse.
  ways = [_hidden_edges(topology, [b.receivers for b in topology.blocks])]
  if bidirectional:
    ways.append(_hidden_edges(topology, [b.senders for b in topology.blocks]))

  def message(into_hidden: int) -> int:
    gated = 3 * into_hidden  # Γ, and the two maps of its gate
    plain = 2 * (edges - into_hidden)
    return (vertices + edges + gated + plain) * square

  d_in = (1 + len(ways)) * d
  update = hidden * (2 * d_in * d + square)
  update += fixed * (d_in * d + square)
  read = 2 * vertices * square
  # The first map of a gate and the projections are computed at the vertices.
  edge = (2 * vertices + 2 * edges) * square
  if is_operator:
    edge += (4 * vertices + edges) * square

  embedding = vertices * topology.vertex_width * d
  embedding += len(ways) * edges * topology.edge_width * d
  total = Products(embedding, embedding)
  for layer in range(depth):
    last = layer == depth - 1
    macs = sum(map(message, ways)) + update
    if is_operator or not last:
      macs += read + (1 if last else len(ways)) * edge
    total += Products(macs)
  return total + _head(topology, d, outputs)


def _head(topology: Topology, d: int, outputs: int | None) -> Products:
  biases, hidden = topology.vertex_width, _size(topology.hidden)
  if outputs is None:
    constant = topology.vertices * biases * biases  # of the input biases
    macs = topology.vertices * d * biases + topology.edges * d * (
      topology.edge_width
    )
    return Products(macs + constant, constant)
  fixed = topology.vertices - hidden
  macs = 2 * hidden * d * d  # the MLP before the mean over vertices
  return Products(macs + (1 + fixed) * d * d + d * outputs)


def convolutional(description: Mapping[str, Any], images: int) -> Products:
  """Products of a CNN on images.

  Args:
    description: arguments of `targets.cnn.cnn`, without pooling between
      convolutions or hidden dense layers.
    images: number of images.
  """
  height, width, channels = description["input_shape"]
  total = Products(0)
  for features, kernel, stride in zip(
    description["channels"],
    description["kernel_size"],
    description["stride"],
    strict=True,
  ):
    if description["padding"] == "VALID":
      height = (height - kernel) // stride + 1
      width = (width - kernel) // stride + 1
    else:
      height, width = -(-height // stride), -(-width // stride)
    macs = height * width * kernel * kernel * channels * features
    total += Products(macs, 0 if total.forward else macs)
    channels = features
  positions = 1 if description["pool"] == "average" else height * width
  total += Products(positions * channels * description["classes"])
  return total.times(images)


def nbytes(*trees: Any) -> int:
  """Total bytes of the arrays or shapes in pytrees."""
  return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(trees))


def seconds(
  flops: float, moved: float, flops_per_second: float, bytes_per_second: float
) -> float:
  """Least time of a program: arithmetic or memory at its ceiling."""
  return max(flops / flops_per_second, moved / bytes_per_second)


def _hidden_edges(topology: Topology, ends: Sequence[slice]) -> int:
  """Number of edges in blocks with hidden vertices at the given end."""
  hidden = topology.hidden
  return sum(
    _size(block.edges)
    for block, end in zip(topology.blocks, ends, strict=True)
    if hidden.start <= end.start < hidden.stop
  )


def _size(part: slice) -> int:
  return part.stop - part.start
