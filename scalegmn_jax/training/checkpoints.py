"""Checkpoints of the training state: the only file that knows orbax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from scalegmn_jax.base import InputError


class Checkpoints:
  """The last checkpoints of a run, in one folder.

  Arrays are saved from the host without shardings: a checkpoint that was saved
  with many devices can be restored with any number of devices.
  """

  def __init__(self, folder: Path, keep: int = 2):
    self._folder = folder
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
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
    """
    if step == self.latest():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(jax.device_get(state)),
        metadata=ocp.args.JsonSave(dict(metadata)),
      ),
    )

  def restore(self, template: Any) -> Any:
    """The state of the last checkpoint, in the structure of `template`.

    Raises:
      InputError: no checkpoint, a damaged one, or another structure.
    """
    step = self.latest()
    if step is None:
      raise InputError(f"{self._folder}: no checkpoint here")
    shapes = jax.tree.map(lambda a: np.zeros(np.shape(a), a.dtype), template)
    try:
      restored = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
      )["state"]
      same = jax.tree.map(
        lambda a, b: np.shape(a) == np.shape(b), restored, shapes
      )
      if not all(jax.tree.leaves(same)):
        raise ValueError("shapes differ")
    except Exception as error:  # orbax raises many kinds for a damaged folder
      reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
      raise InputError(
        f"{self._folder / str(step)}: not a checkpoint of this model: {reason}"
      ) from None
    return jax.device_put(restored)

  def close(self) -> None:
    """Waits until all checkpoints are on disk."""
    self._manager.wait_until_finished()
    self._manager.close()
