"""How one network is read: its features, and what of them is invariant."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph

from scalegmn_jax.base import Weights
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.topology import Topology
from scalegmn_jax.graph.wiring import Wiring
from scalegmn_jax.symmetry import canonical, gauge
from scalegmn_jax.symmetry.canonical import Canonical

Backward = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(e [E, k], s_j [E, 1], s_i [E, 1]) -> features [E, k] that carry q_j / q_i,
from e → q_i e / q_j and the sizes s → q s of senders j and receivers i."""


def carrier(e: jax.Array, s_sender: jax.Array, s_receiver: jax.Array):
  """e (s_j / s_i)²: bounded by the sizes of the vertices, zero where e is."""
  # Twice by the ratio, since its square can be out of range where the product
  # is not: neurons that weight decay drove down have sizes near 1e-33.
  ratio = s_sender * canonical.inverse(s_receiver)
  return e * ratio * ratio


def vector_inverse(e: jax.Array, s_sender: jax.Array, s_receiver: jax.Array):
  """e / ‖e‖², 0 where e is 0; grows without bound as e becomes small."""
  del s_sender, s_receiver
  size = canonical.norm(e)[..., None]
  return canonical.unit(e) / jnp.where(size > 0, size, 1)


BACKWARD: dict[str, Backward] = {"carrier": carrier, "inverse": vector_inverse}


class Reading(NamedTuple):
  """One network as the layers see it.

  Attributes:
    graph: nodes [V, b] → q b, edges [E, k] → q_i e / q_j.
    backward_edges: [E, k] → q_j e / q_i.
    sizes: [V, 1] → q s, see `gauge.vertex_sizes`; 1 where no multiplier acts,
      0 for neurons without any weight.
    scaled: [V, 1] bool, vertices that positive multipliers act on.
    additive: [V, 1] bool, vertices on which no multiplier acts.
    hidden, into_hidden, out_of_hidden: the canonical maps of vectors at
      hidden vertices, at edges into them and at edges out of them.
  """

  graph: jraph.GraphsTuple
  backward_edges: jax.Array
  sizes: jax.Array
  scaled: jax.Array
  additive: jax.Array
  hidden: Canonical
  into_hidden: Canonical
  out_of_hidden: Canonical


def _group_masks(topology: Topology, activation):
  """({group: [V, 1] bool}, the group of all hidden vertices or None)."""
  groups = topology.groups[:, topology.hidden]
  names = set(groups.ravel()) or {"permutation"}
  masks = {
    name: jnp.asarray(topology.groups == name)[activation][:, None]
    for name in ("scale", "sign")
  }
  return masks, names.pop() if len(names) == 1 else None


def read_network(
  topology: Topology,
  wiring: Wiring,
  weights: Weights,
  activation: jax.Array | int = 0,
  backward: Backward = carrier,
) -> Reading:
  """Reads the weights of one network under the groups of its activation."""
  graph = convert.to_graph(topology, weights)
  # Nothing of a neuron without weights tells its q. Its size is 0 here, so all
  # its features are, and it is left alone.
  sizes = convert.vertex_vector(
    topology, gauge.vertex_sizes(topology.spec, weights, isolated=0.0)
  )[:, None]
  masks, group = _group_masks(topology, activation)
  acted_on = masks["scale"] | masks["sign"]
  sizes = jnp.where(acted_on, sizes, 1)
  s, t = wiring.at_senders(sizes), wiring.at_receivers(sizes)
  edges: Any = graph.edges
  if group is None or group == "scale":
    inverted = backward(edges, s, t)
    if group is None:
      # Signs are their own inverse, so the edge itself carries q_j / q_i. An
      # edge is inverted where either end is scaled; 1 is its own inverse too.
      ends = wiring.at_senders(masks["scale"])
      ends = ends | wiring.at_receivers(masks["scale"])
      inverted = jnp.where(ends, inverted, edges)
  else:
    inverted = edges

  def at(positions):
    if group is not None:
      return getattr(canonical, group)
    return canonical.mixed(
      positions(masks["scale"]), positions(masks["sign"])
    )

  return Reading(
    graph=graph,
    backward_edges=inverted,
    sizes=sizes,
    scaled=masks["scale"],
    additive=~acted_on,
    hidden=at(lambda m: m[wiring.hidden]),
    into_hidden=at(lambda m: wiring.at_receivers(m)[wiring.into_hidden]),
    out_of_hidden=at(lambda m: wiring.at_senders(m)[wiring.out_of_hidden]),
  )
