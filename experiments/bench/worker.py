"""Measures one case in a separate process, for its peak memory.

  python -m experiments.bench.worker < request.json

A case of several processes is a worker for each, connected over loopback. The
request is {"config": ..., "case": name, "processes": number}; the last line of
the output is the row of the results. The case "ceilings" measures the limits of
the machine.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import cases, machine
from scalegmn_jax import processes as cluster
from scalegmn_jax import runtime

CEILINGS = "ceilings"


def ceilings(config: ConfigDict) -> dict[str, Any]:
  """The device, its FLOP/s of large square matrix products, its bytes/s."""
  n = config.ceilings.matmul
  return {
    "device": build.devices(),
    "flops_per_second": machine.matmul_ceiling(n, n, n),
    "bytes_per_second": machine.copy_ceiling(2**20 * config.ceilings.copy_mib),
  }


def in_subprocess(
  config: dict[str, Any], case: str, *, devices: int = 1, processes: int = 1
) -> dict[str, Any]:
  """The row of a case, or {"error": the last line of its error output}.

  Args:
    config: config of the bench.
    case: name of the case.
    devices: devices per process, if the processor is the only one.
    processes: processes that measure the case; they compute on the processor.
  """
  root = str(Path(__file__).parents[2])
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join(paths),
    # The last line of an unfiltered traceback is the error.
    "JAX_TRACEBACK_FILTERING": "off",
  }
  if devices > 1:
    environment["JAX_NUM_CPU_DEVICES"] = str(devices)
  if processes > 1:
    environment |= {
      "JAX_PLATFORMS": "cpu",
      "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
      "JAX_NUM_PROCESSES": str(processes),
    }
  request = json.dumps({"config": config, "case": case, "processes": processes})
  workers: list[subprocess.Popen] = []
  failed: list[dict[str, Any]] = []

  def row_of(worker: subprocess.Popen) -> dict[str, Any]:
    row = _row(worker, request, config["timeout"])
    if "error" in row:
      failed.append(row)
      for other in workers:  # they would wait for this one
        other.kill()
    return row

  with contextlib.ExitStack() as stack:
    for index in range(processes):
      if processes > 1:
        environment["JAX_PROCESS_ID"] = str(index)
      worker = subprocess.Popen(
        [sys.executable, "-m", "experiments.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
      )
      workers.append(stack.enter_context(worker))
    with ThreadPoolExecutor(processes) as pool:
      rows = list(pool.map(row_of, workers))
  return failed[0] if failed else rows[0]


def _row(
  worker: subprocess.Popen, request: str, timeout: float
) -> dict[str, Any]:
  """The row that a worker prints, or {"error": why there is none}."""
  try:
    output, errors = worker.communicate(request, timeout)
  except subprocess.TimeoutExpired:
    return {"error": f"took more than {timeout} seconds"}
  if worker.returncode == 0:
    return json.loads(output.splitlines()[-1])
  lines = errors.strip().splitlines() or ["no message"]
  if worker.returncode < 0:
    lines.append(f"ended by signal {-worker.returncode}")
  return {"error": lines[-1]}


def _free_port() -> int:
  with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    return one.getsockname()[1]


def measure(config: ConfigDict, case: str) -> dict[str, Any]:
  """The row of a case, measured in this process."""
  if case == CEILINGS:
    return ceilings(config)
  return cases.list_cases(config)[case].run()


def main() -> None:
  request = json.load(sys.stdin)
  runtime.keep_memory()
  cluster.connect("on" if request["processes"] > 1 else "off")
  config = ConfigDict(request["config"])
  # Compilation is measured: programs of earlier runs are not reused.
  jax.config.update("jax_enable_compilation_cache", False)
  jax.config.update("jax_disable_most_optimizations", not config.optimize)
  print(json.dumps(measure(config, request["case"])))


if __name__ == "__main__":
  main()
