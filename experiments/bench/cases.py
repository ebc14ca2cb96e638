"""The cases of the bench, at the sizes of the config.

Some cases have a baseline: the same computation in the most direct way, such as
`lax.conv` under `vmap`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import (
  first_calls,
  floor,
  growth,
  measure,
  pieces,
  sharding,
)
from experiments.bench.measure import Part, Program, vmap_size_of
from experiments.bench.training import (
  operator_program,
  random_networks,
  training,
)
from scalegmn_jax import batched
from scalegmn_jax.base import InputError, Network, Params, TargetNetwork
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training.step import Objective


class Case(NamedTuple):
  """A computation that is measured.

  Attributes:
    run: measures it and returns a row of the results.
    baseline_of: name of the case that this case is a baseline of, or None.
    devices: devices per process, if the processor is the only one.
    processes: processes that measure the case together.
  """

  run: Callable[[], dict[str, Any]]
  baseline_of: str | None = None
  devices: int = 1
  processes: int = 1


def list_cases(config: ConfigDict) -> dict[str, Case]:
  """{name: case}, in the order of the table."""
  cases: dict[str, Case] = {}

  def add(name: str, f: Callable, *args, devices=1, processes=1) -> None:
    run = functools.partial(f, config, *args)
    cases[name] = Case(run, devices=devices, processes=processes)

  def add_direct(name: str, f: Callable, *args) -> None:
    case = Case(functools.partial(f, config, *args), baseline_of=name)
    cases[f"{name}_direct"] = case

  for kind in ("forward", "bidirectional", "mixed"):
    add(f"functional_{kind}", _step, functools.partial(_functional, kind=kind))
  for add_case, sizes in (
    (add, config.operator.sizes),
    (add_direct, config.operator.direct),
  ):
    for width, networks in sizes:
      add_case(f"operator_w{width}_n{networks}", _operator, width, networks,
               add_case is add_direct)  # fmt: skip
  for networks in config.apply.networks:
    add(f"apply_n{networks}", _apply, networks)
  add("target", pieces.target, config.images.networks, False)
  add_direct("target", pieces.target, config.images.direct, True)
  add("zoo", pieces.zoo)
  add("inr", _step, _inr)
  add("connectivity", pieces.connectivity, False)
  add_direct("connectivity", pieces.connectivity, True)
  for axis in growth.AXES:
    add(f"growth_{axis}", growth.curve, axis)
  forward = functools.partial(_functional, kind="forward")
  counts = config.devices.counts
  add("devices", sharding.devices, forward, devices=max(counts))
  add("processes", sharding.processes, forward, devices=2, processes=2)
  add("hosts", sharding.hosts, devices=2)
  add("compile", first_calls.first_calls)
  return cases


def select(names: Sequence[str], selection: str) -> list[str]:
  """The names that a comma-separated list of names or prefixes selects.

  Args:
    names: names of cases, words joined by underscores.
    selection: "all", or names and prefixes of whole words.

  Raises:
    InputError: an item of the list selects no case.
  """
  if selection == "all":
    return list(names)
  prefixes = [prefix.strip() for prefix in selection.split(",")]

  def matches(prefix, name):
    return name == prefix or name.startswith(f"{prefix}_")

  for prefix in prefixes:
    if not any(matches(prefix, name) for name in names):
      raise InputError(
        f"config.cases: no case {prefix!r}, expected all or some of "
        + ", ".join(names)
      )
  return [n for n in names if any(matches(p, n) for p in prefixes)]


def _step(
  config: ConfigDict, program_of: Callable[[ConfigDict], Program]
) -> dict[str, Any]:
  """Training step of a functional."""
  program = program_of(config)
  params = jax.tree.leaves(program.step.args[0].params)
  row = measure.measure(program, config.runs)
  return row | {"parameters": sum(p.size for p in params)}


def _functional(config: ConfigDict, kind: str) -> Program:
  """Training step of a functional with one output: MSE."""
  c = config.functional
  mixed = kind == "mixed"
  target = cnn(
    **config.target, activation=("relu", "tanh") if mixed else "relu"
  )

  def loss(prediction, expected):
    return jnp.square(jax.nn.sigmoid(prediction[0]) - expected)

  return _functional_program(
    config,
    target,
    loss,
    lambda key: jax.random.uniform(key, (c.networks,)),
    networks=c.networks,
    outputs=1,
    width=c.width,
    depth=c.depth + mixed,
    bidirectional=kind != "forward",
    dtype=c.dtype,
  )


def _inr(config: ConfigDict) -> Program:
  """Training step of a classifier of SIRENs."""
  c = config.inr
  return _functional_program(
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


def _functional_program(
  config: ConfigDict,
  target: TargetNetwork,
  loss: Callable[[jax.Array, jax.Array], jax.Array],
  labels: Callable[[jax.Array], jax.Array],
  *,
  networks: int,
  outputs: int,
  dtype: str = "float32",
  **model: Any,
) -> Program:
  """Training step of a functional with AdamW."""
  functional = metanetworks.functional(
    target, outputs=outputs, dtype=dtype, **model
  )
  topology = topology_of(target)

  def objective(params, item, shared):
    del shared
    network, label = item
    output = functional.apply(params, network.weights, network.activation)
    value = loss(output, label)
    return value, {"objective": value}

  def data(key):
    k_networks, k_labels = jax.random.split(key)
    return random_networks(target, networks, k_networks), labels(k_labels)

  return training(
    Objective(draw=lambda key, step, data: (data, ()), loss=objective),
    optax.adamw(1e-3),
    functional.init,
    data,
    networks=networks,
    grad_chunk=build.default_grad_chunk(config.grad_chunk),
    products=floor.metanetwork(topology, outputs=outputs, **model),
    edges=topology.edges,
    width=model["width"],
  )


def _operator(
  config: ConfigDict, width: int, networks: int, direct: bool
) -> dict[str, Any]:
  """Training step of an operator through the networks it edits.

  The baseline maps the loss of one network over all of them, including the
  convolutions.
  """
  target = cnn(**config.target)
  program = operator_program(
    target,
    width=width,
    depth=config.operator.depth,
    networks=networks,
    images=config.operator.images,
    grad_chunk=None if direct else build.default_grad_chunk(config.grad_chunk),
  )
  return pieces.measured(program, config.runs, direct)


def _apply(config: ConfigDict, networks: int) -> dict[str, Any]:
  """An operator applied to networks, one batch at a time."""
  c = config.apply
  target = cnn(**config.target)
  operator = metanetworks.operator(target, width=c.width, depth=c.depth)
  k_params, k_networks = jax.random.split(jax.random.key(config.seed))
  params = operator.init(k_params)
  inputs = random_networks(target, networks, k_networks)

  batch = min(build.default_grad_chunk(c.batch) or networks, networks)

  def apply(batch):
    def run(params, inputs):
      def edit(network: Network, params: Params):
        return operator.apply(params, network.weights, network.activation)

      return batched.map_networks(
        edit, inputs, shared=(params,), vmap_size=vmap_size_of(batch, networks)
      )

    return jax.jit(run)

  topology = topology_of(target)
  part = Part(
    run=apply(batch),
    whole=apply(networks),
    args=(params, inputs),
    flops=floor.metanetwork(
      topology, width=c.width, depth=c.depth, bidirectional=True, outputs=None
    )
    .times(networks)
    .forward_flops,
    moved=floor.nbytes(params, inputs.weights, inputs.weights),
  )
  shape = (batch * topology.edges, c.width, c.width)
  return measure.measure(Program(part, None, networks, shape), config.runs)
