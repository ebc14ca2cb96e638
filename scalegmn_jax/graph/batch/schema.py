"""Ids and kernel slots that graphs of several architectures share.

One metanetwork reads networks of several architectures if an id and a slot have
the same meaning in all of them:

- input i and output k have the same ids in all networks;
- the n-th hidden space, counted from the input, has one id for each n, up to
  the deepest architecture;
- an edge from an input has an id per input, any other edge to an output has an
  id per output, and an edge between hidden vertices has an id per depth of its
  sender;
- the kernel of an edge is centred in a window as large as the largest kernel: a
  slot is an offset from the pixel that the output has its position from. The
  same row of the metanetwork's first matrix reads the weights of a 1x1, a 3x3
  and a 5x5 kernel at the same offset. A weight without spatial axes is a 1x1
  kernel.
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
from scalegmn_jax.symmetry import spec as specs


class TypeSchema(NamedTuple):
  """The ids and slots of a set of architectures; static.

  Attributes:
    inputs, outputs: maximal numbers of input and output neurons.
    depth: maximal number of hidden spaces.
    between: number of depths from which hidden vertices send to hidden ones.
    biases: features per vertex.
    window: the largest kernel size along each spatial axis.
    activations: names of all activations.
    group: the group of all hidden vertices, None if there are several.
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
    """Numbers of ids and features."""
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
    position: [V], the index of an input among inputs or of an output among
      outputs; the depth of a hidden vertex, from 0.
  """

  target: TargetNetwork
  topology: Topology
  kind: np.ndarray
  position: np.ndarray

  def vertex_type(self, schema: TypeSchema) -> np.ndarray:
    """Ids of the vertices, [V] int32."""
    first = np.array([0, schema.inputs, schema.inputs])
    first[2] += schema.depth
    return (first[self.kind] + self.position).astype(np.int32)

  def edge_type(self, schema: TypeSchema) -> np.ndarray:
    """Ids of the edges, [E] int32."""
    s, r = self.topology.senders, self.topology.receivers
    between = schema.inputs + self.position[s]
    into = schema.inputs + schema.between + self.position[r]
    types = np.where(self.kind[r] == 2, into, between)
    types = np.where(self.kind[s] == 0, self.position[s], types)
    return types.astype(np.int32)

  def kernels(
    self, leaves: Sequence[np.ndarray], window: Sequence[int]
  ) -> np.ndarray:
    """The kernels of one network in the slots of a window, [E, K]."""
    edges = np.zeros((self.topology.edges, *window), leaves[0].dtype)
    for block in self.topology.blocks:
      axes = block.part.ends
      kernel = np.moveaxis(leaves[block.leaf], axes, (0, 1))
      sizes = _spatial(self.topology, block, len(window))
      slots = tuple(
        slice((w - 1) // 2 - (k - 1) // 2, (w - 1) // 2 - (k - 1) // 2 + k)
        for w, k in zip(window, sizes, strict=True)
      )
      edges[(block.edges, *slots)] = kernel.reshape(-1, *sizes)
    return edges.reshape(len(edges), -1)

  def biases(self, leaves: Sequence[np.ndarray], width: int) -> np.ndarray:
    """The biases of one network, [V, width]; 0 for vertices without bias."""
    nodes = np.zeros((self.topology.vertices, width), leaves[0].dtype)
    for bias in self.topology.biases:
      nodes[bias.vertices, bias.slot] = leaves[bias.leaf]
    return nodes


def architecture_graph(target: TargetNetwork) -> ArchitectureGraph:
  """The graph of a target network with the kinds of its vertices.

  Raises:
    InputError: the target has no hidden neurons, no graph (see `topology_of`),
      or weights that are neither biases nor kernels between neurons with one
      multiplier.
  """
  topology = topology_of(target)
  _check_plain(topology)
  hidden = topology.hidden
  if hidden.start == hidden.stop:
    raise InputError(
      f"target network {dict(target.description)}: no hidden neurons, expected "
      "at least one"
    )
  kind = np.ones(topology.vertices, int)
  kind[: hidden.start], kind[hidden.stop :] = 0, 2
  position = np.arange(topology.vertices)
  position[hidden.stop :] -= hidden.stop
  spaces = [s for s in topology.stages.values() if kind[s.start] == 1]
  for depth, space in enumerate(spaces):
    position[space] = depth
  return ArchitectureGraph(target, topology, kind, position)


def _check_plain(topology: Topology) -> None:
  """InputError unless every weight is a bias or a kernel, and every neuron a
  vertex."""
  what = "batches of several architectures"
  for name, shape, axes in specs.leaves(topology.spec, topology.shapes):
    try:
      powers = [axis.power for axis in axes.single() if axis is not None]
    except InputError as error:
      raise InputError(f"{what}: weight {name}: {error}") from None
    if sorted(powers) not in ([-1, 1], [1]) or powers == [1] and shape.ndim > 1:
      raise InputError(
        f"{what}: weight {name} has {shape.ndim} axes of powers {powers}, "
        "expected a bias with one axis (power 1) or a kernel (powers -1 and 1)"
      )


def schema_of(architectures: Sequence[ArchitectureGraph]) -> TypeSchema:
  """The schema of a set of architectures.

  Embeddings of ids that no training network has keep their initial values. A
  metanetwork generalizes to other architectures only if they are no deeper than
  the training architectures.

  Raises:
    InputError: no architecture.
  """
  if not architectures:
    raise InputError("no architectures, expected at least one")

  def most(f):
    return max(f(a) for a in architectures)

  def senders(a):
    """Number of depths that send to hidden vertices."""
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


def _spatial(
  topology: Topology, block: Block, axes: int = 0
) -> tuple[int, ...]:
  """Sizes of the spatial axes of a kernel, padded with 1s in front."""
  shape = jax.tree.leaves(topology.shapes)[block.leaf].shape
  sizes = tuple(n for i, n in enumerate(shape) if i not in block.part.ends)
  return (1,) * (axes - len(sizes)) + sizes
