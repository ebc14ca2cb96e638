"""Conversion of weights to graph features and back, exact inverses."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jraph

from scalegmn_jax.base import Weights
from scalegmn_jax.graph.connectivity import ByKernel
from scalegmn_jax.graph.topology import Topology


def to_graph(topology: Topology, weights: Weights) -> jraph.GraphsTuple:
  """The graph of one network.

  Args:
    topology: the graph of the architecture.
    weights: of the network.

  Returns:
    A graph with nodes [V, vertex_width], the biases (b → q b; 0 for vertices
    without a bias), and edges [E, edge_width], the kernels flattened over
    their spatial axes (W → q_i W / q_j; padded with 0).
  """
  leaves = jax.tree.leaves(weights)
  dtype = leaves[0].dtype
  nodes = jnp.zeros((topology.vertices, topology.vertex_width), dtype)
  for bias in topology.biases:
    nodes = nodes.at[bias.vertices, bias.slot].set(leaves[bias.leaf])
  edges = []
  for block in topology.blocks:
    kernel = jnp.moveaxis(
      leaves[block.leaf], (block.sender_axis, block.receiver_axis), (0, 1)
    ).reshape(-1, block.width)
    padding = topology.edge_width - block.width
    edges.append(jnp.pad(kernel, ((0, 0), (0, padding))))
  return jraph.GraphsTuple(
    nodes=nodes,
    edges=jnp.concatenate(edges),
    senders=jnp.asarray(topology.senders),
    receivers=jnp.asarray(topology.receivers),
    globals=None,
    n_node=jnp.array([topology.vertices]),
    n_edge=jnp.array([topology.edges]),
  )


def to_weights(topology: Topology, graph: jraph.GraphsTuple) -> Weights:
  """The weights of a graph: inverse of `to_graph`.

  Features of vertices without a bias, and padding, are ignored.
  """
  shapes, structure = jax.tree.flatten(topology.shapes)
  leaves: list[Any] = [None] * len(shapes)
  nodes: Any = graph.nodes
  edges: Any = graph.edges
  for bias in topology.biases:
    leaves[bias.leaf] = nodes[bias.vertices, bias.slot]
  for i, block in enumerate(topology.blocks):
    shape = shapes[block.leaf].shape
    axes = (block.sender_axis, block.receiver_axis)
    spatial = [n for i, n in enumerate(shape) if i not in axes]
    joined = not isinstance(edges, ByKernel)
    kernel = edges[block.edges] if joined else edges.parts[i]
    kernel = kernel[:, : block.width].reshape(
      shape[axes[0]], shape[axes[1]], *spatial
    )
    leaves[block.leaf] = jnp.moveaxis(kernel, (0, 1), axes)
  return jax.tree.unflatten(structure, leaves)


def vertex_vector(
  topology: Topology, by_space: Mapping[str, jax.Array]
) -> jax.Array:
  """Concatenates {space: [n]} to one vector over vertices, [V]."""
  return jnp.concatenate([by_space[name] for name in topology.spaces])
