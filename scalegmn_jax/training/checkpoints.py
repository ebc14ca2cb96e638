"""Checkpoints of the training state: the only file that knows orbax."""

import base64
import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from scalegmn_jax import io, processes
from scalegmn_jax.base import InputError

_DIGEST, _ARRAYS = "digest", "arrays"
"""Keys that are added to the metadata of a checkpoint: the digest of its arrays
and their {name: type and shape}. Version 0.2 and earlier ones wrote neither."""


# Orbax raises its errors, and logs them with a traceback as well.
logging.getLogger("absl").addFilter(
  lambda record: "/orbax/" not in Path(record.pathname).as_posix()
)


def _no_other_arrays(record: logging.LogRecord) -> bool:
  """A filter of asyncio's log: without the reads that orbax abandons.

  Orbax reads arrays side by side and raises the first error; the errors of the
  others are logged when the garbage collector finds their tasks and futures.
  """
  return not (
    "exception was never retrieved" in record.getMessage()
    and "tensorstore_spec" in record.getMessage()
  )


logging.getLogger("asyncio").addFilter(_no_other_arrays)


class _Damaged(Exception):
  """The files of a checkpoint are not as they were written.

  Attributes:
    certain: False if it may also be a checkpoint of another structure.
  """

  def __init__(self, reason: str, *, certain: bool = True):
    super().__init__(reason)
    self.certain = certain


class _Manager(ocp.CheckpointManager):
  """Leaves signals to `processes.stop_requested`.

  JAX counts calls that ask for a signal, and orbax would ask with the number of
  the step: processes would agree on a call that none of them makes.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class Checkpoints:
  """The last checkpoints of a run, in one folder.

  Arrays are saved from the host without shardings: a checkpoint that was saved
  with many devices can be restored with any number of devices. A digest of the
  arrays is saved with them, so that a damaged checkpoint is recognized. Of
  several processes that compute together, all have to make the same calls, on a
  folder that they share; process 0 writes.

  Orbax writes arrays to file systems and to gs://, not to s3://: there they are
  text in a JSON file.
  """

  def __init__(self, folder: Path, keep: int = 2):
    self._folder = folder
    self._as_text = str(folder).startswith("s3://")
    # Folders of a bucket cannot be renamed; orbax knows this of gs://.
    place = ocp.path.atomicity.CommitFileTemporaryPath
    self._manager = _Manager(
      folder if io.in_bucket(folder) else folder.absolute(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        temporary_path_class=place if self._as_text else None,
      ),
    )

  def latest(self) -> int | None:
    """The step of the last complete checkpoint."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, metadata: Mapping[str, Any]) -> None:
    """Saves in the background; only complete checkpoints are restored.

    Args:
      step: steps taken.
      state: a pytree of arrays.
      metadata: JSON values, saved beside the state.

    Raises:
      InputError: this checkpoint, or the one before, cannot be written.
    """
    if step == self.latest():
      return
    state = jax.device_get(state)
    named = io.named_arrays(state)
    more = {_DIGEST: io.digest(named), _ARRAYS: _described(named)}
    args = ocp.args.Composite(
      state=ocp.args.JsonSave(_texts(named))
      if self._as_text
      else ocp.args.StandardSave(state),
      metadata=ocp.args.JsonSave({**metadata, **more}),
    )
    with self._write_errors():
      self._manager.save(step, args=args)

  def restore(self, template: Any) -> Any | None:
    """The state of the last whole checkpoint, in the structure of `template`.

    Damaged checkpoints after it are set aside, see `io.set_aside`.

    Returns:
      The state on the host; None if there is no whole checkpoint.

    Raises:
      InputError: a checkpoint of another structure.
    """
    shapes = jax.tree.map(lambda a: np.zeros(np.shape(a), a.dtype), template)
    state, damaged = None, {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state = self._read(step, shapes)
        break
      except _Damaged as error:
        damaged[step] = error
    then = "the training goes on from the checkpoint before"
    if state is None:
      then = "the training starts over"
      for step, error in damaged.items():
        if not error.certain:
          raise InputError(
            f"{self._folder / str(step)}: not a checkpoint of this model: "
            f"{error}"
          )
    for step, error in damaged.items():
      io.set_aside(self._folder / str(step), str(error), then)
    if damaged:
      processes.wait()
      self._manager.reload()
    return state

  def _read(self, step: int, shapes: Any) -> Any:
    """The state of one checkpoint, on the host.

    Raises:
      InputError: another structure.
      _Damaged: the files are damaged.
    """
    metadata = {}
    if (self._folder / str(step) / "metadata").exists():  # not in version 0.1
      try:
        metadata = self._manager.restore(
          step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())
        )["metadata"]
      except Exception as error:  # orbax raises many kinds for a damaged folder
        raise _Damaged(f"metadata: {_first_line(error)}") from None
    digest, arrays = metadata.get(_DIGEST), metadata.get(_ARRAYS, {})
    expected = _described(io.named_arrays(shapes))
    if digest is not None and arrays != expected:
      name = sorted(dict(arrays.items() ^ expected.items()))[0]
      theirs, ours = (d.get(name, "absent") for d in (arrays, expected))
      raise InputError(
        f"{self._folder / str(step)}: not a checkpoint of this model: {name} "
        f"is {theirs}, expected {ours}"
      )
    hook = sys.unraisablehook
    sys.unraisablehook = _without_closed_loops(hook)
    try:
      args = ocp.args.Composite(
        state=ocp.args.JsonRestore()
        if self._as_text
        else ocp.args.StandardRestore(shapes)
      )
      state = self._manager.restore(step, args=args)["state"]
      if self._as_text:
        state = _from_texts(state, shapes)
      named = io.named_arrays(state)
      if _described(named) != expected:
        raise ValueError("shapes differ")
    except Exception as error:
      raise _Damaged(_first_line(error), certain=digest is not None) from None
    sys.unraisablehook = hook
    if digest is not None and io.digest(named) != digest:
      raise _Damaged("other numbers than were saved")
    return state

  def close(self) -> None:
    """Waits until all checkpoints are on disk.

    Raises:
      InputError: the last one cannot be written.
    """
    with self._write_errors():
      self._manager.wait_until_finished()
    self._manager.close()

  @contextlib.contextmanager
  def _write_errors(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # of many kinds, like the ones in `_read`
      known = re.search(r"\[OS error \d+: \w+ ([^\]]+)\]", str(error))
      reason = known[1] if known else _first_line(error)
      raise InputError(
        f"{self._folder}: a checkpoint cannot be written: {reason}"
      ) from None


def _described(named: Mapping[str, np.ndarray]) -> dict[str, str]:
  """{name: type and shape}."""
  return {k: f"{a.dtype}{list(a.shape)}" for k, a in named.items()}


def _texts(named: Mapping[str, np.ndarray]) -> dict[str, str]:
  """{name: the bytes of the array, in base64}."""
  return {k: base64.b64encode(a.tobytes()).decode() for k, a in named.items()}


def _from_texts(texts: Mapping[str, str], shapes: Any) -> Any:
  """The arrays of `_texts`, in the structure and shapes of a pytree."""

  def array(path: Any, like: np.ndarray) -> np.ndarray:
    content = base64.b64decode(texts[jax.tree_util.keystr(path)])
    return np.frombuffer(content, like.dtype).reshape(like.shape)

  return jax.tree_util.tree_map_with_path(array, shapes)


def _first_line(error: Exception) -> str:
  return str(error).splitlines()[0][:120] if str(error) else repr(error)


def _without_closed_loops(
  hook: Callable[[Any], Any],
) -> Callable[[Any], None]:
  """A `sys.unraisablehook` that says nothing of a closed event loop.

  Orbax reads arrays side by side and closes its event loop when the first one
  fails. The threads that read the others print a traceback each, some of them
  later; hence this hook stays after a failure.
  """

  def call(unraisable: Any) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
      hook(unraisable)

  return call
