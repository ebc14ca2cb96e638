"""Settings of a process: memory, compiled programs on disk, CPU devices."""

import ctypes
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

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
  try:
    jax.config.update(
      "jax_num_cpu_devices", min(_physical_cores(), _MOST_DEVICES)
    )
  except RuntimeError:
    raise InputError(
      "device_per_core is called after JAX has made its devices, expected "
      "before the first computation"
    ) from None


def _physical_cores() -> int:
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
