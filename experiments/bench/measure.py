"""Measuring one program: its time, its memory, and what it had to do."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.bench import floor, machine


class Part(NamedTuple):
  """A jitted function.

  Attributes:
    run: the function.
    whole: the same without loops. XLA counts the body of a loop once, so its
      own count is taken here.
    args: arrays; `jax.ShapeDtypeStruct`s if it shall only be compiled.
    flops: that it must do.
    moved: bytes that it must move: parameters, networks and images in, results
      out, each once; for a training step parameters and the state of the
      optimizer both in and out.
    donates: the first argument's buffers are given to the first result, which
      is the first argument of the next call.
  """

  run: Any
  whole: Any
  args: tuple
  flops: int
  moved: int
  donates: bool = False


class Program(NamedTuple):
  """Attributes:
  step: what the case is about.
  forward: the part of it that is a forward pass, None if that is all of it.
  networks: that it is applied to.
  shape: (rows, inner, columns) of its typical matrix product, or None.
  """

  step: Part
  forward: Part | None
  networks: int
  shape: tuple[int, int, int] | None


def mapped(f: Callable[[Any], Any], items: Any, batch: int) -> Any:
  """f on every one of some items, `batch` of them at a time."""
  count = jax.tree.leaves(items)[0].shape[0]
  if batch == count > 1:
    return jax.vmap(f)(items)
  # A batch of one is not kept as an axis, which would be slow.
  return jax.lax.map(f, items, batch_size=None if batch == 1 else batch)


def compiled(part: Part) -> tuple[Any, dict[str, Any]]:
  """(executable, its seconds of compilation and bytes of memory)."""
  lowered = part.run.lower(*part.args)
  start = time.perf_counter()
  executable = lowered.compile()
  elapsed = time.perf_counter() - start
  memory = executable.memory_analysis()
  sizes = {"temp_bytes": None, "memory_bytes": None}
  if memory is not None:
    sizes["temp_bytes"] = memory.temp_size_in_bytes
    sizes["memory_bytes"] = (
      memory.temp_size_in_bytes
      + memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
    )
  return executable, {"compile_seconds": elapsed} | sizes


def timed(part: Part, executable: Any, runs: int) -> float:
  """Median seconds of a call."""
  args = part.args

  def run():
    nonlocal args
    result = executable(*args)
    if part.donates:
      args = (result[0], *args[1:])
    return result

  return machine.median_seconds(run, runs)


def xla_flops(part: Part, executable: Any) -> float | None:
  """XLA's own count, elementwise operations included."""
  if part.whole is not part.run:
    executable = part.whole.lower(*part.args).compile()
  return (executable.cost_analysis() or {}).get("flops")


def measure(program: Program, runs: int) -> dict[str, Any]:
  """One row of the results."""
  row: dict[str, Any] = {"networks": program.networks}
  # The step comes last: it gives away what the forward pass reads.
  for name in ("forward", "step"):
    part = getattr(program, name)
    if part is not None:
      executable, result = compiled(part)
      result["xla_flops"] = xla_flops(part, executable)
      result["seconds"] = timed(part, executable, runs)
      row[name] = result | {"flops": part.flops, "bytes": part.moved}
  row["peak_bytes"] = machine.peak_bytes()
  if program.shape is not None:
    row["shape"] = program.shape
    row["shape_flops_per_second"] = machine.matmul_ceiling(*program.shape)
  return row


def against_floor(
  row: dict[str, Any], ceilings: dict[str, float]
) -> dict[str, Any]:
  """A row with the floors of its parts, and how far they are above them.

  `ratio` is against the ceilings of the machine, `ratio_at_shape` against what
  a matrix product of the program's own shape reaches.
  """
  row = dict(row)
  for name in ("step", "forward"):
    part = row.get(name)
    if not part:
      continue
    peaks = {"ratio": ceilings["flops_per_second"]}
    if "shape_flops_per_second" in row:
      peaks["ratio_at_shape"] = row["shape_flops_per_second"]
    floors = {
      key: floor.seconds(
        part["flops"], part["bytes"], peak, ceilings["bytes_per_second"]
      )
      for key, peak in peaks.items()
    }
    row[name] = part | {"floor_seconds": floors["ratio"]}
    row[name] |= {k: part["seconds"] / f for k, f in floors.items()}
  return row
