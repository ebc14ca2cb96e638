"""What a person waits for: the first call of each thing in a new process."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

ROOT = Path(__file__).parents[2]

COUNTED = """
import json, time
import jax
seconds = []
def listen(event, duration, **_):
  if event == "/jax/core/compile/backend_compile_duration":
    seconds.append(duration)
jax.monitoring.register_event_duration_secs_listener(listen)
exec(compile(program, "program", "exec"), {})
print(json.dumps({
  "programs": len(seconds),
  "compile_seconds": sum(seconds),
  "cpu_seconds": time.process_time(),
}))
"""
"""Runs `program`; the last line of its output is what was counted."""

PRETRAINED = """
import jax, scalegmn_jax as sg
operator = sg.pretrained("cnn_digits")
operator(operator.target.init(jax.random.key(0)))
"""


def readme() -> str:
  """The Python blocks of the README, with one training step."""
  text = (ROOT / "README.md").read_text()
  program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
  return program.replace("steps=300", "steps=1")


def first_calls(config: ConfigDict) -> dict[str, Any]:
  """Programs, and seconds of the processor, in new processes.

  Each program runs without kept programs, and then with those of its first run.
  """
  points = []
  for name, program in (
    ("pretrained operator", "import scalegmn_jax as sg\nsg.keep_compiled()\n"
     + PRETRAINED),
    ("README", readme()),
  ):  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
      for what in (name, f"{name}, kept"):
        counted = _count(program, folder, config.timeout)
        points.append({"x": what, **counted})
  note = (
    "In a new process, imports included: seconds of all cores (CPU s), of the "
    "clock in XLA (compile s), and programs. Kept: the same again, with the "
    "programs that `keep_compiled` left on disk."
  )
  return {"grows": "first call", "points": points, "note": note}


def _count(program: str, folder: str, timeout: float) -> dict[str, float]:
  """What a program costs in a new process; programs are kept in a folder."""
  done = subprocess.run(
    [sys.executable, "-c", f"program = {program!r}\n{COUNTED}"],
    cwd=ROOT,
    env=os.environ | {"XDG_CACHE_HOME": folder},
    capture_output=True,
    text=True,
    timeout=timeout,
  )
  if done.returncode:
    raise RuntimeError(done.stderr.strip().splitlines()[-1])
  return json.loads(done.stdout.splitlines()[-1])
