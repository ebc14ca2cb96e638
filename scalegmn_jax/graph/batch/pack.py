"""Batches of networks of several architectures: one graph of bounded shapes.

`jraph.batch` puts graphs side by side and `jraph.pad_with_graphs` fills the
result up with a graph that nothing connects to them, so that few shapes have to
be compiled. Both are functions of the host. Here their rows are sorted after
that by what the layers do with them: hidden vertices before inputs and outputs,
and edges by the kinds of their ends. So the layers' ranges of rows are static,
as in the graph of one network, and no row is computed twice and selected.

Letters: V vertices, E edges and G graphs of a batch, the padding among them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from scalegmn_jax.graph.batch.schema import ArchitectureGraph, TypeSchema


class SectionSizes(NamedTuple):
  """Rows by kind, in the order in which a batch has them.

  Attributes:
    hidden, fixed: vertices.
    direct: edges from inputs to outputs.
    into: edges from inputs or outputs to hidden vertices.
    between: edges between hidden vertices.
    out_of: edges from hidden vertices to outputs.
  """

  hidden: int
  fixed: int
  direct: int
  into: int
  between: int
  out_of: int

  @property
  def vertices(self) -> int:
    return self.hidden + self.fixed

  @property
  def edges(self) -> int:
    return self.direct + self.into + self.between + self.out_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GraphBatch:
  """Networks side by side.

  Attributes:
    graph: nodes {"bias": [V, b] → q b, "size": [V, 1] → q s, "scale" and
      "sign": [V, 1] bool, the vertices that positive multipliers and that signs
      act on, "type": [V] int32, "graph": [V] int32, the network of each};
      edges {"kernel": [E, k] → q_i e / q_j, "type": [E] int32}; globals: what
      was given with each network, "activation", [G] int32, its index
      in the vocabulary, and "real", [G] bool, false for padding.
      Rows are in the order of `sections`, not graph by graph.
    sections: how many rows of each kind; static.
    vocabulary: of ids and slots; static.
  """

  graph: jraph.GraphsTuple
  sections: SectionSizes = dataclasses.field(metadata={"static": True})
  vocabulary: TypeSchema = dataclasses.field(metadata={"static": True})


def vertex_section(architecture: ArchitectureGraph) -> np.ndarray:
  """[V], the position in `Sections` of each vertex."""
  return (architecture.kind != 1).astype(np.int32)


def edge_section(architecture: ArchitectureGraph) -> np.ndarray:
  """[E], likewise of each edge, counted from `direct`."""
  topology = architecture.topology
  sender, receiver = (
    architecture.kind[ends] == 1
    for ends in (topology.senders, topology.receivers)
  )
  section = np.where(sender, np.where(receiver, 2, 3), np.where(receiver, 1, 0))
  return section.astype(np.int32)


def sections_of(architecture: ArchitectureGraph) -> SectionSizes:
  """Those of one network."""
  return SectionSizes(
    *np.bincount(vertex_section(architecture), minlength=2).tolist(),
    *np.bincount(edge_section(architecture), minlength=4).tolist(),
  )


def graph_of(
  architecture: ArchitectureGraph,
  vocabulary: TypeSchema,
  leaves: Sequence[np.ndarray],
  sizes: np.ndarray,
  activation: int,
  values: Any,
) -> jraph.GraphsTuple:
  """The graph of one network as `pack` takes it, on the host.

  Args:
    architecture: of the network.
    vocabulary: of the batch.
    leaves: its weights.
    sizes: [V], see `gauge.vertex_sizes`.
    activation: its index among those of the architecture.
    values: a pytree of arrays, what the batch is to hold of it in `globals`.
  """
  topology = architecture.topology
  groups = topology.groups[activation][:, None]
  name = architecture.target.activations[activation]
  return _on_host(
    nodes={
      "bias": architecture.biases(leaves, vocabulary.biases),
      "size": sizes[:, None],
      "scale": groups == "scale",
      "sign": groups == "sign",
      "type": architecture.vertex_type(vocabulary),
      "section": vertex_section(architecture),
    },
    edges={
      "kernel": architecture.kernels(leaves, vocabulary.window),
      "type": architecture.edge_type(vocabulary),
      "section": edge_section(architecture),
    },
    senders=topology.senders,
    receivers=topology.receivers,
    globals={
      "real": np.ones(1, bool),
      "activation": np.array([vocabulary.activations.index(name)], np.int32),
      **jax.tree.map(lambda a: np.asarray(a)[None], values),
    },
    n_node=np.array([topology.vertices], np.int32),
    n_edge=np.array([topology.edges], np.int32),
  )


def _on_host(**arrays: Any) -> jraph.GraphsTuple:
  """A graph of numpy's arrays, which jraph's types do not know of."""
  return jraph.GraphsTuple(**arrays)


def pack(
  graphs: Sequence[jraph.GraphsTuple],
  vocabulary: TypeSchema,
  sections: SectionSizes,
  networks: int,
) -> GraphBatch:
  """Graphs side by side, padded, on the host.

  Args:
    graphs: of `graph_of`, at most `networks`.
    vocabulary: with which they were made.
    sections: the rows of the batch. Of each kind as many as the graphs have, or
      more, and one more hidden vertex, which padding edges lead to.
    networks: G - 1.
  """
  batch = jraph.batch_np(graphs)
  padded: Any = jraph.pad_with_graphs(
    batch, sections.vertices, sections.edges, networks + 1
  )
  nodes, edges = dict(padded.nodes), dict(padded.edges)
  of_vertex = _filled(nodes.pop("section"), batch.n_node, sections[:2])
  of_edge = _filled(edges.pop("section"), batch.n_edge, sections[2:])
  nodes["graph"] = np.repeat(
    np.arange(networks + 1, dtype=np.int32), padded.n_node
  )
  vertices = np.argsort(of_vertex, kind="stable")
  order = np.argsort(of_edge, kind="stable")
  place = np.empty(len(vertices), np.int32)
  place[vertices] = np.arange(len(vertices), dtype=np.int32)
  return GraphBatch(
    padded._replace(
      nodes={name: a[vertices] for name, a in nodes.items()},
      edges={name: a[order] for name, a in edges.items()},
      senders=place[padded.senders[order]],
      receivers=place[padded.receivers[order]],
    ),
    sections,
    vocabulary,
  )


def _filled(
  found: np.ndarray, counts: Any, wanted: Sequence[int]
) -> np.ndarray:
  """The section of each row.

  Args:
    found: those of the rows of graphs, and anything for those of padding.
    counts: rows of each graph.
    wanted: rows of each section.
  """
  real = found[: int(np.sum(counts))]
  missing = np.array(wanted) - np.bincount(real, minlength=len(wanted))
  padding = np.repeat(np.arange(len(wanted), dtype=found.dtype), missing)
  return np.concatenate([real, padding])


def blank_batch(vocabulary: TypeSchema) -> GraphBatch:
  """A batch of padding alone, as small as can be."""
  sections = SectionSizes(1, 1, 1, 1, 1, 1)
  vertices, edges = sections.vertices, sections.edges
  features = vocabulary.features
  at_vertex = jnp.zeros((vertices, 1))
  ends = jnp.zeros(edges, jnp.int32)
  graph = jraph.GraphsTuple(
    nodes={
      "bias": jnp.zeros((vertices, features.vertex_width)),
      "size": at_vertex,
      "scale": at_vertex > 0,
      "sign": at_vertex > 0,
      "type": jnp.zeros(vertices, jnp.int32),
      "graph": jnp.zeros(vertices, jnp.int32),
    },
    edges={
      "kernel": jnp.zeros((edges, features.edge_width)),
      "type": ends,
    },
    senders=ends,
    receivers=ends,
    globals={
      "real": jnp.zeros(1, bool),
      "activation": jnp.zeros(1, jnp.int32),
    },
    n_node=jnp.array([vertices]),
    n_edge=jnp.array([edges]),
  )
  return GraphBatch(graph, sections, vocabulary)
