"""A training step over several devices, processes and hosts.

What devices exchange in a step is read from the compiled program: one sum of
the gradients and metrics, whose size depends on φ and not on the networks.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.bench import measure
from experiments.bench.measure import Program
from experiments.bench.training import operator_program
from scalegmn_jax import devices as spreading
from scalegmn_jax import processes as cluster
from scalegmn_jax.targets.cnn import cnn


class Link(NamedTuple):
  """What connects the accelerators of a cluster.

  Attributes:
    name: accelerator and link.
    flops: peak FLOP/s of products of float32 arrays at JAX's default precision:
      TensorFloat-32 without sparsity on a GPU, bfloat16 on a TPU.
    bandwidth: bytes/s that one accelerator sends while it receives as many.
  """

  name: str
  flops: float
  bandwidth: float


LINKS = (
  Link("H100, NVLink", 495e12, 450e9),  # 900 GB/s in both directions
  Link("H100, InfiniBand", 495e12, 50e9),  # NDR, 400 Gb/s per GPU
  Link("TPU v5p, ICI", 459e12, 600e9),  # 4,800 Gb/s per chip
)
"""Sources: the data sheets of NVIDIA H100 SXM, ConnectX-7 and TPU v5p."""

_SHARE = 4
"""Networks per device of a program that is compiled for its cost."""

_COLLECTIVE = re.compile(
  r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|"
  r"collective-broadcast|reduce-scatter)(?:-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+))\[([\d,]*)\]")


def collectives(program: str) -> tuple[int, int]:
  """(number of collective operations, bytes of their results) of HLO text."""
  found = _COLLECTIVE.findall(program)
  total = 0
  for shapes, _ in found:
    for _, bits, sizes in _SHAPE.findall(shapes):
      elements = np.prod([int(n) for n in sizes.split(",") if n], dtype=int)
      total += int(elements) * int(bits or 8) // 8
  return len(found), total


def devices(
  config: ConfigDict, program_of: Callable[[ConfigDict], Program]
) -> dict[str, Any]:
  """The step of a program on 1, 2, ... devices."""
  available = jax.devices()
  meshes = {
    n: available[:n] for n in config.devices.counts if n <= len(available)
  }
  return _spread("devices", config, program_of(config), meshes)


def processes(
  config: ConfigDict, program_of: Callable[[ConfigDict], Program]
) -> dict[str, Any]:
  """The step on several devices of one process, and on one device of each.

  All processes call this function.
  """
  count = cluster.count()
  meshes = {
    1: jax.local_devices(process_index=0)[:count],
    count: [jax.local_devices(process_index=i)[0] for i in range(count)],
  }
  return _spread("processes", config, program_of(config), meshes)


def hosts(config: ConfigDict) -> dict[str, Any]:
  """When the exchange between devices takes as long as their computation.

  The programs are compiled for two devices of the processor, and not run.
  """
  points = []
  for width in config.hosts.widths:
    step = operator_program(
      cnn(**config.target),
      width=width,
      depth=config.operator.depth,
      networks=2 * _SHARE,
      images=config.operator.images,
      grad_chunk=None,
      abstract=True,
    ).step
    with spreading.spread(jax.devices("cpu")[:2]):
      executable = step.run.lower(*step.args).compile()
    # XLA counts the operations of one device.
    flops = executable.cost_analysis()["flops"] / _SHARE
    _, reduced = collectives(executable.as_text())
    params = jax.tree.leaves(step.args[0].params)
    points.append(
      {
        "x": width,
        "parameters": sum(p.size for p in params),
        "flops": flops,
        "reduced_bytes": reduced,
      }
      | {
        link.name: even_networks(link, flops, reduced, config.hosts.achieved)
        for link in LINKS
      }
    )
  note = (
    "Networks per device at which computing gradients takes as long as summing "
    "them over many devices in a ring, which sends twice their bytes (2 "
    f"devices: once), at {config.hosts.achieved:.0%} of the peak of the "
    f"accelerator and the full bandwidth of the link; {config.operator.images} "
    f"images, {config.operator.depth} layers."
  )
  return {"grows": "width", "points": points, "note": note}


def even_networks(
  link: Link, flops: float, reduced: float, achieved: float
) -> float:
  """Networks per device that take as long as the exchange of gradients.

  With n devices in a ring, each sends 2 (n - 1) / n times the bytes; this is
  the limit of many devices.

  Args:
    link: the link.
    flops: operations per network and step.
    reduced: bytes that are summed over devices in a step.
    achieved: share of the peak FLOP/s.
  """
  return (2 * reduced / link.bandwidth) / (flops / (achieved * link.flops))


def _spread(
  grows: str,
  config: ConfigDict,
  program: Program,
  meshes: Mapping[int, Sequence[Any]],
) -> dict[str, Any]:
  """Times of a step that is spread over each mesh, at equal total work.

  All processes call this function; process 0 has a device of every mesh, and
  the results.

  Args:
    grows: heading of the sizes.
    config: config of the bench.
    program: has the step.
    meshes: {size: devices}, the first one to compare with.
  """
  points, calls = {}, {}
  for x, mesh in meshes.items():
    if all(d.process_index != cluster.index() for d in mesh):
      continue
    state, *inputs = program.step.args
    with spreading.spread(mesh):
      # Copies, as a step donates its state.
      args = jax.tree.map(jnp.copy, state), *inputs
      part = program.step._replace(args=spreading.replicate(args))
      executable, compiled = measure.compile_part(part)
    calls[x] = measure.caller(part, executable)
    number, reduced = collectives(executable.as_text())
    points[x] = {
      "x": x,
      "collectives": number,
      "reduced_bytes": reduced,
      "memory_bytes": compiled["memory_bytes"],
    }

  runs = 1 + config.devices.runs  # the first one warms up
  times = np.zeros((2, runs, len(meshes)))  # of the clock, of the processor
  for run in range(runs):
    for i, x in enumerate(meshes):
      cluster.wait()  # a process without a device of this mesh is idle
      if x in calls:
        start = time.perf_counter(), time.process_time()
        jax.block_until_ready(calls[x]())
        end = time.perf_counter(), time.process_time()
        times[:, run, i] = np.subtract(end, start)
  seconds, processor = times[:, 1:].min(axis=1)
  processor = cluster.gather(processor[None]).sum(axis=0)
  if not cluster.is_first():
    return {}

  # Virtual devices share the processor, which one of them does not fill.
  virtual = jax.default_backend() == "cpu"
  sizes = [len(mesh) for mesh in meshes.values()]
  work = processor if virtual else seconds * sizes
  for i, point in enumerate(points.values()):
    point["seconds"] = float(seconds[i])
    if virtual:
      point["cpu_seconds"] = float(processor[i])
    point["overhead"] = float(work[i] / work[0] - 1)
  note = (
    f"A training step of {program.networks} networks; the least of "
    f"{config.devices.runs} interleaved runs. Overhead: of the "
    + ("processor's time" if virtual else "time of all devices together")
    + ", for the same total work."
  )
  return {"grows": grows, "points": list(points.values()), "note": note}
