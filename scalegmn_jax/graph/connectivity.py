"""Connectivity of one network: maps and sums over the edges of its graph.

The architecture is static. See `graph.batch.connectivity` for batches of
networks.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.graph.interface import EdgeFn
from scalegmn_jax.graph.topology import Block, FeatureSizes, Topology

_CPU_WHOLE, _CPU_BLOCK = 1 << 22, 1 << 18
_ACCELERATOR_BLOCK = 1 << 26


def default_edge_block(edges: int, width: int) -> int | None:
  """Edges that are computed at a time, None for all of a graph.

  On a CPU, blocks of a megabyte per feature array stay in the cache. They take
  half of the time for graphs of 5 million edges, and compile longer, so that
  graphs of at most 16 MiB per array are computed as a whole. On an accelerator
  blocks only save memory, above 256 MiB per array.

  Args:
    edges: E, of the graph.
    width: features per edge.
  """
  whole, block = _ACCELERATOR_BLOCK, _ACCELERATOR_BLOCK
  if jax.default_backend() == "cpu":
    whole, block = _CPU_WHOLE, _CPU_BLOCK
  return None if edges * width <= whole else max(1, block // width)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByKernel:
  """Features of the edges of a graph, an array [n, ...] for each kernel.

  In one array, the edges of a kernel would be copied whenever they are read.

  Attributes:
    parts: in the order of the kernels.
  """

  parts: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class NetworkEdges:
  """The edges of some kernels of a graph, an `interface.EdgeSet`.

  A kernel connects every sender with every receiver. Vertex features are
  therefore broadcast along a block of edges, and messages are summed along one
  axis of the block, in an order that is fixed on all devices, unlike the order
  of a scatter-add. A block of groups of neurons has an axis over groups before
  the two others.

  Attributes:
    topology: the graph.
    blocks: the kernels.
    edge_block: edges computed at a time, at least those of one neuron of a
      kernel; None for all. With edge blocks, `map` returns `ByKernel`, values
      between the operations on an edge are never all in memory, and the
      backward pass computes them again.
    reversed: all edges are reversed.
  """

  topology: Topology
  blocks: tuple[Block, ...]
  edge_block: int | None
  reversed: bool

  def map(self, f: EdgeFn, senders: Any, edges: Any, receivers: Any) -> Any:
    """See `interface.EdgeSet`."""
    if self._fits_edge_block:
      return f(
        self._expand(senders, True),
        self._select(edges),
        self._expand(receivers, False),
      )
    parts = [
      self._on_kernel(b, f, senders, edges, receivers, summed=False)
      for b in self.blocks
    ]
    return jax.tree.map(lambda *parts: ByKernel(parts), *parts)

  def sum(
    self, f: EdgeFn, senders: Any, edges: Any, receivers: Any
  ) -> jax.Array:
    """See `interface.EdgeSet`."""
    if not self.blocks:
      return jnp.zeros(())
    if self._fits_edge_block:
      return self._sum_at_receivers(self.map(f, senders, edges, receivers))
    return self._join(
      [
        self._on_kernel(b, f, senders, edges, receivers, summed=True)
        for b in self.blocks
      ]
    )

  @property
  def _fits_edge_block(self) -> bool:
    count = sum(b.edges.stop - b.edges.start for b in self.blocks)
    return self.edge_block is None or count <= self.edge_block

  def _sides(self, block: Block) -> tuple[slice, slice]:
    if self.reversed:
      return block.receivers, block.senders
    return block.senders, block.receivers

  def _select(self, edges: Any) -> Any:
    """[E, ...] -> [n, ...], the rows of the blocks."""
    runs: list[slice] = []
    for b in self.blocks:
      if runs and runs[-1].stop == b.edges.start:
        runs[-1] = slice(runs[-1].start, b.edges.stop)
      else:
        runs.append(b.edges)

    def select(x):
      if isinstance(x, ByKernel):
        chosen = {b.edges.start for b in self.blocks}
        every = zip(self.topology.blocks, x.parts, strict=True)
        parts = [part for b, part in every if b.edges.start in chosen]
      else:
        parts = [x[run] for run in runs]
      return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    return jax.tree.map(
      select, edges, is_leaf=lambda x: isinstance(x, ByKernel)
    )

  def _expand(self, features: Any, senders: bool) -> Any:
    """Vertex features at the sender or receiver of each edge: [n, ...]."""

    def expand(x):
      rows_from = _by_stage(self.topology, x)
      parts = []
      for b in self.blocks:
        # Edges of a block are ordered by the sender of the kernel.
        rows = rows_from[self._sides(b)[0 if senders else 1].start]
        first = senders != self.reversed  # the sending axis of the kernel
        if b.part.shared:
          axes = b.part.senders if first else b.part.receivers
          rows = b.part.by_group(rows, axes)
          shape = len(rows), *_shape(b)
          rows = rows[:, :, None] if first else rows[:, None]
        else:
          shape = _shape(b)
          rows = rows[:, None] if first else rows[None]
        parts.append(jnp.broadcast_to(rows, (*shape, *x.shape[1:])))
      return jnp.concatenate([p.reshape(-1, *x.shape[1:]) for p in parts])

    return jax.tree.map(expand, features)

  def _sum_at_receivers(self, m: jax.Array) -> jax.Array:
    """Sums [n, d] at the receivers: [V, d]."""
    split = jax.lax.split(m, [_size(b.edges) for b in self.blocks])
    return self._join(
      [self._total(b, m) for b, m in zip(self.blocks, split, strict=True)]
    )

  def _total(self, block: Block, m: jax.Array) -> jax.Array:
    """Sums of [n, d] on the edges of a block at its receivers."""
    part, axis = block.part, 1 if self.reversed else 0
    if part.diagonal:
      return m
    if not part.shared:
      return m.reshape(*_shape(block), -1).sum(axis)
    groups = m.reshape(-1, *_shape(block), m.shape[-1]).sum(1 + axis)
    axes = part.senders if self.reversed else part.receivers
    return part.from_groups(groups, axes)

  def _join(self, totals: Sequence[jax.Array]) -> jax.Array:
    """Sums at the receivers of each block as sums at all vertices: [V, d]."""
    sums: dict[int, jax.Array] = {}
    for b, total in zip(self.blocks, totals, strict=True):
      vertex = self._sides(b)[1].start
      sums[vertex] = sums[vertex] + total if vertex in sums else total
    some = totals[0]
    return jnp.concatenate(
      [
        sums[s.start]
        if s.start in sums
        else jnp.zeros((s.stop - s.start, some.shape[-1]), some.dtype)
        for s in self.topology.stages.values()
      ]
    )

  def _on_kernel(
    self,
    block: Block,
    f: EdgeFn,
    senders: Any,
    edges: Any,
    receivers: Any,
    *,
    summed: bool,
  ) -> Any:
    """f on the edges of one kernel, a few of its rows at a time.

    Rows are the senders of the kernel and columns its receivers, also where
    the graph is reversed.

    Returns:
      [n, ...] for the n edges, or summed at the receivers of the graph.
    """
    assert self.edge_block is not None
    if block.part.shared:
      # Few edges per vertex: as many as its group has neurons.
      whole = dataclasses.replace(self, blocks=(block,), edge_block=None)
      m = whole.map(f, senders, edges, receivers)
      return self._total(block, m) if summed else m
    rows, columns = _shape(block)
    size = _rows_at_a_time(rows, self.edge_block // columns)
    of_rows, of_columns = senders, receivers
    if self.reversed:
      of_rows, of_columns = receivers, senders
    of_rows = jax.tree.map(lambda x: x[block.senders], of_rows)
    of_columns = jax.tree.map(lambda x: x[block.receivers], of_columns)
    edges = dataclasses.replace(self, blocks=(block,))._select(edges)
    edges = jax.tree.map(
      lambda x: x.reshape(rows, columns, *x.shape[1:]), edges
    )

    @jax.checkpoint
    def on_rows(of_rows, edges):
      """(summed over the rows or None, results for each row or None)."""
      shape = jax.tree.leaves(edges)[0].shape[:2]

      def expand(x):
        return jnp.broadcast_to(x, (*shape, *x.shape[2:])).reshape(
          -1, *x.shape[2:]
        )

      ends = (
        jax.tree.map(lambda x: expand(x[:, None]), of_rows),
        jax.tree.map(lambda x: expand(x[None]), of_columns),
      )
      senders, receivers = ends[::-1] if self.reversed else ends
      edges = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), edges)
      m = f(senders, edges, receivers)
      m = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), m)
      if not summed:
        return None, m
      return (None, m.sum(1)) if self.reversed else (m.sum(0), None)

    def in_turn(rows):
      """`on_rows` of a multiple of `size` rows."""
      parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
      zero = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(on_rows, *jax.tree.map(lambda x: x[0], parts))[0],
      )

      def step(total, part):
        addend, results = on_rows(*part)
        return jax.tree.map(jnp.add, total, addend), results

      total, results = jax.lax.scan(step, zero, parts)
      return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    whole, of_all = rows // size * size, (of_rows, edges)
    if size == rows:
      total, results = on_rows(*of_all)
    else:
      total, results = in_turn(jax.tree.map(lambda x: x[:whole], of_all))
      if whole < rows:
        more = on_rows(*jax.tree.map(lambda x: x[whole:], of_all))
        total = jax.tree.map(jnp.add, total, more[0])
        results = jax.tree.map(lambda *x: jnp.concatenate(x), results, more[1])
    if not summed:
      return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)
    return results if self.reversed else total


def _rows_at_a_time(rows: int, most: int) -> int:
  """The number of rows of an edge block, about `most`.

  Rows that remain need a program of their own, so a divisor is taken if there
  is one that is not much smaller.
  """
  most = min(max(most, 1), rows)
  divisors = (n for n in range(most, most // 2, -1) if rows % n == 0)
  return next(divisors, most)


def _shape(block: Block) -> tuple[int, int]:
  """(senders, receivers) of the kernel, those of one group."""
  groups = math.prod(block.part.shape[i] for i in block.part.shared)
  return _size(block.senders) // groups, _size(block.receivers) // groups


def _size(rows: slice) -> int:
  return rows.stop - rows.start


def _by_stage(topology: Topology, x: jax.Array) -> dict[int, jax.Array]:
  """{first vertex of a stage: the rows of its vertices}."""
  # Split, not sliced: the transpose of a split is one concatenation.
  ranges = topology.stages.values()
  split = jax.lax.split(x, [_size(rows) for rows in ranges])
  return {rows.start: part for rows, part in zip(ranges, split, strict=True)}


@dataclasses.dataclass(frozen=True)
class NetworkConnectivity:
  """The `interface.Connectivity` of one network.

  Attributes:
    topology: the graph.
    edge_block: see `NetworkEdges`.
    reversed: all edges are reversed.
  """

  topology: Topology
  edge_block: int | None = None
  reversed: bool = False

  def reverse(self) -> "NetworkConnectivity":
    return dataclasses.replace(self, reversed=not self.reversed)

  @property
  def features(self) -> FeatureSizes:
    return self.topology.features

  @property
  def vertex_type(self) -> np.ndarray:
    return self.topology.vertex_type

  @property
  def edge_type(self) -> np.ndarray:
    return self.topology.edge_type

  @property
  def hidden(self) -> slice:
    return self.topology.hidden

  @property
  def all_edges(self) -> NetworkEdges:
    return self._edges(lambda hidden: True)

  @property
  def into_hidden(self) -> NetworkEdges:
    return self._edges(lambda hidden: hidden)

  @property
  def into_fixed(self) -> NetworkEdges:
    return self._edges(lambda hidden: not hidden)

  def mean_hidden(self, y: jax.Array) -> jax.Array:
    return y.mean(0)

  def by_position(self, x: jax.Array) -> jax.Array:
    before, after = x[: self.hidden.start], x[self.hidden.stop :]
    if self.topology.exchangeable_outputs:
      after = after.mean(0)
    return jnp.concatenate([before.ravel(), after.ravel()])

  def tied(self, u: jax.Array) -> jax.Array | None:
    topology = self.topology
    if not topology.ties:
      return None
    rows = _by_stage(topology, u)
    totals = {start: jnp.zeros_like(part) for start, part in rows.items()}
    for ties in topology.ties:
      means = [
        rows[tie.vertices.start]
        .reshape(tie.before, tie.size, tie.after, -1)
        .mean((0, 2), keepdims=True)
        for tie in ties
      ]
      mean = sum(means) / len(means)
      for tie in ties:
        shape = (tie.before, tie.size, tie.after, u.shape[-1])
        part = jnp.broadcast_to(mean, shape).reshape(-1, u.shape[-1])
        totals[tie.vertices.start] += part
    return jnp.concatenate(list(totals.values()))

  def _edges(self, include: Callable[[bool], bool]) -> NetworkEdges:
    """The kernels with include(whether the receivers are hidden)."""

    def into_hidden(block):
      receivers = block.senders if self.reversed else block.receivers
      return self.topology.is_hidden(receivers)

    blocks = tuple(b for b in self.topology.blocks if include(into_hidden(b)))
    return NetworkEdges(self.topology, blocks, self.edge_block, self.reversed)
