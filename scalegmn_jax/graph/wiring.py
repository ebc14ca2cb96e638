"""Following the edges of a graph, from vertices to edges and back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.graph.topology import Topology

Move = Callable[[jax.Array], jax.Array]


class Wiring(NamedTuple):
  """What message passing needs to know of a graph.

  Attributes:
    at_senders: [V, d] -> [E, d], the feature of each edge's sender.
    at_receivers: [V, d] -> [E, d], that of its receiver.
    sum_at_receivers: [E, d] -> [V, d], sums over incoming edges.
    sum_at_senders: [E, d] -> [V, d], sums over outgoing edges.
    hidden: the range of vertices that the group acts on.
    into_hidden: the range of edges whose receivers are hidden.
    out_of_hidden: the range of edges whose senders are hidden.
  """

  at_senders: Move
  at_receivers: Move
  sum_at_receivers: Move
  sum_at_senders: Move
  hidden: slice
  into_hidden: slice
  out_of_hidden: slice

  def reverse(self) -> "Wiring":
    """The same graph with every edge turned round."""
    return Wiring(
      at_senders=self.at_receivers,
      at_receivers=self.at_senders,
      sum_at_receivers=self.sum_at_senders,
      sum_at_senders=self.sum_at_receivers,
      hidden=self.hidden,
      into_hidden=self.out_of_hidden,
      out_of_hidden=self.into_hidden,
    )


def wiring_of(topology: Topology) -> Wiring:
  """Wiring by blocks: a kernel connects every sender with every receiver.

  So a feature is broadcast along a block and messages are summed along one of
  its axes, in an order that is fixed on every device, where a scatter-add is
  not. On CPU it is as fast as gathers and segment sums
  (tests/graph/wiring_benchmark.py).
  """

  def expand(x, senders: bool):
    parts = []
    for b in topology.blocks:
      rows = x[b.senders][:, None] if senders else x[b.receivers][None, :]
      shape = (
        b.senders.stop - b.senders.start,
        b.receivers.stop - b.receivers.start,
        x.shape[-1],
      )
      parts.append(jnp.broadcast_to(rows, shape).reshape(-1, x.shape[-1]))
    return jnp.concatenate(parts)

  def collect(m, senders: bool):
    sums: dict[int, jax.Array] = {}
    for b in topology.blocks:
      shape = (
        b.senders.stop - b.senders.start,
        b.receivers.stop - b.receivers.start,
        m.shape[-1],
      )
      total = m[b.edges].reshape(shape).sum(1 if senders else 0)
      start = (b.senders if senders else b.receivers).start
      sums[start] = sums[start] + total if start in sums else total
    return jnp.concatenate(
      [
        sums[s.start]
        if s.start in sums
        else jnp.zeros((s.stop - s.start, m.shape[-1]), m.dtype)
        for s in topology.spaces.values()
      ]
    )

  return Wiring(
    at_senders=lambda x: expand(x, True),
    at_receivers=lambda x: expand(x, False),
    sum_at_receivers=lambda m: collect(m, False),
    sum_at_senders=lambda m: collect(m, True),
    hidden=topology.hidden,
    into_hidden=topology.into_hidden,
    out_of_hidden=topology.out_of_hidden,
  )
