"""Time, memory and unavoidable work of one program."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.bench import floor, machine
from scalegmn_jax.devices import count_flops


class Part(NamedTuple):
  """A jitted function.

  Attributes:
    run: the function.
    whole: the function without loops, for XLA's count of operations: XLA counts
      the body of a loop once.
    args: arrays; `jax.ShapeDtypeStruct`s to compile the function only.
    flops: floating-point operations that are unavoidable.
    moved: bytes that are unavoidably moved: parameters, networks and images in,
      results out, each once; for a training step, parameters and the state of
      the optimizer both in and out.
    donates: the first result reuses the buffers of the first argument, and is
      the first argument of the next call.
  """

  run: Any
  whole: Any
  args: tuple
  flops: int
  moved: int
  donates: bool = False


class Program(NamedTuple):
  """The program of a case.

  Attributes:
    step: the whole computation.
    forward: its forward pass; None if there is no other part.
    networks: number of networks.
    shape: (rows, inner, columns) of its typical matrix product, or None.
  """

  step: Part
  forward: Part | None
  networks: int
  shape: tuple[int, int, int] | None


def vmap_size_of(batch: int, networks: int) -> int | None:
  """`vmap_size` of `batched.map_networks` for batches of this size."""
  # An axis of one is slow: one network is mapped without it.
  return None if batch == networks > 1 else batch


def compile_part(part: Part) -> tuple[Any, dict[str, Any]]:
  """(executable, {seconds of compilation and bytes of memory})."""
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


def caller(part: Part, executable: Any) -> Callable[[], Any]:
  """A function that calls a compiled part, any number of times."""
  args = part.args

  def run():
    nonlocal args
    result = executable(*args)
    if part.donates:
      args = (result[0], *args[1:])
    return result

  return run


def seconds_per_call(part: Part, executable: Any, runs: int) -> float:
  """Median seconds of a call."""
  return machine.median_seconds(caller(part, executable), runs)


def measure(program: Program, runs: int) -> dict[str, Any]:
  """One row of the results."""
  row: dict[str, Any] = {"networks": program.networks}
  # The step comes last: it donates the parameters of the forward pass.
  for name in ("forward", "step"):
    part = getattr(program, name)
    if part is not None:
      executable, result = compile_part(part)
      # Elementwise operations too, unlike the formula of `flops`.
      result["xla_flops"] = count_flops(part.whole, *part.args)
      result["seconds"] = seconds_per_call(part, executable, runs)
      row[name] = result | {"flops": part.flops, "bytes": part.moved}
  row["peak_bytes"] = machine.peak_bytes()
  if program.shape is not None:
    row["shape"] = program.shape
    row["shape_flops_per_second"] = machine.matmul_ceiling(*program.shape)
  return row


def against_floor(
  row: dict[str, Any], ceilings: dict[str, float]
) -> dict[str, Any]:
  """A row with the floors of its parts and their times relative to the floors.

  `ratio` is relative to the ceilings of the machine, `ratio_at_shape` relative
  to the speed of a matrix product with the shape of the program.
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
