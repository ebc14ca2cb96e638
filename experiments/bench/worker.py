"""Measures one case in a separate process, for its peak memory.

  python -m experiments.bench.worker < request.json

The request is {"config": ..., "case": name}; the last line of the output is
the row of the results. The case "ceilings" measures the limits of the machine.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import cases, machine
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


def in_subprocess(config: dict[str, Any], case: str) -> dict[str, Any]:
  """The row of a case, or {"error": the last line of its error output}."""
  root = str(Path(__file__).parents[2])
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  try:
    done = subprocess.run(
      [sys.executable, "-m", "experiments.bench.worker"],
      input=json.dumps({"config": config, "case": case}),
      capture_output=True,
      text=True,
      timeout=config["timeout"],
      # The last line of an unfiltered traceback is the error.
      env=os.environ
      | {
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_TRACEBACK_FILTERING": "off",
      },
    )
  except subprocess.TimeoutExpired:
    return {"error": f"took more than {config['timeout']} seconds"}
  if done.returncode == 0:
    return json.loads(done.stdout.splitlines()[-1])
  lines = done.stderr.strip().splitlines() or ["no message"]
  if done.returncode < 0:
    lines.append(f"ended by signal {-done.returncode}")
  return {"error": lines[-1]}


def main() -> None:
  request = json.load(sys.stdin)
  runtime.keep_memory()
  config = ConfigDict(request["config"])
  # Compilation is measured: programs of earlier runs are not reused.
  jax.config.update("jax_enable_compilation_cache", False)
  jax.config.update("jax_disable_most_optimizations", not config.optimize)
  if request["case"] == CEILINGS:
    row = ceilings(config)
  else:
    row = cases.list_cases(config)[request["case"]].run()
  print(json.dumps(row))


if __name__ == "__main__":
  main()
