"""The graph of an architecture: static, computed once from its symmetry spec.

A vertex per neuron (a channel, in a convolution) and stage, an edge per pair of
neurons that a weight connects, see `parts` (Kofinas et al. 2024,
arXiv:2403.12143; Kalogeropoulos et al. 2024, arXiv:2406.10685, section 2).
Vertices are ordered input, hidden, output; edges block by block. The vertices
and edges that a group acts on are therefore one contiguous range each, and
features follow the edges without gather or scatter (see `connectivity`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import (
  InputError,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.graph import parts as parts_module
from scalegmn_jax.graph.parts import Part, Stage
from scalegmn_jax.symmetry import spec as specs

BOTH = "scale and sign"
"""The group of a vertex on which positive multipliers and signs act."""


@dataclasses.dataclass(frozen=True)
class Bias:
  """A part of a weight as vertex features.

  Attributes:
    part: the numbers, one row per vertex.
    vertices: the vertices of its stage.
    slot: index of the first vertex feature.
  """

  part: Part
  vertices: slice
  slot: int

  @property
  def leaf(self) -> int:
    """Position among the leaves of the weights."""
    return self.part.leaf

  @property
  def slots(self) -> slice:
    """The vertex features."""
    return slice(self.slot, self.slot + self.part.width)


@dataclasses.dataclass(frozen=True)
class Block:
  """A part of a weight as a block of edges between two stages.

  It connects every sender with every receiver, or those of the same group: see
  `parts.Part.shared`.

  Attributes:
    part: the numbers, one row per edge.
    senders, receivers: vertices of the two stages.
    edges: the edges of the block, group by group and within a group by sender.
  """

  part: Part
  senders: slice
  receivers: slice
  edges: slice

  @property
  def leaf(self) -> int:
    """Position among the leaves of the weights."""
    return self.part.leaf

  @property
  def width(self) -> int:
    """Weights per edge, h·w for a convolution."""
    return self.part.width


class Tie(NamedTuple):
  """The vertices of one stage that belong to the neurons of a space.

  Attributes:
    vertices: of the stage.
    before, size, after: the vertices are an array of this shape, with the
      neurons of the space in the middle.
  """

  vertices: slice
  before: int
  size: int
  after: int


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
    stages: {stage: slice of vertices}.
    biases, blocks: the place of each weight in the graph.
    ties: for each hidden space with several stages, all of them.
    senders, receivers: [E] int32.
    hidden: the vertices that a group acts on.
    vertex_type: [V] int32; an id per vertex of a stage whose neurons are not
      interchangeable (inputs and outputs), one per other stage.
    edge_type: [E] int32; per block, an id per vertex at its ends that has an id
      of its own, one id if there is none.
    vertex_width, edge_width: features per vertex and edge; blocks of fewer
      features are padded with zeros to the widest.
    groups: [A, V] object, the group name of each vertex for each activation:
      one of `base.GROUPS`, or `BOTH` ("" for inputs and outputs).
    exchangeable_outputs: all outputs share one id, and so do the edges of a
      kernel into them.
  """

  spec: SymmetrySpec
  shapes: object
  stages: dict[Stage, slice]
  biases: tuple[Bias, ...]
  blocks: tuple[Block, ...]
  ties: tuple[tuple[Tie, ...], ...]
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

  def acted_on(self, group: str) -> np.ndarray:
    """[A, V] bool, the vertices that "scale" or "sign" acts on."""
    return (self.groups == group) | (self.groups == BOTH)

  def is_hidden(self, vertices: slice) -> bool:
    """Whether a group acts on the vertices of a stage."""
    return self.hidden.start <= vertices.start < self.hidden.stop

  @property
  def spaces(self) -> dict[str, slice]:
    """{space: its vertices}, for spaces that are a stage of their own."""
    return {
      stage.spaces[0]: vertices
      for stage, vertices in self.stages.items()
      if len(stage.spaces) == 1
    }

  @property
  def parts(self) -> list[Part]:
    """The parts of all weights, in the order of their leaves."""
    parts = [b.part for b in (*self.biases, *self.blocks)]
    return sorted(parts, key=lambda part: part.leaf)

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
    InputError: the spec does not fit the weights, or no weight connects two
      stages.
  """
  spec, shapes = target.spec, specs.check(target)
  parts = parts_module.parts_of(spec, shapes)
  if all(part.sender is None for part in parts):
    raise InputError(
      "no weight has a receiving and a sending axis, expected a kernel"
    )
  ranks = _ranks(spec, parts)
  ids = {
    stage: _ids(spec, stage, rank, exchangeable_outputs)
    for stage, rank in ranks.items()
  }
  stages = _vertex_ranges(spec, ranks)
  hidden = [v for stage, v in stages.items() if ranks[stage] == _HIDDEN]
  biases = _place_biases(parts, stages)
  kernels = _ordered(parts, ranks)
  blocks = _place_kernels(kernels, stages)
  return Topology(
    spec=spec,
    shapes=shapes,
    stages=stages,
    biases=biases,
    blocks=blocks,
    ties=_ties(spec, stages),
    senders=np.concatenate([_ends(b)[0] for b in blocks]),
    receivers=np.concatenate([_ends(b)[1] for b in blocks]),
    hidden=slice(hidden[0].start, hidden[-1].stop) if hidden else slice(0, 0),
    vertex_type=_vertex_types([ids[stage] for stage in stages]),
    edge_type=_edge_types(kernels, ids),
    vertex_width=max([bias.slots.stop for bias in biases], default=1),
    edge_width=max(b.width for b in blocks),
    groups=_vertex_groups(spec, stages, len(target.activations)),
    exchangeable_outputs=exchangeable_outputs,
  )


_INPUT, _HIDDEN, _OUTPUT = 0, 1, 2
"""Ranks of stages, in the order of their vertices."""


def _ranks(spec: SymmetrySpec, parts: Sequence[Part]) -> dict[Stage, int]:
  """{stage: rank}. Fixed stages that receive are outputs."""
  receiving = dict.fromkeys(part.receiver for part in parts)
  sending = dict.fromkeys(part.sender for part in parts if part.sender)

  def rank(stage):
    if any(not spec.spaces[name].fixed for name in stage.spaces):
      return _HIDDEN
    return _OUTPUT if stage in receiving else _INPUT

  return {stage: rank(stage) for stage in {**receiving, **sending}}


def _vertex_ranges(
  spec: SymmetrySpec, ranks: dict[Stage, int]
) -> dict[Stage, slice]:
  """{stage: its vertices}, inputs first and outputs last, spaces in order."""
  position = {name: i for i, name in enumerate(spec.spaces)}

  def key(stage):
    last = max([position[name] for name in stage.spaces], default=len(position))
    return ranks[stage], last

  ranges, start = {}, 0
  for stage in sorted(ranks, key=key):
    ranges[stage] = slice(start, start + stage.size)
    start = ranges[stage].stop
  return ranges


class _Ids(NamedTuple):
  """Ids of the vertices of a stage, shared by interchangeable neurons.

  Attributes:
    ids: [n].
    count: number of ids.
  """

  ids: np.ndarray
  count: int


def _ids(
  spec: SymmetrySpec, stage: Stage, rank: int, exchangeable_outputs: bool
) -> _Ids:
  def distinct(name):
    space = spec.spaces[name]
    return not space.permuted or (
      space.fixed and not (rank == _OUTPUT and exchangeable_outputs)
    )

  shape = [
    n if not stage.spaces or distinct(stage.spaces[i]) else 1
    for i, n in enumerate(stage.shape)
  ]
  count = math.prod(shape)
  ids = np.broadcast_to(np.arange(count).reshape(shape), stage.shape)
  return _Ids(ids.ravel(), count)


def _vertex_types(stages: Sequence[_Ids]) -> np.ndarray:
  """[V] int32."""
  types, first = [], 0
  for ids, count in stages:
    types.append(first + ids)
    first += count
  return np.concatenate(types).astype(np.int32)


def _vertex_groups(
  spec: SymmetrySpec, stages: dict[Stage, slice], activations: int
) -> np.ndarray:
  """[A, V] object, the group of each vertex for each activation."""
  groups = [
    np.repeat(
      np.array(
        [[_group(spec, stage, a)] for a in range(activations)], dtype=object
      ).reshape(activations, 1),
      stage.size,
      axis=1,
    )
    for stage in stages
  ]
  return np.concatenate(groups, axis=1)


def _group(spec: SymmetrySpec, stage: Stage, activation: int) -> str:
  """The group whose multipliers have an exponent that is not zero."""
  acting, hidden = set(), False
  for name, powers in zip(stage.spaces, stage.powers, strict=True):
    space = spec.spaces[name]
    if space.fixed:
      continue
    hidden = True
    groups = space.multipliers or (space.groups[activation],) * len(powers)
    for group, power in zip(groups, powers, strict=True):
      if group == "scale" and power or group == "sign" and power % 2:
        acting.add(group)
  if not hidden:
    return ""
  return BOTH if len(acting) > 1 else (*acting, "permutation")[0]


def _place_biases(
  parts: Sequence[Part], stages: dict[Stage, slice]
) -> tuple[Bias, ...]:
  """Biases of one stage have consecutive slots."""
  biases, slots = [], dict.fromkeys(stages, 0)
  for part in parts:
    if part.sender is None:
      stage = part.receiver
      biases.append(Bias(part, stages[stage], slots[stage]))
      slots[stage] += part.width
  return tuple(biases)


def _ordered(
  parts: Sequence[Part], ranks: dict[Stage, int]
) -> list[tuple[Part, Stage]]:
  """Kernels from input to output, into hidden, between hidden, out of hidden.

  The edges into hidden stages are contiguous in this order, and so are the
  edges out of them.

  Returns:
    Parts and their senders.
  """

  def key(kernel):
    part, sender = kernel
    from_hidden = ranks[sender] > _INPUT
    to_output = ranks[part.receiver] == _OUTPUT
    return from_hidden, from_hidden == to_output

  return sorted(((p, p.sender) for p in parts if p.sender), key=key)


def _place_kernels(
  kernels: Sequence[tuple[Part, Stage]], stages: dict[Stage, slice]
) -> tuple[Block, ...]:
  blocks, start = [], 0
  for part, sender in kernels:
    count = math.prod(part.shape[i] for i in part.ends)
    edges = slice(start, start + count)
    start = edges.stop
    blocks.append(Block(part, stages[sender], stages[part.receiver], edges))
  return tuple(blocks)


def _pairs(part: Part, at_sender: Any, at_receiver: Any) -> tuple[Any, Any]:
  """Numbers of the vertices at both ends, for each edge of a part."""
  senders = part.by_group(at_sender, part.senders)[:, :, None]
  receivers = part.by_group(at_receiver, part.receivers)[:, None]
  senders, receivers = np.broadcast_arrays(senders, receivers)
  return senders.ravel(), receivers.ravel()


def _ends(block: Block) -> tuple[np.ndarray, np.ndarray]:
  """(senders, receivers) of the edges of a block, int32."""
  senders, receivers = (
    np.arange(rows.start, rows.stop, dtype=np.int32)
    for rows in (block.senders, block.receivers)
  )
  return _pairs(block.part, senders, receivers)


def _edge_types(
  kernels: Sequence[tuple[Part, Stage]], ids: dict[Stage, _Ids]
) -> np.ndarray:
  """[E] int32."""
  types, first = [], 0
  for part, sender in kernels:
    at_receiver, count = ids[part.receiver]
    senders, receivers = _pairs(part, ids[sender].ids, at_receiver)
    pairs, count = senders * count + receivers, ids[sender].count * count
    if part.shared:
      # Not all pairs of ids are connected.
      used, pairs = np.unique(pairs, return_inverse=True)
      count = len(used)
    types.append(first + pairs)
    first += count
  return np.concatenate(types).astype(np.int32)


def _ties(
  spec: SymmetrySpec, stages: dict[Stage, slice]
) -> tuple[tuple[Tie, ...], ...]:
  """The stages of each hidden space that has several."""
  found: dict[str, list[Tie]] = {}
  for stage, vertices in stages.items():
    for i, name in enumerate(stage.spaces):
      if not spec.spaces[name].fixed:
        sizes = stage.shape[:i], stage.shape[i : i + 1], stage.shape[i + 1 :]
        tie = Tie(vertices, *map(math.prod, sizes))
        found.setdefault(name, []).append(tie)
  return tuple(tuple(ties) for ties in found.values() if len(ties) > 1)
