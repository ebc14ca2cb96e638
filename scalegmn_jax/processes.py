"""Several processes that compute together, on one host or on many.

All processes run the same program. Each takes the same decisions, so that all
launch the same computations in the same order; what only one of them can know,
such as the content of a folder, comes from process 0 by `first`. Process 0
alone writes files, see `scalegmn_jax.io`.

    processes.connect()               # before any computation
    with devices.spread():            # the devices of all processes
      ...
"""

import atexit
import contextlib
import itertools
import json
import logging
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from scalegmn_jax.base import InputError

MODES = ("auto", "on", "off")

HEARTBEAT_SECONDS = 60
"""A process that says nothing for this time is dead; the others end then."""

SHUTDOWN_SECONDS = 60
"""How long a process that ends waits for the others."""

CONNECT_SECONDS = 300
"""How long the processes wait for each other at the start."""

NOTE_SECONDS = 10
"""After this time at the start, a line says that others are missing."""

VISIBLE_SECONDS = 60
"""How long a file may take to appear on other hosts. NFS keeps the content of
folders for up to a minute."""

_GRACE_SECONDS = 1
_FAILED = "scalegmn_jax/failed"
_FOREVER_MS = 7 * 24 * 3600 * 1000  # death of a process ends all waiting

_LOG = logging.getLogger(__name__)
_numbers = itertools.count()
_polls = itertools.count()


def connect(mode: str = "auto") -> None:
  """Connects the processes of a cluster, before any computation.

  Args:
    mode: "on"; "off"; or "auto", which is "on" in a job of several processes:
      JAX_COORDINATOR_ADDRESS is set (with JAX_NUM_PROCESSES and
      JAX_PROCESS_ID unless the cluster tells them), `srun` with several tasks,
      `mpirun` with several processes, or several TPU workers.

  Raises:
    InputError: an unknown mode, "on" where nothing tells the other processes,
      or no connection.
  """
  if mode not in MODES:
    raise InputError(
      f"distributed is {mode!r}, expected one of {', '.join(MODES)}"
    )
  if mode == "off" or (mode == "auto" and not _several()):
    return
  arguments: dict[str, Any] = {}
  for name, variable in (
    ("num_processes", "JAX_NUM_PROCESSES"),
    ("process_id", "JAX_PROCESS_ID"),
  ):
    if variable in os.environ:
      arguments[name] = _integer(variable)
  if not _in_slurm() and _integer("PMI_SIZE") > 1:
    arguments["cluster_detection_method"] = "mpi4py"
  # Without the others JAX aborts the process, with a long trace.
  note = threading.Timer(
    NOTE_SECONDS,
    lambda: _LOG.warning(
      "still waiting for the other processes; this one ends after %d s without "
      "them", CONNECT_SECONDS,
    ),
  )  # fmt: skip
  note.daemon = True
  note.start()
  try:
    jax.distributed.initialize(
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=SHUTDOWN_SECONDS,
      initialization_timeout=CONNECT_SECONDS,
      **arguments,
    )
  except Exception as error:  # of many kinds, by cluster
    reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(
      f"--distributed={mode}: no connection to the other processes ({reason}); "
      "expected JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, "
      "or a job of srun, mpirun or a TPU pod"
    ) from None
  finally:
    note.cancel()
  _start_watch()


def _several() -> bool:
  """Whether the environment is of one process among several."""
  return (
    "JAX_COORDINATOR_ADDRESS" in os.environ
    or _in_slurm()
    or _integer("OMPI_COMM_WORLD_SIZE") > 1
    or _integer("PMI_SIZE") > 1
    or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ
  )


def _in_slurm() -> bool:
  """Whether `srun` started this process among others.

  A batch script without `srun` knows the number of tasks, but no step.
  """
  return "SLURM_STEP_NODELIST" in os.environ and _integer("SLURM_NTASKS") > 1


def _integer(variable: str) -> int:
  """The value of an environment variable; 1 without it."""
  text = os.environ.get(variable, "1")
  if not text.isdecimal():
    raise InputError(f"{variable} is {text!r}, expected an integer")
  return int(text)


def count() -> int:
  """Number of processes that are connected; 1 without a connection."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
  """Number of this process; 0 without a connection."""
  return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
  """Whether this is process 0, or the only one."""
  return index() == 0


def first(f: Callable[[], Any]) -> Any:
  """Calls f in process 0 alone; every process gets its result.

  All processes have to call this. None leaves before the others have come.

  Args:
    f: () -> bytes, or a JSON value. It must not compute with arrays that are
      spread over processes.

  Raises:
    InputError: f raised it in process 0.
  """
  if count() == 1:
    return f()
  client, name = _client(), f"scalegmn_jax/{next(_numbers)}"
  if is_first():
    try:
      value = f()
      is_bytes = isinstance(value, bytes)
      content = b"b" + value if is_bytes else b"j" + json.dumps(value).encode()
    except InputError as error:
      content = b"e" + str(error).encode()
    client.key_value_set_bytes(name, content)
  content = client.blocking_key_value_get_bytes(name, _FOREVER_MS)
  client.wait_at_barrier(name, _FOREVER_MS)
  if is_first():
    client.key_value_delete(name)
  kind, content = content[:1], content[1:]
  if kind == b"e":
    raise InputError(content.decode())
  return content if kind == b"b" else json.loads(content)


def wait() -> None:
  """Waits until all processes are here."""
  first(lambda: None)


def gather(array: np.ndarray) -> np.ndarray:
  """Joins arrays [B, ...] of all processes: [count() * B, ...], on the host."""
  if count() == 1:
    return array
  wait()  # on CPUs nobody may be late for the first one, see `devices.spread`
  return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def see(path: pathlib.Path) -> None:
  """Waits until a file that process 0 wrote is visible to this process.

  Raises:
    InputError: it is not; the folder belongs to one host alone.
  """
  wait()
  end = time.monotonic() + VISIBLE_SECONDS
  while not path.exists():
    if time.monotonic() > end:
      raise InputError(
        f"{path}: written by process 0, but process {index()} does "
        "not see it; expected a folder that all hosts share"
      )
    time.sleep(0.2)


def stop_requested() -> bool:
  """Whether some process received SIGTERM; the same answer in all of them.

  All processes have to call this equally often. A signal is answered at the
  first call that none of them has made yet.
  """
  return multihost_utils.reached_preemption_sync_point(next(_polls))


def fail(message: str) -> bool:
  """Makes all processes end, because of an error in this one.

  The others end within seconds, wherever they are; this one has to end by
  `leave`.

  Returns:
    Whether the message is news: False if another process failed with the same
    one before.
  """
  client = _client()
  try:
    client.key_value_set(_FAILED, message)
  except jax.errors.JaxRuntimeError:  # another process was faster
    return client.key_value_try_get(_FAILED) != message
  return True


def leave(status: int) -> NoReturn:
  """Ends this process at once; to be called after `fail`."""
  sys.stdout.flush()
  sys.stderr.flush()
  # The service that tells the others is in process 0. A regular exit would
  # wait for them, and they may wait for this process.
  time.sleep(2 * _GRACE_SECONDS if is_first() else _GRACE_SECONDS)
  os._exit(status)


def _watch(ended: threading.Event) -> None:
  """Ends this process when another one has failed."""
  while not ended.wait(_GRACE_SECONDS):
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # no such key
      _client().key_value_try_get(_FAILED)
      leave(1)


def _start_watch() -> None:
  ended = threading.Event()
  thread = threading.Thread(target=_watch, args=(ended,), daemon=True)
  thread.start()

  def end() -> None:
    ended.set()
    thread.join()

  atexit.register(end)  # runs before JAX disconnects


def _client() -> Any:
  # JAX has no public name for the client of its coordination service. The
  # public broadcast is a computation on devices: it would wait for all steps
  # that are queued there, and compile a program per size.
  from jax._src import distributed

  return distributed.global_state.client
