"""What the layers know of a graph: a `GraphWiring`.

`wiring` has that of one network, `packed` that of a batch.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax

from scalegmn_jax.graph.topology import FeatureSizes

EdgeFn = Callable[[Any, jax.Array, Any], jax.Array]
"""(features of the sender, of the edge, of the receiver), a row per edge each,
-> [rows, d]. It acts on every edge by itself."""


class EdgeSet(Protocol):
  """Some of the edges of a graph, n of E."""

  def map(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """f on every edge: [n, d].

    Args:
      f: see `OnEdges`.
      senders: a pytree of [V, ...], read at the sender of each edge.
      edges: [E, d], of all edges of the graph.
      receivers: a pytree of [V, ...], read at the receiver.
    """
    ...

  def sum(
    self, f: EdgeFn, senders: Any, edges: jax.Array, receivers: Any
  ) -> jax.Array:
    """f on every edge, summed at receivers: [V, d], [] without edges."""
    ...


class Connectivity(Protocol):
  """What the layers know of a graph of V vertices and E edges.

  It is that of one network, or of a batch of networks side by side that no
  edge connects. Then what is of one network, here "[...]", has an axis over
  networks before it.
  """

  @property
  def features(self) -> FeatureSizes:
    """How many ids and features there are."""
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
    """The range of vertices that a group acts on, H of V."""
    ...

  @property
  def every(self) -> EdgeSet: ...

  @property
  def into_hidden(self) -> EdgeSet:
    """The edges whose receivers are hidden."""
    ...

  @property
  def into_fixed(self) -> EdgeSet:
    """The edges whose receivers are inputs or outputs."""
    ...

  def reverse(self) -> "Connectivity":
    """The same graph with every edge turned round."""
    ...

  def mean_hidden(self, y: jax.Array) -> jax.Array:
    """Rows [H, d] of the hidden vertices -> their mean, [..., d]."""
    ...

  def by_position(self, x: jax.Array) -> jax.Array:
    """[V, d] -> [..., F d], the rows of inputs and outputs in their order."""
    ...
