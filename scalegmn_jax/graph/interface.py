"""The interface between layers and graphs.

`graph.connectivity` implements it for one network, `graph.batch.connectivity`
for a batch of networks.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax

from scalegmn_jax.graph.topology import FeatureSizes

EdgeFn = Callable[[Any, Any, Any], Any]
"""(sender, edge and receiver features, one row per edge) -> [rows, d], or a
pytree of such arrays. The function acts on each edge separately."""


class EdgeSet(Protocol):
  """Some of the edges of a graph, n of E."""

  def map(self, f: EdgeFn, senders: Any, edges: Any, receivers: Any) -> Any:
    """f on each edge: [n, d], or `connectivity.ByKernel` for a large graph.

    Args:
      f: see `EdgeFn`.
      senders: a pytree of [V, ...], gathered at the sender of each edge.
      edges: a pytree of [E, d], features of all edges of the graph, or of what
        `map` of all edges has returned.
      receivers: a pytree of [V, ...], gathered at the receiver.
    """
    ...

  def sum(
    self, f: EdgeFn, senders: Any, edges: Any, receivers: Any
  ) -> jax.Array:
    """f, of one array, on each edge, summed at receivers: [V, d]; [] without
    edges."""
    ...


class Connectivity(Protocol):
  """A graph of V vertices and E edges, as layers use it.

  The graph holds one network, or a batch of networks that no edge connects. For
  a batch, results of one network, here "[..., d]", have an axis over networks.
  """

  @property
  def features(self) -> FeatureSizes:
    """Numbers of ids and features."""
    ...

  @property
  def vertex_type(self) -> Any:
    """[V] int32, an id per vertex."""
    ...

  @property
  def edge_type(self) -> Any:
    """[E] int32, an id per edge."""
    ...

  @property
  def hidden(self) -> slice:
    """The H vertices that a group acts on."""
    ...

  @property
  def all_edges(self) -> EdgeSet:
    """All edges."""
    ...

  @property
  def into_hidden(self) -> EdgeSet:
    """The edges whose receivers are hidden."""
    ...

  @property
  def into_fixed(self) -> EdgeSet:
    """The edges whose receivers are inputs or outputs."""
    ...

  def reverse(self) -> "Connectivity":
    """The same graph with all edges reversed."""
    ...

  def mean_hidden(self, y: jax.Array) -> jax.Array:
    """Mean of the rows [H, d] of the hidden vertices: [..., d]."""
    ...

  def tied(self, u: jax.Array) -> jax.Array | None:
    """Means over all vertices of the same neuron: [V, d] invariant features
    give [V, d]. None if every neuron is one vertex."""
    ...

  def by_position(self, x: jax.Array) -> jax.Array:
    """[V, d] -> [..., F d], the rows of F inputs and outputs in order."""
    ...
