"""Connectivity of a batch of networks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from scalegmn_jax.graph.batch.pack import GraphBatch
from scalegmn_jax.graph.interface import EdgeFn
from scalegmn_jax.graph.topology import FeatureSizes


@dataclasses.dataclass(frozen=True)
class BatchEdges:
  """Edges of a batch by the vertices at their ends, an `interface.EdgeSet`.

  Sums are scatters, in the order of the edges on a CPU and in no fixed order on
  accelerators.

  Attributes:
    senders, receivers: [E], the ends of all edges of the batch.
    rows: the ranges of edges that belong to this set.
    vertices: V.
  """

  senders: jax.Array
  receivers: jax.Array
  rows: tuple[slice, ...]
  vertices: int

  def map(self, f: EdgeFn, senders: Any, edges: Any, receivers: Any) -> Any:
    """See `interface.EdgeSet`."""
    return f(
      _take(senders, self._select(self.senders)),
      jax.tree.map(self._select, edges),
      _take(receivers, self._select(self.receivers)),
    )

  def sum(
    self, f: EdgeFn, senders: Any, edges: Any, receivers: Any
  ) -> jax.Array:
    """See `interface.EdgeSet`."""
    if not self.rows:
      return jnp.zeros(())
    return jraph.segment_sum(
      self.map(f, senders, edges, receivers),
      self._select(self.receivers),
      self.vertices,
    )

  def _select(self, x: jax.Array) -> jax.Array:
    """[E, ...] -> [n, ...], the rows of this set."""
    parts = [x[rows] for rows in self.rows]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _take(features: Any, vertices: jax.Array) -> Any:
  return jax.tree.map(
    lambda x: x.at[vertices].get(mode="promise_in_bounds"), features
  )


@dataclasses.dataclass(frozen=True)
class BatchConnectivity:
  """The `interface.Connectivity` of a batch, padding included.

  Attributes:
    batch: the networks.
    reversed: all edges are reversed.
  """

  batch: GraphBatch
  reversed: bool = False

  def reverse(self) -> "BatchConnectivity":
    return dataclasses.replace(self, reversed=not self.reversed)

  @property
  def features(self) -> FeatureSizes:
    return self.batch.schema.features

  @property
  def vertex_type(self) -> jax.Array:
    return self._nodes["type"]

  @property
  def edge_type(self) -> jax.Array:
    edges: Any = self.batch.graph.edges
    return edges["type"]

  @property
  def hidden(self) -> slice:
    return slice(0, self.batch.sections.hidden)

  @property
  def all_edges(self) -> BatchEdges:
    return self._edges(0, 1, 2, 3)

  @property
  def into_hidden(self) -> BatchEdges:
    return self._edges(2, 3) if self.reversed else self._edges(1, 2)

  @property
  def into_fixed(self) -> BatchEdges:
    return self._edges(0, 1) if self.reversed else self._edges(0, 3)

  def mean_hidden(self, y: jax.Array) -> jax.Array:
    graph = self._nodes["graph"][self.hidden]
    return jraph.segment_mean(y, graph, self._graphs)

  def tied(self, u: jax.Array) -> jax.Array | None:
    del u  # see `schema.architecture_graph`: every neuron is one vertex

  def by_position(self, x: jax.Array) -> jax.Array:
    schema, fixed = self.batch.schema, self.batch.sections.hidden
    types = self._nodes["type"][fixed:]
    # The ids of outputs follow the ids of hidden vertices.
    position = jnp.where(types < schema.inputs, types, types - schema.depth)
    count = schema.inputs + schema.outputs
    rows = jraph.segment_sum(
      x[fixed:],
      self._nodes["graph"][fixed:] * count + position,
      self._graphs * count,
    )
    return rows.reshape(self._graphs, -1)

  @property
  def _nodes(self) -> Any:
    return self.batch.graph.nodes

  @property
  def _graphs(self) -> int:
    return self.batch.graph.n_node.shape[0]

  def _edges(self, *sections: int) -> BatchEdges:
    """The edges of these sections, indices from `direct`, ascending."""
    stops = np.cumsum(self.batch.sections[2:]).tolist()
    rows: list[slice] = []
    for section in sections:
      start, stop = [0, *stops][section], stops[section]
      if rows and rows[-1].stop == start:
        rows[-1] = slice(rows[-1].start, stop)
      elif stop > start:
        rows.append(slice(start, stop))
    graph: Any = self.batch.graph
    senders, receivers = graph.senders, graph.receivers
    if self.reversed:
      senders, receivers = receivers, senders
    return BatchEdges(
      senders, receivers, tuple(rows), self.batch.sections.vertices
    )
