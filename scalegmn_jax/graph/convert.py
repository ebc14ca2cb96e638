"""Weights and the graph: conversion to features and back, and scaling."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jraph

from scalegmn_jax.base import Weights
from scalegmn_jax.graph.connectivity import ByKernel
from scalegmn_jax.graph.parts import Stage
from scalegmn_jax.graph.topology import Topology


def to_graph(topology: Topology, weights: Weights) -> jraph.GraphsTuple:
  """The graph of one network.

  Args:
    topology: the graph of the architecture.
    weights: of the network.

  Returns:
    A graph with nodes [V, vertex_width], the biases (b → q b; 0 for vertices
    without a bias), and edges [E, edge_width], the kernels flattened over
    their spatial axes (W → q_i W / q_j; padded with 0), and weights per neuron
    on edges from stage to stage.
  """
  leaves = jax.tree.leaves(weights)
  dtype = leaves[0].dtype
  nodes = jnp.zeros((topology.vertices, topology.vertex_width), dtype)
  for bias in topology.biases:
    part = bias.part
    rows = part.rows(part.take(leaves[part.leaf]), part.ends)
    nodes = nodes.at[bias.vertices, bias.slots].set(rows)
  edges = []
  for block in topology.blocks:
    part = block.part
    rows = part.rows(part.take(leaves[part.leaf]), part.ends)
    padding = topology.edge_width - block.width
    edges.append(jnp.pad(rows, ((0, 0), (0, padding))))
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

  def write(part, rows):
    leaves[part.leaf] = part.put(leaves[part.leaf], rows)

  for bias in topology.biases:
    write(bias.part, nodes[bias.vertices, bias.slots])
  for i, block in enumerate(topology.blocks):
    joined = not isinstance(edges, ByKernel)
    rows = edges[block.edges] if joined else edges.parts[i]
    write(block.part, rows[:, : block.width])
  return jax.tree.unflatten(
    structure,
    [
      leaf.reshape(shape.shape)
      for leaf, shape in zip(leaves, shapes, strict=True)
    ],
  )


def scale(
  topology: Topology,
  weights: Weights,
  receiving: Mapping[Stage, jax.Array],
  sending: Mapping[Stage, jax.Array],
) -> Weights:
  """Multiplies weights by numbers of the vertices at their ends.

  With q and 1/q it is the action of multipliers, W → q_i W / q_j.

  Args:
    topology: the graph of the architecture.
    weights: of one network.
    receiving: {stage: [n]}, factors of what its vertices receive; stages that
      are absent have the factor 1.
    sending: {stage: [n]}, factors of what its vertices send.
  """
  leaves, structure = jax.tree.flatten(weights)
  scaled: list[Any] = [None] * len(leaves)
  for part in topology.parts:
    block = part.take(leaves[part.leaf])
    if part.receiver in receiving:
      block = block * part.along(receiving[part.receiver], part.receivers)
    if part.sender is not None and part.sender in sending:
      block = block * part.along(sending[part.sender], part.senders)
    scaled[part.leaf] = part.put_block(scaled[part.leaf], block)
  return jax.tree.unflatten(
    structure,
    [new.reshape(old.shape) for new, old in zip(scaled, leaves, strict=True)],
  )
