"""Following the edges of a graph, from vertices to edges and back.

That of one network, whose architecture is static; that of a batch is in
`packed`.
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
  """Some of the kernels of a graph, and how to compute on their edges.

  A kernel connects every sender with every receiver. So a feature of vertices
  is broadcast along a block of edges, and messages are summed along one axis of
  it, in an order that is fixed on every device where a scatter-add is not.

  Attributes:
    topology: the graph.
    blocks: the kernels.
    chunk: edges computed at a time, None for all. In chunks nothing is kept
      for the backward pass, which computes them again: memory is that of the
      features and of one chunk.
    reversed: every edge is turned round.
  """

  topology: Topology
  blocks: tuple[Block, ...]
  chunk: int | None
  reversed: bool

  def map(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """See `interface.GraphEdges`."""
    edges = self._own(edges)
    if self._at_once:
      return f(self._at(senders, True), edges, self._at(receivers, False))

    def one(chunk):
      return self._on_chunk(f, senders, chunk, receivers)[0]

    out = jax.lax.map(jax.checkpoint(one), self._chunks(edges))
    return out.reshape(-1, *out.shape[2:])[: len(edges)]

  def sum(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """See `interface.GraphEdges`."""
    if not self.blocks:
      return jnp.zeros(())
    if self._at_once:
      return self._collect(self.map(f, senders, edges, receivers))

    def one(chunk):
      m, at = self._on_chunk(f, senders, chunk, receivers)
      return jax.ops.segment_sum(m, at, self.topology.vertices)

    chunks = self._chunks(self._own(edges))
    shape = jax.eval_shape(one, jax.tree.map(lambda a: a[0], chunks))
    one = jax.checkpoint(one)
    return jax.lax.scan(
      lambda total, chunk: (total + one(chunk), None),
      jnp.zeros(shape.shape, shape.dtype),
      chunks,
    )[0]

  @property
  def _at_once(self) -> bool:
    count = sum(b.edges.stop - b.edges.start for b in self.blocks)
    return self.chunk is None or count <= self.chunk

  def _sides(self, block: Block) -> tuple[slice, slice]:
    if self.reversed:
      return block.receivers, block.senders
    return block.senders, block.receivers

  def _own(self, edges: jax.Array) -> jax.Array:
    """The rows of the blocks."""
    runs: list[slice] = []
    for b in self.blocks:
      if runs and runs[-1].stop == b.edges.start:
        runs[-1] = slice(runs[-1].start, b.edges.stop)
      else:
        runs.append(b.edges)
    parts = [edges[run] for run in runs]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

  def _at(self, features: Any, senders: bool) -> Any:
    """Features of vertices at one end of every edge."""

    def expand(x):
      parts = []
      for b in self.blocks:
        # Edges are ordered by sender of the kernel.
        rows = x[self._sides(b)[0 if senders else 1]]
        rows = rows[:, None] if senders != self.reversed else rows[None]
        parts.append(jnp.broadcast_to(rows, (*_shape(b), *x.shape[1:])))
      return jnp.concatenate([p.reshape(-1, *x.shape[1:]) for p in parts])

    return jax.tree.map(expand, features)

  def _collect(self, m: jax.Array) -> jax.Array:
    """[n, d] summed at the receivers: [V, d]."""
    sums: dict[int, jax.Array] = {}
    start = 0
    for b in self.blocks:
      rows, columns = _shape(b)
      block = m[start : start + rows * columns]
      start += rows * columns
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

  def _chunks(self, edges: jax.Array) -> tuple[jax.Array, jax.Array]:
    """([C, size, d], positions [C, size]), padded with zeros at the end."""
    size = self.chunk or len(edges)
    count = -(-len(edges) // size)
    edges = jnp.pad(edges, ((0, count * size - len(edges)), (0, 0)))
    return (
      edges.reshape(count, size, -1),
      jnp.arange(count * size).reshape(count, size),
    )

  def _on_chunk(self, f: EdgeFn, senders: Any, chunk, receivers: Any):
    """(f on the edges of a chunk, the vertex each is received at)."""
    edges, i = chunk
    # Index arrays of all edges would be constants of the compiled program; so
    # the ends of edge i are computed from those of its block.
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
    # The padding is received at a vertex that is not there.
    return m, jnp.where(i < stops[-1], r, self.topology.vertices)


def _shape(block: Block) -> tuple[int, int]:
  """(senders, receivers) of the kernel."""
  return (
    block.senders.stop - block.senders.start,
    block.receivers.stop - block.receivers.start,
  )


@dataclasses.dataclass(frozen=True)
class NetworkConnectivity:
  """The `interface.GraphWiring` of one network.

  Attributes:
    topology: the graph.
    chunk: see `Edges`.
    reversed: every edge is turned round.
  """

  topology: Topology
  chunk: int | None = None
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
  def every(self) -> NetworkEdges:
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

  def _edges(self, chosen: Callable[[bool], bool]) -> NetworkEdges:
    hidden = self.topology.hidden

    def wanted(block):
      receivers = block.senders if self.reversed else block.receivers
      return chosen(hidden.start <= receivers.start < hidden.stop)

    blocks = tuple(b for b in self.topology.blocks if wanted(b))
    return NetworkEdges(self.topology, blocks, self.chunk, self.reversed)
