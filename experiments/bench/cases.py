"""The cases: what is measured, at the sizes of the config.

A case is a function without arguments that returns one row of the results.
Names that end in "_direct" are of a rival: the same computation in the way
that suggests itself, which the case without the ending is compared to.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import floor, growth, measure, pieces
from experiments.bench.measure import Part, Program
from experiments.bench.training import (
  operator_program,
  random_zoo,
  training,
)
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training.step import Objective

Case = Callable[[], dict[str, Any]]


def listing(config: ConfigDict) -> dict[str, Case]:
  """Every case of a config by name, in the order of the table."""
  cases: dict[str, Case] = {}

  def add(name: str, f: Callable, *args) -> None:
    cases[name] = functools.partial(f, config, *args)

  for kind in ("forward", "bidirectional", "mixed"):
    add(f"functional_{kind}", _functional, kind)
  for kind, sizes in (
    ("", config.operator.sizes),
    ("_direct", config.operator.direct),
  ):
    for width, networks in sizes:
      add(f"operator_w{width}_n{networks}{kind}", _operator, width, networks,
          bool(kind))  # fmt: skip
  for networks in config.apply.networks:
    add(f"apply_n{networks}", _apply, networks)
  add("target", pieces.target, config.images.networks, False)
  add("target_direct", pieces.target, config.images.direct, True)
  add("zoo", pieces.zoo)
  add("inr", _inr)
  add("wiring", pieces.wiring, False)
  add("wiring_direct", pieces.wiring, True)
  for axis in growth.AXES:
    add(f"growth_{axis}", growth.curve, axis)
  return cases


def chosen(names: Sequence[str], wanted: str) -> list[str]:
  """The names that a comma-separated list of names or beginnings picks.

  Raises:
    InputError: a word of the list picks none.
  """
  if wanted == "all":
    return list(names)
  words = [word.strip() for word in wanted.split(",")]

  def picks(word, name):
    return name == word or name.startswith(f"{word}_")

  for word in words:
    if not any(picks(word, name) for name in names):
      raise InputError(
        f"config.cases: no case {word!r}, expected all or some of "
        + ", ".join(names)
      )
  return [n for n in names if any(picks(word, n) for word in words)]


def _functional(config: ConfigDict, kind: str) -> dict[str, Any]:
  """A training step of a functional: MSE of one number per network."""
  c = config.functional
  mixed = kind == "mixed"
  target = cnn(
    **config.target, activation=("relu", "tanh") if mixed else "relu"
  )

  def loss(prediction, expected):
    return jnp.square(jax.nn.sigmoid(prediction[0]) - expected)

  return _reading(
    config,
    target,
    loss,
    lambda key: jax.random.uniform(key, (c.networks,)),
    networks=c.networks,
    outputs=1,
    width=c.width,
    depth=c.depth + mixed,
    bidirectional=kind != "forward",
  )


def _inr(config: ConfigDict) -> dict[str, Any]:
  """A training step of a classifier of implicit representations (SIRENs)."""
  c = config.inr
  return _reading(
    config,
    mlp(c.sizes, "sine"),
    optax.softmax_cross_entropy_with_integer_labels,
    lambda key: jax.random.randint(key, (c.networks,), 0, c.classes),
    networks=c.networks,
    outputs=c.classes,
    width=c.width,
    depth=c.depth,
    bidirectional=True,
  )


def _reading(
  config: ConfigDict, target, loss, labels, *, networks, outputs, **model
) -> dict[str, Any]:
  """A training step of a functional, with AdamW."""
  functional = metanetworks.functional(target, outputs=outputs, **model)
  topology = topology_of(target)

  def objective(params, item, shared):
    del shared
    network, label = item
    output = functional.apply(params, network.weights, network.activation)
    value = loss(output, label)
    return value, {"objective": value}

  def data(key):
    k_zoo, k_labels = jax.random.split(key)
    return random_zoo(target, networks, k_zoo), labels(k_labels)

  program = training(
    Objective(draw=lambda key, step, data: (data, ()), loss=objective),
    optax.adamw(1e-3),
    functional.init,
    data,
    networks=networks,
    chunk=build.default_grad_chunk(config.chunk),
    products=floor.metanetwork(topology, outputs=outputs, **model),
    edges=topology.edges,
    width=model["width"],
  )
  row = measure.measure(program, config.runs)
  params = jax.eval_shape(functional.init, jax.random.key(0))
  return row | {"parameters": sum(p.size for p in jax.tree.leaves(params))}


def _operator(
  config: ConfigDict, width: int, networks: int, direct: bool
) -> dict[str, Any]:
  """A training step of an operator through the networks it edits.

  The rival maps one network's loss over all of them, convolutions included.
  """
  target = cnn(**config.target)
  program = operator_program(
    target,
    width=width,
    depth=config.operator.depth,
    networks=networks,
    images=config.operator.images,
    chunk=None if direct else build.default_grad_chunk(config.chunk),
  )
  return pieces.measured(program, config.runs, direct)


def _apply(config: ConfigDict, networks: int) -> dict[str, Any]:
  """One shot: an operator on every network, a batch at a time."""
  c = config.apply
  target = cnn(**config.target)
  operator = metanetworks.operator(target, width=c.width, depth=c.depth)
  k_params, k_zoo = jax.random.split(jax.random.key(config.seed))
  params = jax.jit(operator.init)(k_params)
  zoo = random_zoo(target, networks, k_zoo)

  batch = min(build.default_grad_chunk(c.batch) or networks, networks)

  def apply(batch):
    def run(params, zoo):
      def one(network):
        return operator.apply(params, network.weights, network.activation)

      return measure.mapped(one, zoo, batch)

    return jax.jit(run)

  topology = topology_of(target)
  part = Part(
    run=apply(batch),
    whole=apply(networks),
    args=(params, zoo),
    flops=floor.metanetwork(
      topology, width=c.width, depth=c.depth, bidirectional=True, outputs=None
    )
    .times(networks)
    .forward_flops,
    moved=floor.nbytes(params, zoo.weights, zoo.weights),
  )
  shape = (batch * topology.edges, c.width, c.width)
  return measure.measure(Program(part, None, networks, shape), config.runs)
