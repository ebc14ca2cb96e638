"""What graphs of several architectures share: ids, and slots of kernels.

One metanetwork reads networks of several architectures if the same id and the
same slot mean the same thing in all of them:

- input i and output k of every network have the ids of input i and output k;
- the n-th hidden space, counted from the input, has an id of its own, up to the
  deepest architecture;
- an edge that leaves an input has the id of that input, another one that
  reaches an output the id of that output, and one between hidden vertices that
  of its sender's depth;
- the kernel of an edge is laid into a window as large as the largest kernel, so
  that the tap that reads a pixel's own position is in the middle, whatever the
  kernel's size: a slot is an offset from that position, and the weights of a
  1x1, a 3x3 and a 5x5 kernel at the same offset are read by the same row of the
  metanetwork's first matrix. A weight without spatial axes is a 1x1 kernel.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.graph.topology import (
  Block,
  FeatureSizes,
  Topology,
  topology_of,
)


class TypeSchema(NamedTuple):
  """The ids and slots of a set of architectures; static.

  Attributes:
    inputs, outputs: neurons, of the widest architecture.
    depth: hidden spaces of the deepest.
    between: how many depths hidden vertices send to hidden vertices from.
    biases: features per vertex.
    window: the largest kernel, per spatial axis.
    activations: names of all activations.
    group: that acts on all hidden vertices, None where there are several.
  """

  inputs: int
  outputs: int
  depth: int
  between: int
  biases: int
  window: tuple[int, ...]
  activations: tuple[str, ...]
  group: str | None

  @property
  def features(self) -> FeatureSizes:
    return FeatureSizes(
      vertex_types=self.inputs + self.depth + self.outputs,
      edge_types=self.inputs + self.between + self.outputs,
      vertex_width=self.biases,
      edge_width=int(np.prod(self.window, dtype=int)),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ArchitectureGraph:
  """The graph of one architecture, by kind of vertex.

  Attributes:
    target: the architecture.
    topology: its graph, V vertices and E edges.
    kind: [V], 0 for inputs, 1 for hidden vertices, 2 for outputs.
    position: [V], of an input or output among those; of a hidden vertex its
      depth, counted from 0.
  """

  target: TargetNetwork
  topology: Topology
  kind: np.ndarray
  position: np.ndarray

  def vertex_type(self, vocabulary: TypeSchema) -> np.ndarray:
    """[V] int32."""
    first = np.array([0, vocabulary.inputs, vocabulary.inputs])
    first[2] += vocabulary.depth
    return (first[self.kind] + self.position).astype(np.int32)

  def edge_type(self, vocabulary: TypeSchema) -> np.ndarray:
    """[E] int32."""
    s, r = self.topology.senders, self.topology.receivers
    between = vocabulary.inputs + self.position[s]
    into = vocabulary.inputs + vocabulary.between + self.position[r]
    types = np.where(self.kind[r] == 2, into, between)
    types = np.where(self.kind[s] == 0, self.position[s], types)
    return types.astype(np.int32)

  def kernels(
    self, leaves: Sequence[np.ndarray], window: Sequence[int]
  ) -> np.ndarray:
    """The kernels of one network in the slots of the window, [E, K]."""
    edges = np.zeros((self.topology.edges, *window), leaves[0].dtype)
    for block in self.topology.blocks:
      axes = (block.sender_axis, block.receiver_axis)
      kernel = np.moveaxis(leaves[block.leaf], axes, (0, 1))
      sizes = _spatial(self.topology, block, len(window))
      places = tuple(
        slice((w - 1) // 2 - (k - 1) // 2, (w - 1) // 2 - (k - 1) // 2 + k)
        for w, k in zip(window, sizes, strict=True)
      )
      edges[(block.edges, *places)] = kernel.reshape(-1, *sizes)
    return edges.reshape(len(edges), -1)

  def biases(self, leaves: Sequence[np.ndarray], width: int) -> np.ndarray:
    """The biases of one network, [V, width]; 0 for vertices without."""
    nodes = np.zeros((self.topology.vertices, width), leaves[0].dtype)
    for bias in self.topology.biases:
      nodes[bias.vertices, bias.slot] = leaves[bias.leaf]
    return nodes


def architecture_graph(target: TargetNetwork) -> ArchitectureGraph:
  """The architecture of a target network.

  Raises:
    InputError: it has no hidden neurons.
  """
  topology = topology_of(target)
  hidden = topology.hidden
  if hidden.start == hidden.stop:
    raise InputError(
      f"target network {dict(target.description)}: has no hidden neurons, "
      "expected some"
    )
  kind = np.ones(topology.vertices, int)
  kind[: hidden.start], kind[hidden.stop :] = 0, 2
  position = np.arange(topology.vertices)
  position[hidden.stop :] -= hidden.stop
  spaces = [s for s in topology.spaces.values() if kind[s.start] == 1]
  for depth, space in enumerate(spaces):
    position[space] = depth
  return ArchitectureGraph(target, topology, kind, position)


def schema_of(architectures: Sequence[ArchitectureGraph]) -> TypeSchema:
  """The vocabulary of these architectures.

  Ids that no network of a training has keep the codes that they begin with. So
  networks of another architecture are read as they should only if it is no
  deeper than those of the training.
  """
  if not architectures:
    raise InputError("no architectures, expected at least one")

  def most(f):
    return max(f(a) for a in architectures)

  def senders(a):
    """Depths that send to hidden vertices."""
    s, r = a.topology.senders, a.topology.receivers
    inside = (a.kind[s] == 1) & (a.kind[r] == 1)
    return int(a.position[s][inside].max(initial=-1)) + 1

  def count(kind):
    return most(lambda a: int(a.position[a.kind == kind].max(initial=-1)) + 1)

  axes = most(
    lambda a: max(len(_spatial(a.topology, b)) for b in a.topology.blocks)
  )
  kernels = [
    _spatial(a.topology, block, axes)
    for a in architectures
    for block in a.topology.blocks
  ]
  groups = {
    group
    for a in architectures
    for space in a.topology.spec.spaces.values()
    for group in space.groups
  }
  return TypeSchema(
    inputs=count(0),
    outputs=count(2),
    depth=count(1),
    between=most(senders),
    biases=most(lambda a: a.topology.vertex_width),
    window=tuple(int(k) for k in np.max(kernels, axis=0)) if axes else (),
    activations=tuple(
      dict.fromkeys(n for a in architectures for n in a.target.activations)
    ),
    group=groups.pop() if len(groups) == 1 else None,
  )


def _spatial(topology: Topology, block: Block, axes: int = 0) -> tuple:
  """Sizes of the spatial axes of a kernel, after as many 1s as are missing."""
  shape = jax.tree.leaves(topology.shapes)[block.leaf].shape
  ends = (block.sender_axis, block.receiver_axis)
  sizes = tuple(n for i, n in enumerate(shape) if i not in ends)
  return (1,) * (axes - len(sizes)) + sizes
