"""The graph of an architecture: static, computed once from its symmetry spec.

A vertex per neuron (a channel, in a convolution), an edge per pair of neurons
that a kernel connects (Kofinas et al. 2024, arXiv:2403.12143; Kalogeropoulos
et al. 2024, arXiv:2406.10685, section 2). Vertices are ordered input, hidden,
output; edges kernel by kernel and within a kernel by sender. So the vertices
and edges that a group acts on are one contiguous range each, and no gather or
scatter is needed to follow the edges (see `wiring`).
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import SymmetrySpec, TargetNetwork
from scalegmn_jax.symmetry import spec as specs


@dataclasses.dataclass(frozen=True)
class Bias:
  """A bias as a vertex feature.

  Attributes:
    leaf: position among the leaves of the weights.
    vertices: the vertices of its space.
    slot: the feature that holds it.
  """

  leaf: int
  vertices: slice
  slot: int


@dataclasses.dataclass(frozen=True)
class Block:
  """A kernel as a block of edges, complete between two spaces.

  Attributes:
    leaf: position among the leaves of the weights.
    sender_axis, receiver_axis: of the weight.
    senders, receivers: vertices of the two spaces.
    edges: the edges of the block, sender-major.
    width: weights on each edge, h·w of a convolution.
  """

  leaf: int
  sender_axis: int
  receiver_axis: int
  senders: slice
  receivers: slice
  edges: slice
  width: int


class FeatureSizes(NamedTuple):
  """What of a graph the parameters of a metanetwork depend on.

  Attributes:
    vertex_types, edge_types: how many ids there are.
    vertex_width, edge_width: features per vertex and edge.
  """

  vertex_types: int
  edge_types: int
  vertex_width: int
  edge_width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
  """The static graph of one architecture, V vertices and E edges.

  Attributes:
    spec: the symmetry it was made from.
    shapes: the weights as a pytree of `jax.ShapeDtypeStruct`.
    spaces: {space: slice of vertices}.
    biases, blocks: where every weight goes.
    senders, receivers: [E] int32.
    hidden: the vertices that a group acts on.
    vertex_type: [V] int32; an id per input and output vertex, one per hidden
      space.
    edge_type: [E] int32; per kernel: an id per input or output vertex that it
      touches, one if it touches none.
    vertex_width, edge_width: features per vertex and edge; shorter kernels
      are padded with zeros to the widest.
    groups: [A, V] object, the group name of each vertex for each activation
      ("" for inputs and outputs).
    exchangeable_outputs: outputs, and the edges into them, have one id each
      rather than one per output.
  """

  spec: SymmetrySpec
  shapes: object
  spaces: dict[str, slice]
  biases: tuple[Bias, ...]
  blocks: tuple[Block, ...]
  senders: np.ndarray
  receivers: np.ndarray
  hidden: slice
  vertex_type: np.ndarray
  edge_type: np.ndarray
  vertex_width: int
  edge_width: int
  groups: np.ndarray
  exchangeable_outputs: bool

  def permutation_only(self) -> "Topology":
    """The same graph for a model that no multiplier concerns."""
    groups = np.where(self.groups == "", "", "permutation")
    return dataclasses.replace(self, groups=groups)

  @property
  def features(self) -> FeatureSizes:
    return FeatureSizes(
      int(self.vertex_type.max()) + 1,
      int(self.edge_type.max()) + 1,
      self.vertex_width,
      self.edge_width,
    )

  @property
  def vertices(self) -> int:
    return len(self.vertex_type)

  @property
  def edges(self) -> int:
    return len(self.edge_type)


def topology_of(
  target: TargetNetwork, *, exchangeable_outputs: bool = False
) -> Topology:
  """The graph of a target network.

  Args:
    target: the architecture.
    exchangeable_outputs: nothing tells its outputs apart, so that metanetworks
      on the graph are equivariant to their order as well.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  spec = target.spec
  specs.check(spec, shapes)
  leaves = specs.leaves(spec, shapes)
  receiving = {
    axes.find(1)[1]  # type: ignore[index]
    for _, _, axes in leaves
  }

  def rank(name):
    """0 for inputs, 1 for hidden spaces, 2 for outputs."""
    return 1 if not spec.spaces[name].fixed else 2 * (name in receiving)

  def told_apart(name):
    space_rank = rank(name)
    return space_rank == 0 or space_rank == 2 and not exchangeable_outputs

  spaces, vertex_type, groups, start = {}, [], [], 0
  types = 0
  for name in sorted(spec.spaces, key=rank):
    space = spec.spaces[name]
    spaces[name] = slice(start, start + space.size)
    start += space.size
    own = np.arange(space.size) * told_apart(name)
    vertex_type.append(types + own)
    types = vertex_type[-1].max() + 1
    names = space.groups or ("",) * len(target.activations)
    groups.append(np.repeat(np.array(names)[:, None], space.size, axis=1))

  biases, kernels, slots = [], [], dict.fromkeys(spaces, 0)
  for leaf, (_, shape, axes) in enumerate(leaves):
    receiver, sender = axes.find(1), axes.find(-1)
    if sender is None:
      name = receiver[1]
      biases.append(Bias(leaf, spaces[name], slots[name]))
      slots[name] += 1
    else:
      kernels.append((leaf, shape, sender, receiver))

  # Kernels from input to output, into hidden, between hidden, out of hidden:
  # those into hidden spaces are contiguous, and so are those out of them.
  def order(kernel):
    _, _, (_, sender), (_, receiver) = kernel
    from_hidden, to_output = rank(sender) > 0, rank(receiver) == 2
    return (from_hidden, from_hidden == to_output)

  blocks, senders, receivers, edge_type, start = [], [], [], [], 0
  types = 0
  kernels.sort(key=order)
  for leaf, shape, (s_axis, s_name), (r_axis, r_name) in kernels:
    n_in, n_out = shape.shape[s_axis], shape.shape[r_axis]
    s, r = spaces[s_name], spaces[r_name]
    edges = slice(start, start + n_in * n_out)
    start = edges.stop
    blocks.append(
      Block(leaf, s_axis, r_axis, s, r, edges, shape.size // (n_in * n_out))
    )
    i, j = np.meshgrid(np.arange(n_in), np.arange(n_out), indexing="ij")
    senders.append(s.start + i.ravel())
    receivers.append(r.start + j.ravel())
    own = np.zeros_like(i)
    if told_apart(s_name):
      own = own + i
    if told_apart(r_name):
      own = own * n_out + j
    edge_type.append(types + own.ravel())
    types = edge_type[-1].max() + 1

  inside = [s for name, s in spaces.items() if not spec.spaces[name].fixed]
  return Topology(
    spec=spec,
    shapes=shapes,
    spaces=spaces,
    biases=tuple(biases),
    blocks=tuple(blocks),
    senders=np.concatenate(senders).astype(np.int32),
    receivers=np.concatenate(receivers).astype(np.int32),
    hidden=slice(inside[0].start, inside[-1].stop) if inside else slice(0, 0),
    vertex_type=np.concatenate(vertex_type).astype(np.int32),
    edge_type=np.concatenate(edge_type).astype(np.int32),
    vertex_width=max(1, *slots.values()),
    edge_width=max(b.width for b in blocks),
    groups=np.concatenate(groups, axis=1),
    exchangeable_outputs=exchangeable_outputs,
  )
