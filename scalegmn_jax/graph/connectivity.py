"""Connectivity of one network: maps and sums over the edges of its graph.

The architecture is static. See `graph.batch.connectivity` for batches of
networks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.graph.interface import EdgeFn
from scalegmn_jax.graph.topology import Block, FeatureSizes, Topology


@dataclasses.dataclass(frozen=True)
class NetworkEdges:
  """The edges of some kernels of a graph, an `interface.EdgeSet`.

  A kernel connects every sender with every receiver. Vertex features are
  therefore broadcast along a block of edges, and messages are summed along one
  axis of the block, in an order that is fixed on all devices, unlike the order
  of a scatter-add.

  Attributes:
    topology: the graph.
    blocks: the kernels.
    edge_block: edges computed at a time, None for all. With edge blocks, the
      backward pass recomputes all edge values: memory holds the features and
      the values of one edge block.
    reversed: all edges are reversed.
  """

  topology: Topology
  blocks: tuple[Block, ...]
  edge_block: int | None
  reversed: bool

  def map(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """See `interface.EdgeSet`."""
    edges = self._select(edges)
    if self._fits_edge_block:
      return f(
        self._expand(senders, True), edges, self._expand(receivers, False)
      )

    def one(block):
      return self._on_edge_block(f, senders, block, receivers)[0]

    out = jax.lax.map(jax.checkpoint(one), self._edge_blocks(edges))
    return out.reshape(-1, *out.shape[2:])[: len(edges)]

  def sum(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """See `interface.EdgeSet`."""
    if not self.blocks:
      return jnp.zeros(())
    if self._fits_edge_block:
      return self._sum_at_receivers(self.map(f, senders, edges, receivers))

    def one(block):
      m, receiver = self._on_edge_block(f, senders, block, receivers)
      return jax.ops.segment_sum(m, receiver, self.topology.vertices)

    edge_blocks = self._edge_blocks(self._select(edges))
    shape = jax.eval_shape(one, jax.tree.map(lambda a: a[0], edge_blocks))
    one = jax.checkpoint(one)
    return jax.lax.scan(
      lambda total, block: (total + one(block), None),
      jnp.zeros(shape.shape, shape.dtype),
      edge_blocks,
    )[0]

  @property
  def _fits_edge_block(self) -> bool:
    count = sum(b.edges.stop - b.edges.start for b in self.blocks)
    return self.edge_block is None or count <= self.edge_block

  def _sides(self, block: Block) -> tuple[slice, slice]:
    if self.reversed:
      return block.receivers, block.senders
    return block.senders, block.receivers

  def _select(self, edges: jax.Array) -> jax.Array:
    """[E, d] -> [n, d], the rows of the blocks."""
    runs: list[slice] = []
    for b in self.blocks:
      if runs and runs[-1].stop == b.edges.start:
        runs[-1] = slice(runs[-1].start, b.edges.stop)
      else:
        runs.append(b.edges)
    parts = [edges[run] for run in runs]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

  def _expand(self, features: Any, senders: bool) -> Any:
    """Vertex features at the sender or receiver of each edge: [n, ...]."""

    def expand(x):
      # Split, not sliced: the transpose of a split is one concatenation.
      spaces = self.topology.spaces.values()
      split = jax.lax.split(x, [s.stop - s.start for s in spaces])
      rows_from = {s.start: r for s, r in zip(spaces, split, strict=True)}
      parts = []
      for b in self.blocks:
        # Edges of a block are ordered by the sender of the kernel.
        rows = rows_from[self._sides(b)[0 if senders else 1].start]
        rows = rows[:, None] if senders != self.reversed else rows[None]
        parts.append(jnp.broadcast_to(rows, (*_shape(b), *x.shape[1:])))
      return jnp.concatenate([p.reshape(-1, *x.shape[1:]) for p in parts])

    return jax.tree.map(expand, features)

  def _sum_at_receivers(self, m: jax.Array) -> jax.Array:
    """Sums [n, d] at the receivers: [V, d]."""
    sums: dict[int, jax.Array] = {}
    shapes = [_shape(b) for b in self.blocks]
    split = jax.lax.split(m, [rows * columns for rows, columns in shapes])
    for b, (rows, columns), block in zip(
      self.blocks, shapes, split, strict=True
    ):
      total = block.reshape(rows, columns, -1).sum(1 if self.reversed else 0)
      vertex = self._sides(b)[1].start
      sums[vertex] = sums[vertex] + total if vertex in sums else total
    return jnp.concatenate(
      [
        sums[s.start]
        if s.start in sums
        else jnp.zeros((s.stop - s.start, m.shape[-1]), m.dtype)
        for s in self.topology.spaces.values()
      ]
    )

  def _edge_blocks(self, edges: jax.Array) -> tuple[jax.Array, jax.Array]:
    """([C, size, d], positions [C, size]), padded with zeros at the end."""
    size = self.edge_block or len(edges)
    count = -(-len(edges) // size)
    edges = jnp.pad(edges, ((0, count * size - len(edges)), (0, 0)))
    return (
      edges.reshape(count, size, -1),
      jnp.arange(count * size).reshape(count, size),
    )

  def _on_edge_block(
    self,
    f: EdgeFn,
    senders: Any,
    edge_block: tuple[jax.Array, jax.Array],
    receivers: Any,
  ) -> tuple[jax.Array, jax.Array]:
    """(f on the edges of one edge block, receiver of each edge)."""
    edges, i = edge_block
    # Index arrays of all edges would be constants of the compiled program, so
    # the ends of edge i are computed from the ranges of its kernel.
    shapes = np.array([_shape(b) for b in self.blocks])
    sizes = shapes.prod(1)
    stops = np.cumsum(sizes)
    b = jnp.searchsorted(jnp.asarray(stops), i, side="right")
    b = jnp.minimum(b, len(sizes) - 1)
    row, column = jnp.divmod(
      i - jnp.asarray(stops - sizes)[b], jnp.asarray(shapes[:, 1])[b]
    )
    s = row + jnp.asarray([b.senders.start for b in self.blocks])[b]
    r = column + jnp.asarray([b.receivers.start for b in self.blocks])[b]
    if self.reversed:
      s, r = r, s
    m = f(
      jax.tree.map(lambda a: a[s], senders),
      edges,
      jax.tree.map(lambda a: a[r], receivers),
    )
    # Padding is received at a vertex out of range, which sums drop.
    return m, jnp.where(i < stops[-1], r, self.topology.vertices)


def _shape(block: Block) -> tuple[int, int]:
  """(senders, receivers) of the kernel."""
  return (
    block.senders.stop - block.senders.start,
    block.receivers.stop - block.receivers.start,
  )


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

  def _edges(self, include: Callable[[bool], bool]) -> NetworkEdges:
    """The kernels with include(whether the receivers are hidden)."""
    hidden = self.topology.hidden

    def into_hidden(block):
      receivers = block.senders if self.reversed else block.receivers
      return hidden.start <= receivers.start < hidden.stop

    blocks = tuple(b for b in self.topology.blocks if include(into_hidden(b)))
    return NetworkEdges(self.topology, blocks, self.edge_block, self.reversed)
