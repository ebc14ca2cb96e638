"""Trackers that show metrics while a training runs.

A tracker is an optional package; `config.tracker` selects one of `PACKAGES`.
The record is `metrics.jsonl`, with or without a tracker.
"""

import contextlib
import importlib
import importlib.util
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scalegmn_jax import processes
from scalegmn_jax.base import InputError
from scalegmn_jax.io import write_text
from scalegmn_jax.training.metrics import Tracker

PACKAGES = {
  "tensorboard": "tensorboardX",
  "wandb": "wandb",
  "trackio": "trackio",
}
"""{value of `config.tracker`: the package}. The value is also the name of the
extra that installs the package."""

PROJECT = "scalegmn-jax"
"""The project of the runs in trackers that have projects."""

ID_FILE = "tracker_id.txt"
"""File with the identifier of a training in the tracker; a resumed training
goes on under the same identifier."""


def check(name: str) -> None:
  """Raises InputError unless there is such a tracker and it is installed."""
  if not name:
    return
  if name not in PACKAGES:
    raise InputError(
      f"config.tracker is {name!r}, expected '' or one of {', '.join(PACKAGES)}"
    )
  if importlib.util.find_spec(PACKAGES[name]) is None:
    raise InputError(
      f"config.tracker is {name!r}: {PACKAGES[name]} is not installed; "
      f"pip install 'scalegmn-jax[{name}]'"
    )


@contextlib.contextmanager
def opened(
  name: str, folder: Path, config: Mapping[str, Any]
) -> Iterator[Tracker | None]:
  """The tracker of a training; yields None without one.

  Of several processes that compute together, process 0 has the tracker.

  Args:
    name: see `check`.
    folder: of the training.
    config: of the run, JSON values.

  Raises:
    InputError: the tracker is not installed, or does not start, for instance
      without a login.
  """
  check(name)
  if not name or not processes.is_first():
    yield None
    return
  folder.mkdir(parents=True, exist_ok=True)
  if name == "tensorboard":
    tracker = _TensorBoard(folder)
  else:
    tracker = _Service(name, folder, config)
  try:
    yield tracker
  finally:
    tracker.close()


class _TensorBoard(Tracker):
  """Event files in `<folder>/tensorboard`."""

  def __init__(self, folder: Path):
    self._folder = folder / "tensorboard"
    self._writer: Any = None

  def write(self, step: int, values: Mapping[str, float]) -> None:
    if self._writer is None:
      # A training that was killed is resumed at an earlier step; its later
      # events are dropped.
      self._writer = importlib.import_module("tensorboardX").SummaryWriter(
        str(self._folder), purge_step=step, filename_suffix=f".{step}"
      )
    for key, value in values.items():
      self._writer.add_scalar(key, value, step)

  def close(self) -> None:
    if self._writer is not None:
      self._writer.close()


class _Service(Tracker):
  """A run of wandb or of trackio, which has the same interface."""

  def __init__(self, name: str, folder: Path, config: Mapping[str, Any]):
    file = folder / ID_FILE
    if not file.exists():
      write_text(file, uuid.uuid4().hex[:12])
    number = file.read_text()
    title = "/".join(folder.parts[-2:])
    arguments: dict[str, Any] = {"name": f"{title} {number}"}
    if name == "wandb":  # trackio finds a run by its name
      arguments = {"name": title, "id": number, "dir": str(folder)}
    try:
      self._run = importlib.import_module(name).init(
        project=PROJECT, config=dict(config), resume="allow", **arguments
      )
    except Exception as error:  # any, of a package with a server
      reason = " ".join(str(error).split()) or type(error).__name__
      raise InputError(
        f"config.tracker is {name!r}, which does not start: {reason}"
      ) from error

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()
