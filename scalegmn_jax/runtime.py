"""Settings of a process: memory, compilation, CPU devices."""

import ctypes
import importlib.metadata
import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

from scalegmn_jax import compilation
from scalegmn_jax.base import InputError
from scalegmn_jax.data import download

# Of the 113 programs of configs/cnn.py:one_task,tiny, 39 take longer than this
# to compile. With these cached a run takes 27 s, without a cache 76 s (2 cores
# of an Intel Xeon).
_LEAST_SECONDS = 0.1

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def keep_memory() -> None:
  """Keeps freed memory in the process, for the next step.

  glibc returns blocks above 32 MiB to the system, and the first touch of fresh
  memory costs more than most computations on it: without this setting a
  training step of an operator of width 64 takes twice as long. No effect with
  another C library.
  """
  try:
    mallopt = ctypes.CDLL("libc.so.6").mallopt
  except (OSError, AttributeError):
    return
  mallopt(_M_MMAP_MAX, 0)  # no block is a mapping of its own
  mallopt(_M_TRIM_THRESHOLD, -1)  # the end of the heap is not returned either


def keep_compiled(folder: Path | None = None) -> None:
  """Keeps compiled programs on disk, for the next process.

  No effect if the user has set a folder (JAX_COMPILATION_CACHE_DIR) or has
  disabled the cache (JAX_ENABLE_COMPILATION_CACHE=false). JAX's key of a
  program includes the instruction set of the processor, so hosts of several
  kinds can share a folder. A config adds a few megabytes; the size of the
  folder has no bound, since JAX needs another package to bound it.

  Args:
    folder: where to keep programs; None for a folder in the user's cache.

  Raises:
    InputError: the folder cannot be written. Programs are compiled as usual.
  """
  config: Any = jax.config  # its options are not in jax's types
  # An empty string is a choice too: no folder.
  chosen = config.jax_compilation_cache_dir is not None
  if chosen or not config.jax_enable_compilation_cache:
    return
  folder = folder or download.user_cache() / "xla"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise InputError(
      f"compiled programs are not kept: {folder}: {error.strerror}"
    ) from None
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update(
      "jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS
    )
  # An incomplete entry (a killed run, a full disk) costs one compilation; JAX
  # would warn once per program and run.
  warnings.filterwarnings(
    "ignore", "Error (reading|writing) persistent compilation cache entry"
  )


def compile_quickly() -> None:
  """Makes XLA compile in less time for the CPU, for narrow metanetworks.

  To be called before JAX computes anything. Matrix products and convolutions
  are library calls, so that training steps of width 18 take as long as with
  XLA's own settings; those of width 32 take up to 18 % longer, of width 64 up
  to 40 %. Results are the same up to rounding. XLA_FLAGS gets the flags, which
  subprocesses inherit; those that the user has set there stay. No effect where
  JAX may find an accelerator (JAX_PLATFORMS is not cpu, and a plugin is
  installed).

  Raises:
    InputError: JAX has made its devices before.
  """
  chosen = os.environ.get("XLA_FLAGS", "")
  new = [
    f"--{name}={str(value).lower()}"
    for name, value in compilation.QUICK.items()
    if name not in chosen
  ]
  if not new or not _processor_only():
    return
  config: Any = jax.config  # its options are not in jax's types
  devices = config.jax_num_cpu_devices
  for number in (devices + 2, devices):  # only a change is refused
    _set_devices("compile_quickly", number)
  os.environ["XLA_FLAGS"] = " ".join(filter(None, [chosen, *new]))


def _processor_only() -> bool:
  """Whether JAX cannot find an accelerator; finds out without starting JAX."""
  config: Any = jax.config
  if config.jax_platforms:
    return config.jax_platforms == "cpu"
  packages = ("jax_plugins", "libtpu")
  return not (
    any(map(importlib.util.find_spec, packages))
    or importlib.metadata.entry_points(group="jax_plugins")
  )


_MOST_DEVICES = 16
_DEVICE_FLAG = "xla_force_host_platform_device_count"
_TOPOLOGY = Path("/sys/devices/system/cpu")


def device_per_core() -> None:
  """Makes every CPU core a device of JAX, for `devices.spread`.

  To be called before JAX computes anything. As one device, cores share large
  matrix products only. As several, they share the networks and wait for each
  other in every training step: this pays for wide metanetworks and for zoos,
  not for steps of a few milliseconds, nor where other programs are busy.
  Results are the same bits with the same number of devices, and the same up to
  rounding with another.

  Physical cores that the process may run on are counted, at most 16. No effect
  if the user has set a number, in JAX_NUM_CPU_DEVICES or XLA_FLAGS.

  Raises:
    InputError: JAX has made its devices before.
  """
  config: Any = jax.config  # its options are not in jax's types
  chosen = _DEVICE_FLAG in os.environ.get("XLA_FLAGS", "")
  if chosen or config.jax_num_cpu_devices > 0:
    return
  _set_devices("device_per_core", min(physical_cores(), _MOST_DEVICES))


def _set_devices(function: str, number: int) -> None:
  """Sets the number of CPU devices, which JAX refuses once it has made them."""
  try:
    jax.config.update("jax_num_cpu_devices", number)
  except RuntimeError:
    raise InputError(
      f"{function} is called after JAX has made its devices, expected before "
      "the first computation"
    ) from None


def physical_cores() -> int:
  """Cores that this process may run on; threads of one core count once."""
  try:
    allowed = os.sched_getaffinity(0)
  except AttributeError:  # not on this system
    return os.cpu_count() or 1
  cores = set()
  for cpu in allowed:
    siblings = _TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    try:
      cores.add(siblings.read_text())
    except OSError:
      cores.add(cpu)
  return len(cores)
