"""The graph of an architecture: static, computed once from its symmetry spec.

A vertex per neuron (a channel, in a convolution), an edge per pair of neurons
that a kernel connects (Kofinas et al. 2024, arXiv:2403.12143; Kalogeropoulos
et al. 2024, arXiv:2406.10685, section 2). Vertices are ordered input, hidden,
output; edges kernel by kernel and within a kernel by sender. The vertices and
edges that a group acts on are therefore one contiguous range each, and features
follow the edges without gather or scatter (see `connectivity`).
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from scalegmn_jax.base import (
  Axes,
  InputError,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.symmetry import spec as specs


@dataclasses.dataclass(frozen=True)
class Bias:
  """A bias as a vertex feature.

  Attributes:
    leaf: position among the leaves of the weights.
    vertices: the vertices of its space.
    slot: index of the vertex feature.
  """

  leaf: int
  vertices: slice
  slot: int


@dataclasses.dataclass(frozen=True)
class Block:
  """A kernel as a block of edges that connects two spaces completely.

  Attributes:
    leaf: position among the leaves of the weights.
    sender_axis, receiver_axis: axes of the weight.
    senders, receivers: vertices of the two spaces.
    edges: the edges of the block, sender-major.
    width: weights per edge, h·w for a convolution.
  """

  leaf: int
  sender_axis: int
  receiver_axis: int
  senders: slice
  receivers: slice
  edges: slice
  width: int


class FeatureSizes(NamedTuple):
  """Sizes of a graph that the parameter shapes of metanetworks depend on.

  Attributes:
    vertex_types, edge_types: numbers of ids.
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
    spec: the symmetry of the weights.
    shapes: the weights as a pytree of `jax.ShapeDtypeStruct`.
    spaces: {space: slice of vertices}.
    biases, blocks: the place of each weight in the graph.
    senders, receivers: [E] int32.
    hidden: the vertices that a group acts on.
    vertex_type: [V] int32; an id per input and output vertex, one per hidden
      space.
    edge_type: [E] int32; per kernel, an id per input or output vertex at its
      ends, one id if both ends are hidden.
    vertex_width, edge_width: features per vertex and edge; shorter kernels
      are padded with zeros to the widest.
    groups: [A, V] object, the group name of each vertex for each activation
      ("" for inputs and outputs).
    exchangeable_outputs: all outputs share one id, and so do the edges of a
      kernel into them.
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
    """The graph with multipliers left out of the group of each vertex."""
    groups = np.where(self.groups == "", "", "permutation")
    return dataclasses.replace(self, groups=groups)

  @property
  def features(self) -> FeatureSizes:
    """Numbers of ids and features."""
    return FeatureSizes(
      int(self.vertex_type.max()) + 1,
      int(self.edge_type.max()) + 1,
      self.vertex_width,
      self.edge_width,
    )

  @property
  def vertices(self) -> int:
    """V, the number of vertices."""
    return len(self.vertex_type)

  @property
  def edges(self) -> int:
    """E, the number of edges."""
    return len(self.edge_type)


def topology_of(
  target: TargetNetwork, *, exchangeable_outputs: bool = False
) -> Topology:
  """The graph of a target network.

  Args:
    target: the architecture.
    exchangeable_outputs: outputs are not distinguished, so metanetworks on the
      graph are equivariant to their order as well.

  Raises:
    InputError: the spec does not fit the weights, or a weight is neither a bias
      (one receiving axis) nor a kernel (one receiving and one sending axis).
  """
  spec, shapes = target.spec, specs.check(target)
  bias_spaces, kernels = _biases_and_kernels(spec, shapes)
  ranks = _ranks(spec, bias_spaces, kernels)
  distinct = {
    name: rank == _INPUT or rank == _OUTPUT and not exchangeable_outputs
    for name, rank in ranks.items()
  }
  spaces = _vertex_ranges(spec, ranks)
  hidden = [s for name, s in spaces.items() if ranks[name] == _HIDDEN]
  biases = _place_biases(bias_spaces, spaces)
  kernels = _ordered(kernels, ranks)
  blocks = _place_kernels(kernels, spaces)
  return Topology(
    spec=spec,
    shapes=shapes,
    spaces=spaces,
    biases=biases,
    blocks=blocks,
    senders=np.concatenate([_ends(b)[0] for b in blocks]),
    receivers=np.concatenate([_ends(b)[1] for b in blocks]),
    hidden=slice(hidden[0].start, hidden[-1].stop) if hidden else slice(0, 0),
    vertex_type=_vertex_types(spaces, distinct),
    edge_type=_edge_types(kernels, distinct),
    vertex_width=1 + max([bias.slot for bias in biases], default=0),
    edge_width=max(b.width for b in blocks),
    groups=_vertex_groups(spec, spaces, len(target.activations)),
    exchangeable_outputs=exchangeable_outputs,
  )


_INPUT, _HIDDEN, _OUTPUT = 0, 1, 2
"""Ranks of spaces, in the order of their vertices."""


class _Kernel(NamedTuple):
  """A weight with a sending and a receiving axis.

  Attributes:
    leaf: position among the leaves of the weights.
    sender_axis, receiver_axis: axes of the weight.
    sender, receiver: names of the spaces.
    shape: (neurons of the sender, neurons of the receiver).
    width: weights per pair of neurons.
  """

  leaf: int
  sender_axis: int
  receiver_axis: int
  sender: str
  receiver: str
  shape: tuple[int, int]
  width: int


def _biases_and_kernels(
  spec: SymmetrySpec, shapes: Weights
) -> tuple[dict[int, str], list[_Kernel]]:
  """({leaf: space} of the biases, kernels).

  Raises:
    InputError: a weight is neither, or there is no kernel.
  """
  biases, kernels = {}, []
  for leaf, (name, shape, axes) in enumerate(specs.leaves(spec, shapes)):
    _check_powers(name, axes)
    receiver, sender = axes.find(1), axes.find(-1)
    if receiver is None:
      raise InputError(
        f"weight {name} has no receiving axis (power 1): a graph has no place "
        "for it"
      )
    if sender is None:
      if shape.ndim != 1:
        raise InputError(
          f"weight {name} has {shape.ndim} axes and none that sends (power -1),"
          " expected a bias with one axis"
        )
      biases[leaf] = receiver[1]
      continue
    size = shape.shape[sender[0]], shape.shape[receiver[0]]
    width = shape.size // (size[0] * size[1])
    kernels.append(
      _Kernel(leaf, sender[0], receiver[0], sender[1], receiver[1], size, width)
    )
  if not kernels:
    raise InputError(
      "no weight has a receiving and a sending axis, expected a kernel"
    )
  return biases, kernels


def _check_powers(name: str, axes: Axes) -> None:
  """InputError unless at most one axis receives, one sends, no other acts."""
  try:
    powers = [axis.power for axis in axes.single() if axis is not None]
  except InputError as error:
    raise InputError(f"weight {name}: {error}") from None
  for power, verb in ((1, "receiving"), (-1, "sending")):
    if powers.count(power) > 1:
      raise InputError(
        f"weight {name} has {powers.count(power)} {verb} axes (power {power}), "
        "expected at most one"
      )
  for power in powers:
    if power not in (1, -1):
      raise InputError(
        f"weight {name} has an axis of power {power}, expected 1 or -1"
      )


def _ranks(
  spec: SymmetrySpec, bias_spaces: dict[int, str], kernels: list[_Kernel]
) -> dict[str, int]:
  """{space: rank}. Fixed spaces that receive are outputs."""
  receiving = {*bias_spaces.values(), *(k.receiver for k in kernels)}

  def rank(name, space):
    if not space.fixed:
      return _HIDDEN
    return _OUTPUT if name in receiving else _INPUT

  return {name: rank(name, space) for name, space in spec.spaces.items()}


def _vertex_ranges(
  spec: SymmetrySpec, ranks: dict[str, int]
) -> dict[str, slice]:
  """{space: its vertices}, inputs first and outputs last."""
  ranges, start = {}, 0
  for name in sorted(spec.spaces, key=lambda name: ranks[name]):
    ranges[name] = slice(start, start + spec.spaces[name].size)
    start = ranges[name].stop
  return ranges


def _vertex_types(
  spaces: dict[str, slice], distinct: dict[str, bool]
) -> np.ndarray:
  """[V] int32: an id per vertex of distinct spaces, one per other space."""
  types, first = [], 0
  for name, vertices in spaces.items():
    count = vertices.stop - vertices.start
    types.append(first + np.arange(count) * distinct[name])
    first = types[-1].max() + 1
  return np.concatenate(types).astype(np.int32)


def _vertex_groups(
  spec: SymmetrySpec, spaces: dict[str, slice], activations: int
) -> np.ndarray:
  """[A, V] object, the group of each vertex for each activation."""
  groups = []
  for name in spaces:
    space = spec.spaces[name]
    names = np.array(space.groups or ("",) * activations)
    groups.append(np.repeat(names[:, None], space.size, axis=1))
  return np.concatenate(groups, axis=1)


def _place_biases(
  bias_spaces: dict[int, str], spaces: dict[str, slice]
) -> tuple[Bias, ...]:
  """Biases of one space have consecutive slots."""
  biases, slots = [], dict.fromkeys(spaces, 0)
  for leaf, name in bias_spaces.items():
    biases.append(Bias(leaf, spaces[name], slots[name]))
    slots[name] += 1
  return tuple(biases)


def _ordered(kernels: list[_Kernel], ranks: dict[str, int]) -> list[_Kernel]:
  """Kernels from input to output, into hidden, between hidden, out of hidden.

  The edges into hidden spaces are contiguous in this order, and so are the
  edges out of them.
  """

  def key(kernel):
    from_hidden = ranks[kernel.sender] > _INPUT
    to_output = ranks[kernel.receiver] == _OUTPUT
    return from_hidden, from_hidden == to_output

  return sorted(kernels, key=key)


def _place_kernels(
  kernels: list[_Kernel], spaces: dict[str, slice]
) -> tuple[Block, ...]:
  blocks, start = [], 0
  for kernel in kernels:
    edges = slice(start, start + kernel.shape[0] * kernel.shape[1])
    start = edges.stop
    blocks.append(
      Block(
        leaf=kernel.leaf,
        sender_axis=kernel.sender_axis,
        receiver_axis=kernel.receiver_axis,
        senders=spaces[kernel.sender],
        receivers=spaces[kernel.receiver],
        edges=edges,
        width=kernel.width,
      )
    )
  return tuple(blocks)


def _ends(block: Block) -> tuple[np.ndarray, np.ndarray]:
  """(senders, receivers) of the edges of a block, int32."""
  senders, receivers = np.meshgrid(
    np.arange(block.senders.start, block.senders.stop, dtype=np.int32),
    np.arange(block.receivers.start, block.receivers.stop, dtype=np.int32),
    indexing="ij",
  )
  return senders.ravel(), receivers.ravel()


def _edge_types(
  kernels: list[_Kernel], distinct: dict[str, bool]
) -> np.ndarray:
  """[E] int32: per kernel, an id per vertex of distinct spaces at its ends."""
  types, first = [], 0
  for kernel in kernels:
    i, j = np.indices(kernel.shape)
    ids = i * distinct[kernel.sender]
    if distinct[kernel.receiver]:
      ids = ids * kernel.shape[1] + j
    types.append(first + ids.ravel())
    first = types[-1].max() + 1
  return np.concatenate(types).astype(np.int32)
