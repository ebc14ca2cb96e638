"""Settings of a process: memory, compilation, devices."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

from scalegmn_jax import runtime

ROOT = pathlib.Path(__file__).parents[1]

TOUCH = """
import resource, sys
import numpy as np
from scalegmn_jax import runtime
if sys.argv[1] == "keep":
  runtime.keep_memory()
for _ in range(2):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.empty(2**23).fill(1)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="of glibc's allocator"
)
def test_freed_memory_is_not_touched_for_the_first_time_again():
  def faults(word):
    done = subprocess.run(
      [sys.executable, "-c", TOUCH, word],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    return int(done.stdout)

  assert faults("keep") < 16
  # Or the test could not fail: the block has 32 huge pages, if there are some.
  assert faults("give back") >= 32


# Prints the number of programs found in the cache folder, and a result.
PROGRAM = """
import jax, jax.numpy as jnp
from scalegmn_jax import runtime
from scalegmn_jax.base import InputError
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith("/cache_hits"))
)
try:
  runtime.keep_compiled()
except InputError as error:
  print(error)
x = jax.random.normal(jax.random.key(0), (64, 64))
y = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x)))(x)
value = y.sum().item().hex()
print(sum(hits), value)
"""


def run(cache, **variables):
  """The output of `PROGRAM`: (programs found, its result, other lines)."""
  environment = {k: v for k, v in os.environ.items() if k[:4] != "JAX_"}
  environment |= {
    "XDG_CACHE_HOME": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    cwd=ROOT,
    env=environment | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stderr == ""
  *lines, last = result.stdout.splitlines()
  hits, value = last.split()
  return int(hits), value, lines


def test_the_next_run_compiles_nothing_and_has_the_same_bits(tmp_path):
  hits, expected, _ = run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
  assert hits == 0 and not any(tmp_path.iterdir())
  hits, value, _ = run(tmp_path)
  entries = list((tmp_path / "scalegmn_jax" / "xla").glob("*-cache"))
  assert hits == 0 and value == expected and len(entries) >= 3
  hits, value, lines = run(tmp_path)
  assert hits == len(entries) and value == expected and lines == []

  # Entries cut short by a full disk: no message.
  for entry in entries:
    entry.write_bytes(entry.read_bytes()[:100])
  hits, value, lines = run(tmp_path)
  assert hits == 0 and value == expected and lines == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "file").touch()
  hits, _, lines = run(tmp_path / "file")
  assert hits == 0
  assert len(lines) == 1
  assert lines[0].startswith("compiled programs are not kept: ")
  assert "Not a directory" in lines[0]


@pytest.mark.parametrize("chosen", ("other", ""))
def test_a_choice_of_the_user_stays(chosen, tmp_path):
  folder = chosen and str(tmp_path / chosen)
  run(tmp_path / "cache", JAX_COMPILATION_CACHE_DIR=folder)
  assert not (tmp_path / "cache").exists()
  assert (tmp_path / "other").exists() == bool(chosen)


# Prints the flags that XLA gets, and a result with them.
FLAGS = """
import os, sys
import jax
from scalegmn_jax import runtime
from scalegmn_jax.base import InputError
if sys.argv[1] == "late":
  jax.devices()
try:
  runtime.compile_quickly()
except InputError as error:
  print(error)
print(os.environ.get("XLA_FLAGS", ""))
print(jax.jit(lambda x: x + 1)(1))
"""


def lines_of(program, *arguments, **variables):
  """What a program prints, without the settings of these tests."""
  kept = {
    k: v for k, v in os.environ.items() if k[:4] != "JAX_" and k != "XLA_FLAGS"
  }
  done = subprocess.run(
    [sys.executable, "-c", program, *arguments],
    cwd=ROOT,
    env=kept | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.splitlines()


def flags_of(when, **variables):
  """The output of `FLAGS` without its result, which must be 2."""
  *lines, result = lines_of(FLAGS, when, **variables)
  assert result == "2"
  return lines


def test_flags_of_quick_compilation():
  (flags,) = flags_of("early", JAX_PLATFORMS="cpu")
  assert "--xla_backend_optimization_level=1" in flags.split()
  theirs = "--xla_backend_optimization_level=2"
  (flags,) = flags_of("early", JAX_PLATFORMS="cpu", XLA_FLAGS=theirs)
  assert flags.count("optimization_level") == 1 and flags.startswith(theirs)


def test_flags_of_accelerators_stay(tmp_path):
  (tmp_path / "jax_plugins").mkdir()  # of a plugin
  paths = os.pathsep.join([str(tmp_path), *sys.path])
  assert flags_of("early", PYTHONPATH=paths) == [""]
  (flags,) = flags_of("early", PYTHONPATH=paths, JAX_PLATFORMS="cpu")
  assert flags


def test_flags_are_read_once():
  message, flags = flags_of("late", JAX_PLATFORMS="cpu")
  assert "compile_quickly is called after" in message and flags == ""


# Prints the number of devices that JAX makes.
DEVICES = """
import sys
import jax
from scalegmn_jax import runtime
from scalegmn_jax.base import InputError
if sys.argv[1] == "late":
  jax.devices()
runtime.physical_cores = lambda: int(sys.argv[2])
try:
  runtime.device_per_core()
except InputError as error:
  print(error)
print(len(jax.devices()))
"""


def devices(when, cores, **variables):
  """The output of `DEVICES` on a machine with this number of cores."""
  variables = {"JAX_PLATFORMS": "cpu"} | variables
  return lines_of(DEVICES, when, str(cores), **variables)


def test_every_core_is_a_device():
  assert devices("early", 3) == ["3"]
  assert devices("early", 200) == ["16"]


def test_the_number_of_the_user_stays():
  assert devices("early", 3, JAX_NUM_CPU_DEVICES="2") == ["2"]
  flag = "--xla_force_host_platform_device_count=2"
  assert devices("early", 3, XLA_FLAGS=flag) == ["2"]


def test_devices_are_made_once():
  message, number = devices("late", 3)
  assert "device_per_core is called after" in message and number == "1"


def test_threads_of_one_core_count_once(tmp_path, monkeypatch):
  for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
    folder = tmp_path / f"cpu{cpu}" / "topology"
    folder.mkdir(parents=True)
    (folder / "thread_siblings_list").write_text(siblings)
  monkeypatch.setattr(runtime, "_TOPOLOGY", tmp_path)
  allowed = {0, 1, 2, 9}  # nothing is known of the last one
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
  assert runtime.physical_cores() == 3
