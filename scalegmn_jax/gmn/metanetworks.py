"""Operators and functionals: pairs of pure functions."""

from typing import Any

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Functional, InputError, Operator, TargetNetwork
from scalegmn_jax.gmn import features as readings
from scalegmn_jax.gmn import modules
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.topology import Topology, topology_of


def _reader(
  target: TargetNetwork,
  symmetry: str,
  backward: str | readings.Backward,
  edge_block: int | None,
  classes: int = 0,
):
  """(wiring, (weights, activation) -> Reading)."""
  carried = readings.resolve_backward(symmetry, backward)
  topology = topology_of(target, exchangeable_outputs=classes > 0)
  if symmetry == "permutation":
    topology = topology.permutation_only()
  if edge_block is not None and edge_block < 1:
    raise InputError(f"model.edge_block is {edge_block}, expected at least 1")
  wiring = NetworkConnectivity(topology, edge_block)

  def read(weights, activation):
    return readings.featurize(wiring, weights, activation, carried)

  return wiring, read


def _ones(topology: Topology) -> Any:
  """Weights of the right shapes: parameters depend on no others."""
  return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), topology.shapes)


def operator(
  target: TargetNetwork,
  *,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
  edge_block: int | None = None,
  step: float = 0.01,
  prototypes: int = 0,
  classes: int = 0,
  probes: int = 128,
  class_combinations: bool = False,
) -> Operator:
  """A ScaleGMN that writes networks: θ' = θ + Δ(θ), equivariant.

  Args:
    target: the architecture.
    width: features per vertex and edge.
    depth: message passing layers; 0 for none.
    bidirectional: messages also pass from outputs to inputs ("-B").
    symmetry: "target" for the groups of the target's activations, or
      "permutation" for a model that is equivariant to nothing else.
    backward: the edge feature of backward messages under positive scaling:
      "carrier", "inverse", or a function (see `reading.Backward`).
    edge_block: edges computed at a time, None for all: for target networks so
      large that what is kept for the backward pass would not fit.
    step: initial size of the update.
    prototypes: networks that it learns to write in place of the one it reads,
      see `modules.Prototypes`; 0 for an operator that only updates. They have
      the weights of the target each, and so has φ then.
    classes: of the images, for networks that answer for them at outputs of
      their own (see `base.Zoo`): the operator is equivariant to the order of
      outputs as well, and prototypes have an output for each class, see
      `modules.Classes`. 0: what an output means is its position.
    probes: inputs by whose outputs it knows the classes, where there are any.
      They begin as noise; as images, which is far better, with
      `beginning.from_data`.
    class_combinations: networks have some of the classes, or several at one output,
      and what prototypes write depends on which. φ then has the weights of the
      target once more for every class and every two of them.

  Raises:
    InputError: no such symmetry or backward edge, no edges in a chunk, fewer
      than no layers, prototypes or classes, no probes, combinations of fewer
      than two classes.
  """
  for name, value, least in (
    ("depth", depth, 0),
    ("prototypes", prototypes, 0),
    ("classes", classes, 0),
    ("probes", probes, 1),
  ):
    if value < least:
      raise InputError(f"model.{name} is {value}, expected at least {least}")
  if class_combinations and classes < 2:
    raise InputError(
      f"model.class_combinations of model.classes {classes}, expected at least 2"
    )
  wiring, read = _reader(target, symmetry, backward, edge_block, classes)
  body = modules.Body(width, depth, bidirectional, True)
  learned = None
  if prototypes:
    learned = modules.Prototypes(
      prototypes,
      modules.ClassReader(
        target.apply, target.input_shape, classes, probes, class_combinations
      )
      if classes
      else None,
    )
  module: Any = modules.Operator(body, step, learned)

  def init(key):
    ones = _ones(wiring.topology)
    return module.init(key, wiring, read(ones, 0), ones, 0)["params"]

  def apply(params, weights, activation: jax.Array | int = 0):
    reading = read(weights, activation)
    updates = module.apply(
      {"params": params}, wiring, reading, weights, activation
    )
    return jax.tree.map(jnp.add, weights, updates)

  return Operator(init, apply)


def functional(
  target: TargetNetwork,
  *,
  outputs: int = 1,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
  edge_block: int | None = None,
) -> Functional:
  """A ScaleGMN that reads networks: θ -> [outputs], invariant.

  The arguments are those of `operator`.
  """
  wiring, read = _reader(target, symmetry, backward, edge_block)
  body = modules.Body(width, depth, bidirectional, False)
  module: Any = modules.Functional(body, outputs)

  def init(key):
    return module.init(key, wiring, read(_ones(wiring.topology), 0))["params"]

  def apply(params, weights, activation: jax.Array | int = 0):
    reading = read(weights, activation)
    return module.apply({"params": params}, wiring, reading)

  return Functional(init, apply)
