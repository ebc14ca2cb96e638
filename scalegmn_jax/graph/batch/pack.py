"""Batches of networks of several architectures: one graph of bounded shapes.

`jraph.batch` puts graphs side by side and `jraph.pad_with_graphs` adds a
disconnected padding graph, so that few shapes are compiled. Both run on the
host. `pack` then sorts the rows by their use in layers: hidden vertices before
inputs and outputs, and edges by the kinds of their ends. The ranges of rows
that a layer uses are therefore static, as in the graph of one network, and no
row is computed twice and selected.

Letters: V vertices, E edges and G graphs of a batch, padding included.
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
  """Numbers of rows of each kind, in the order of the rows of a batch.

  Attributes:
    hidden: hidden vertices.
    fixed: input and output vertices.
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
    """V, the number of vertices."""
    return self.hidden + self.fixed

  @property
  def edges(self) -> int:
    """E, the number of edges."""
    return self.direct + self.into + self.between + self.out_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GraphBatch:
  """Networks side by side.

  Attributes:
    graph: nodes {"bias": [V, b] → q b, "size": [V, 1] → q s, "scale" and
      "sign": [V, 1] bool, whether positive multipliers or signs act on the
      vertex, "type": [V] int32, "graph": [V] int32, index of the network};
      edges {"kernel": [E, k] → q_i e / q_j, "type": [E] int32}; globals: the
      values of each network, "activation", [G] int32, an index into the
      activations of the schema, and "real", [G] bool, false for padding.
      Rows are in the order of `sections`, not graph by graph.
    sections: numbers of rows of each kind; static.
    schema: ids and slots; static.
  """

  graph: jraph.GraphsTuple
  sections: SectionSizes = dataclasses.field(metadata={"static": True})
  schema: TypeSchema = dataclasses.field(metadata={"static": True})


def vertex_section(architecture: ArchitectureGraph) -> np.ndarray:
  """[V], the section of each vertex: 0 hidden, 1 fixed."""
  return (architecture.kind != 1).astype(np.int32)


def edge_section(architecture: ArchitectureGraph) -> np.ndarray:
  """[E], the section of each edge, counted from `direct`."""
  topology = architecture.topology
  sender, receiver = (
    architecture.kind[ends] == 1
    for ends in (topology.senders, topology.receivers)
  )
  section = np.where(sender, np.where(receiver, 2, 3), np.where(receiver, 1, 0))
  return section.astype(np.int32)


def sections_of(architecture: ArchitectureGraph) -> SectionSizes:
  """Numbers of rows of one network."""
  return SectionSizes(
    *np.bincount(vertex_section(architecture), minlength=2).tolist(),
    *np.bincount(edge_section(architecture), minlength=4).tolist(),
  )


def graph_of(
  architecture: ArchitectureGraph,
  schema: TypeSchema,
  leaves: Sequence[np.ndarray],
  sizes: np.ndarray,
  activation: int,
  values: Any,
) -> jraph.GraphsTuple:
  """The graph of one network for `pack`, on the host.

  Args:
    architecture: the architecture of the network.
    schema: the ids and slots of the batch.
    leaves: the leaves of the weights.
    sizes: [V], see `graph.sizes`.
    activation: index into the activations of the architecture.
    values: a pytree of arrays that the batch holds in `globals`.
  """
  topology = architecture.topology
  groups = topology.groups[activation][:, None]
  name = architecture.target.activations[activation]
  return _on_host(
    nodes={
      "bias": architecture.biases(leaves, schema.biases),
      "size": sizes[:, None],
      "scale": groups == "scale",
      "sign": groups == "sign",
      "type": architecture.vertex_type(schema),
      "section": vertex_section(architecture),
    },
    edges={
      "kernel": architecture.kernels(leaves, schema.window),
      "type": architecture.edge_type(schema),
      "section": edge_section(architecture),
    },
    senders=topology.senders,
    receivers=topology.receivers,
    globals={
      "real": np.ones(1, bool),
      "activation": np.array([schema.activations.index(name)], np.int32),
      **jax.tree.map(lambda a: np.asarray(a)[None], values),
    },
    n_node=np.array([topology.vertices], np.int32),
    n_edge=np.array([topology.edges], np.int32),
  )


def _on_host(**arrays: Any) -> jraph.GraphsTuple:
  """A graph of numpy arrays, which the type annotations of jraph exclude."""
  return jraph.GraphsTuple(**arrays)


def pack(
  graphs: Sequence[jraph.GraphsTuple],
  schema: TypeSchema,
  sections: SectionSizes,
  size: int,
) -> GraphBatch:
  """Graphs side by side, padded, on the host.

  Args:
    graphs: results of `graph_of`, at most `size`.
    schema: the schema of the graphs.
    sections: numbers of rows of the batch: of each kind at least as many as the
      graphs have, and one more hidden vertex, the end of padding edges.
    size: G - 1, the number of networks.
  """
  batch = jraph.batch_np(graphs)
  padded: Any = jraph.pad_with_graphs(
    batch, sections.vertices, sections.edges, size + 1
  )
  nodes, edges = dict(padded.nodes), dict(padded.edges)
  of_vertex = _pad_sections(nodes.pop("section"), batch.n_node, sections[:2])
  of_edge = _pad_sections(edges.pop("section"), batch.n_edge, sections[2:])
  nodes["graph"] = np.repeat(np.arange(size + 1, dtype=np.int32), padded.n_node)
  vertices = np.argsort(of_vertex, kind="stable")
  order = np.argsort(of_edge, kind="stable")
  position = np.empty(len(vertices), np.int32)
  position[vertices] = np.arange(len(vertices), dtype=np.int32)
  return GraphBatch(
    padded._replace(
      nodes={name: a[vertices] for name, a in nodes.items()},
      edges={name: a[order] for name, a in edges.items()},
      senders=position[padded.senders[order]],
      receivers=position[padded.receivers[order]],
    ),
    sections,
    schema,
  )


def _pad_sections(
  sections: np.ndarray, counts: Any, sizes: Sequence[int]
) -> np.ndarray:
  """The section of each row, padding rows included.

  Args:
    sections: the sections of the rows of graphs; values for padding rows are
      ignored.
    counts: rows of each graph.
    sizes: rows of each section in the batch.
  """
  real = sections[: int(np.sum(counts))]
  missing = np.array(sizes) - np.bincount(real, minlength=len(sizes))
  padding = np.repeat(np.arange(len(sizes), dtype=sections.dtype), missing)
  return np.concatenate([real, padding])


def blank_batch(schema: TypeSchema) -> GraphBatch:
  """The smallest batch, which consists of padding only."""
  sections = SectionSizes(1, 1, 1, 1, 1, 1)
  vertices, edges = sections.vertices, sections.edges
  features = schema.features
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
  return GraphBatch(graph, sections, schema)
