"""Features of one network or of a batch, and their canonical maps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph

from scalegmn_jax.base import InputError, Weights
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.batch.connectivity import BatchConnectivity
from scalegmn_jax.graph.batch.pack import GraphBatch
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.interface import Connectivity
from scalegmn_jax.graph.sizes import vertex_sizes
from scalegmn_jax.graph.topology import BOTH, Topology
from scalegmn_jax.symmetry import canonical
from scalegmn_jax.symmetry.canonical import Canonical

Backward = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(e [E, k], s_j [E, 1], s_i [E, 1]) -> features [E, k] that carry q_j / q_i,
from e → q_i e / q_j and the sizes s → q s of senders j and receivers i."""

Groups = tuple[jax.Array, jax.Array]
"""([V, 1], [V, 1]) bool: the vertices that positive multipliers act on, and
the vertices that signs act on."""


def carrier(e: jax.Array, s_sender: jax.Array, s_receiver: jax.Array):
  """e (s_j / s_i)²: bounded by the sizes of the vertices, zero where e is."""
  # Multiplied by the ratio twice: its square can be out of range where the
  # product is not, since weight decay can bring sizes down to 1e-33.
  ratio = s_sender * canonical.inverse(s_receiver)
  return e * ratio * ratio


def vector_inverse(e: jax.Array, s_sender: jax.Array, s_receiver: jax.Array):
  """e / ‖e‖², 0 where e is 0; grows without bound as e becomes small."""
  del s_sender, s_receiver
  return canonical.unit(e) * canonical.inverse_norm(e)


SYMMETRIES = ("target", "permutation")
BACKWARD: dict[str, Backward] = {"carrier": carrier, "inverse": vector_inverse}


def resolve_backward(backward: str | Backward) -> Backward:
  """A backward edge feature as a function.

  Args:
    backward: a key of `BACKWARD`, or a function.

  Raises:
    InputError: no such key.
  """
  if not isinstance(backward, str):
    return backward
  if backward not in BACKWARD:
    raise InputError(
      f"backward is {backward!r}, expected one of {', '.join(BACKWARD)}"
    )
  return BACKWARD[backward]


class GraphFeatures(NamedTuple):
  """The input of the layers: a graph whose features carry multipliers.

  Attributes:
    graph: nodes [V, b] → q b, edges [E, k] → q_i e / q_j.
    backward_edges: [E, k] → q_j e / q_i.
    sizes: [V, 1] → |q| s, see `graph.sizes`; 1 where no multiplier acts,
      0 for neurons without any weight.
    canonical: rows of `groups` -> the canonical map of vectors in those rows.
    groups: see `Groups`.
  """

  graph: jraph.GraphsTuple
  backward_edges: jax.Array
  sizes: jax.Array
  canonical: Callable[[Groups], Canonical]
  groups: Groups

  @property
  def scaled(self) -> jax.Array:
    """[V, 1] bool, the vertices that positive multipliers act on."""
    return self.groups[0]

  @property
  def sized(self) -> jax.Array:
    """[V, 1] bool, the vertices whose sizes carry their multipliers."""
    return self.groups[0] & ~self.groups[1]

  @property
  def additive(self) -> jax.Array:
    """[V, 1] bool, the vertices on which no multiplier acts."""
    return ~(self.groups[0] | self.groups[1])

  def hidden(self, connectivity: Connectivity) -> Canonical:
    """The canonical map of vectors at the hidden vertices."""
    rows = connectivity.hidden
    return self.canonical(jax.tree.map(lambda mask: mask[rows], self.groups))


def _groups(topology: Topology, activation) -> tuple[Groups, str | None]:
  """(masks of vertices, the group of all hidden vertices or None)."""
  groups = topology.groups[:, topology.hidden]
  names = set(groups.ravel()) or {"permutation"}
  scale, sign = (
    jnp.asarray(topology.acted_on(name))[activation][:, None]
    for name in ("scale", "sign")
  )
  return (scale, sign), names.pop() if len(names) == 1 else None


_CANONICAL: dict[str, Canonical] = {
  "permutation": canonical.permutation,
  "scale": canonical.scale,
  "sign": canonical.sign,
  BOTH: canonical.scale_and_sign,
}
"""The canonical map of each group."""


def graph_features(
  connectivity: Connectivity,
  graph: jraph.GraphsTuple,
  sizes: jax.Array,
  groups: Groups,
  group: str | None,
  backward: Backward = carrier,
) -> GraphFeatures:
  """Completes the features of a graph.

  Args:
    connectivity: of the graph.
    graph: nodes [V, b] → q b, edges [E, k] → q_i e / q_j.
    sizes: [V, 1] → q s.
    groups: see `Groups`.
    group: the group of all hidden vertices, None if they have several.
    backward: see `Backward`.
  """
  scale, sign = groups
  sizes = jnp.where(scale | sign, sizes, 1)

  def invert(senders, e, receivers):
    """Inverts an edge if either end is scaled; 1 and signs are their own
    inverse."""
    (s, s_scaled), (r, r_scaled) = senders, receivers
    return jnp.where(s_scaled | r_scaled, backward(e, s, r), e)

  edges: Any = graph.edges
  if group in (None, "scale", BOTH):
    ends = (sizes, scale)
    inverted = connectivity.all_edges.map(invert, ends, edges, ends)
  else:
    inverted = edges

  def canonical_map(rows):
    return canonical.mixed(*rows) if group is None else _CANONICAL[group]

  return GraphFeatures(
    graph=graph,
    backward_edges=inverted,
    sizes=sizes,
    canonical=canonical_map,
    groups=groups,
  )


def featurize(
  connectivity: NetworkConnectivity,
  weights: Weights,
  activation: jax.Array | int = 0,
  backward: Backward = carrier,
  compressed: Weights | None = None,
) -> GraphFeatures:
  """Features of one network, under the groups of its activation.

  Args:
    connectivity: of the graph.
    weights: of the network, θ → gθ.
    activation: index of its activation.
    backward: see `Backward`.
    compressed: the network with other kernels, θ̂ → gθ̂. What a kernel has lost,
      W - Ŵ → q_i (W - Ŵ) / q_j, is then a second set of edge features.
  """
  topology = connectivity.topology
  groups, group = _groups(topology, activation)
  # A neuron without weights does not determine its q. With size 0 all of its
  # features are 0, and its weights stay as they are.
  sizes = vertex_sizes(topology, weights, isolated=0.0)[:, None]
  graph = convert.to_graph(topology, weights)
  if compressed is not None:
    lost = jax.tree.map(jnp.subtract, weights, compressed)
    edges: Any = [graph.edges, convert.to_graph(topology, lost).edges]
    graph = graph._replace(edges=jnp.concatenate(edges, axis=-1))
  return graph_features(connectivity, graph, sizes, groups, group, backward)


def featurize_batch(
  batch: GraphBatch, *, symmetry: str = "target", backward: Backward = carrier
) -> tuple[BatchConnectivity, GraphFeatures]:
  """Features of a batch of networks of several architectures.

  Args:
    batch: see `graph.batch.pack`.
    symmetry: "target", or "permutation" for a model on whose features no
      multiplier acts.
    backward: see `Backward`.
  """
  nodes: Any = batch.graph.nodes
  edges: Any = batch.graph.edges
  connectivity = BatchConnectivity(batch)
  group, groups = batch.schema.group, (nodes["scale"], nodes["sign"])
  if symmetry == "permutation":
    group, groups = "permutation", jax.tree.map(jnp.zeros_like, groups)
  graph = batch.graph._replace(nodes=nodes["bias"], edges=edges["kernel"])
  return connectivity, graph_features(
    connectivity, graph, nodes["size"], groups, group, backward
  )
