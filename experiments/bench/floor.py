"""The work that cannot be avoided: matrix products counted by formula.

Counted are multiply-adds of matrix products, per network. What is elementwise
(norms, gates, activations) is not, so the formulas are below what any program
executes. Letters: V vertices, E edges, d the width; V_h and E_h those that the
group acts on (of edges: into hidden vertices), V_f and E_f the others. A
canonical form with several representatives costs no more products than one.
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
    forward: of one forward pass.
    constant: those of them whose input needs no gradient: images, and the
      features of a network that is read.
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
    """Of a forward and a backward pass.

    The backward pass of a product is two products, one for the gradient of the
    parameters and one for that of the input, where that is needed.
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
  """A metanetwork on one network.

  Args:
    topology: of the network that is read.
    width: d.
    depth: message passing layers.
    bidirectional: messages pass both ways.
    outputs: of a functional; None for an operator.
  """
  writes = outputs is None
  vertices, edges, d = topology.vertices, topology.edges, width
  hidden = _size(topology.hidden)
  fixed = vertices - hidden
  square = d * d
  # Edges that lead to hidden vertices, along the graph and against it.
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
  # The first map of a gate and the projections are taken at the vertices.
  edge = (2 * vertices + 2 * edges) * square
  if writes:
    edge += (4 * vertices + edges) * square

  embedding = vertices * topology.vertex_width * d
  embedding += len(ways) * edges * topology.edge_width * d
  total = Products(embedding, embedding)
  for layer in range(depth):
    last = layer == depth - 1
    macs = sum(map(message, ways)) + update
    if writes or not last:
      macs += read + (1 if last else len(ways)) * edge
    total += Products(macs)
  return total + _head(topology, d, outputs)


def _head(topology: Topology, d: int, outputs: int | None) -> Products:
  biases, hidden = topology.vertex_width, _size(topology.hidden)
  if outputs is None:
    own = topology.vertices * biases * biases  # the biases it has read
    macs = topology.vertices * d * biases + topology.edges * d * (
      topology.edge_width
    )
    return Products(macs + own, own)
  fixed = topology.vertices - hidden
  macs = 2 * hidden * d * d  # the network that the mean is taken of
  return Products(macs + (1 + fixed) * d * d + d * outputs)


def convolutional(description: Mapping[str, Any], images: int) -> Products:
  """A CNN on that many images.

  Args:
    description: of the target, see `targets.cnn.cnn`.
    images: N.
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
  """Bytes of the arrays of pytrees, or of their shapes."""
  return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(trees))


def seconds(
  flops: float, moved: float, flops_per_second: float, bytes_per_second: float
) -> float:
  """No program is faster: arithmetic at one ceiling, memory at the other."""
  return max(flops / flops_per_second, moved / bytes_per_second)


def _hidden_edges(topology: Topology, ends: Sequence[slice]) -> int:
  """The edges of those blocks whose vertices at one end are hidden."""
  hidden = topology.hidden
  return sum(
    _size(block.edges)
    for block, end in zip(topology.blocks, ends, strict=True)
    if hidden.start <= end.start < hidden.stop
  )


def _size(part: slice) -> int:
  return part.stop - part.start
