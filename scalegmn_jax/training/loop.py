"""The training loop of a metanetwork."""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.runner import progress
from scalegmn_jax.base import InputError, MetaNetwork
from scalegmn_jax.training import optimizer as optimizers
from scalegmn_jax.training.checkpoints import Checkpoints
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import (
  Objective,
  TrainState,
  init_state,
  keep_best,
  make_step,
)

Watch = Callable[[int, Mapping[str, float]], None]
"""(steps taken, metrics of a validation) -> None. What it raises ends the
training, of which a checkpoint is on disk."""


class Interrupted(Exception):
  """SIGTERM came; the state is in a checkpoint."""


def train(
  metanetwork: MetaNetwork,
  task: Objective,
  optimizer: optax.GradientTransformation,
  data: Any,
  validate: Callable[[Any], dict[str, float]],
  *,
  steps: int,
  seed: int,
  workdir: Path,
  config: dict[str, Any],
  label: str = "train",
  chunk: int | None = None,
  watch: Watch | None = None,
) -> TrainState:
  """Trains, or goes on training, the parameters of a metanetwork.

  Args:
    metanetwork: its parameters are trained.
    task: see `training.step.Task`; its metrics have an "objective".
    optimizer: see `training.optimizer`.
    data: whatever `task` draws its batches from; or a function, from the
      number of steps taken to that, for batches that the host makes. It is
      called while the device is busy with the steps before.
    validate: params -> metrics, among them "val_objective".
    steps: of training.
    seed: of the parameters and of what is drawn.
    workdir: gets `checkpoints/` and `metrics.jsonl`.
    config: JSON values, saved with the state; how often to log, evaluate and
      give up (`train.*_every`, `train.patience`) is read here.
    label: of the progress bar.
    chunk: networks differentiated at a time, see `training.step.gradient`.
    watch: called after every validation.

  Raises:
    InputError: updates stay non-finite.
    Interrupted: on SIGTERM, after a checkpoint is on disk.
  """
  c = config["train"]
  seed = jax.device_put(np.uint32(seed))
  workdir.mkdir(parents=True, exist_ok=True)
  k_init, k_run = jax.random.split(jax.random.key(seed))
  # In one program: the constants of the optimizer's state are no transfers.
  initial = jax.jit(lambda key: init_state(metanetwork.init(key), optimizer))
  state = initial(k_init)
  keep = jax.jit(keep_best)
  checkpoints = Checkpoints(workdir / "checkpoints")
  try:
    if checkpoints.latest() is not None:
      state = checkpoints.restore(state)
      progress.console.print(f"resumed at step {_number(state.step):.0f}")
    start = int(_number(state.step))
    best = _number(state.best_objective)
    metrics = Metrics(workdir / "metrics.jsonl", start)
    step = make_step(task, optimizer, chunk=chunk)
    with _sigterm() as stopped, progress.bar(label, steps) as advance:
      advance(count=start)
      rows = _Rows(metrics, start, c["patience"])
      for number in range(start + 1, steps + 1):
        given = data(number - 1) if callable(data) else data
        state, values = step(state, k_run, given)
        evaluate = number % c["eval_every"] == 0 or number == steps
        log = evaluate or number % c["log_every"] == 0
        if log or rows.arrived():
          rows.write()
        if log:
          rows.begin(number, values, state)
        if evaluate:
          rows.wait()
          validation = validate(state.params)
          objective = np.float32(validation["val_objective"])
          state = keep(state, jax.device_put(objective))
          best = _number(state.best_objective)
          # First the row: what is in a checkpoint has its rows on disk.
          rows.write(validation)
          checkpoints.save(number, state, config)
          if watch is not None:
            watch(number, validation)
          rows.restart_clock(number)
        advance(rows.note(best))
        if stopped():
          rows.write()
          checkpoints.save(number, state, config)
          raise Interrupted(f"{workdir}: stopped at step {number} of {steps}")
  finally:
    checkpoints.close()
  if not np.isfinite(best):
    raise InputError(f"{workdir}: no validation had a finite objective")
  return state


def _number(scalar: jax.Array) -> float:
  return float(jax.device_get(scalar))


class _Rows:
  """Rows of `metrics.jsonl`, on their way from the device.

  A row is begun when its step has been given to the device and written once
  its numbers have arrived, at the latest before the next row is begun. So the
  device always has the steps of a log interval left to do while the host waits
  for a row.
  """

  def __init__(self, metrics: Metrics, start: int, patience: int):
    self._metrics = metrics
    self._patience = patience
    self._row: dict[str, jax.Array] | None = None
    self._objective: float | None = None  # of the last row
    self.restart_clock(start)

  def restart_clock(self, step: int) -> None:
    self._clock, self._since = time.perf_counter(), step

  def begin(
    self, step: int, values: dict[str, jax.Array], state: TrainState
  ) -> None:
    # Copies: the next step gives the buffers of the state away.
    in_a_row, total = map(jnp.copy, optimizers.skipped(state.optimizer))
    self._row = values | {"in_a_row": in_a_row, "skipped": total}
    self._step, self._arrival = step, None
    for value in self._row.values():
      value.copy_to_host_async()

  def arrived(self) -> bool:
    """Whether there is a row that can be written without waiting."""
    if self._row is None:
      return False
    values: Any = self._row.values()  # `is_ready` is not in jax's types
    return all(value.is_ready() for value in values)

  def wait(self) -> float:
    """Waits for the numbers of the row; when they were seen first."""
    if self._arrival is None:
      jax.block_until_ready(self._row)
      self._arrival = time.perf_counter()
    return self._arrival

  def write(self, more: Mapping[str, float] | None = None) -> None:
    """Writes the row, if there is one, with the values of `more`.

    Raises:
      InputError: the gradient has not been finite for too many steps.
    """
    if self._row is None:
      return
    arrival = self.wait()
    values = {k: v.item() for k, v in jax.device_get(self._row).items()}
    self._row = None
    in_a_row = values.pop("in_a_row")
    if in_a_row >= self._patience:
      raise InputError(
        f"training: the gradient is not finite since step "
        f"{self._step - in_a_row + 1} ({values['skipped']} updates skipped in "
        "all); lower train.learning_rate or look at the zoo"
      )
    rate = (self._step - self._since) / (arrival - self._clock)
    values["steps_per_second"] = rate
    self._metrics.write(self._step, values | dict(more or {}))
    self._objective = values["objective"]
    self._clock, self._since = arrival, self._step

  def note(self, best: float) -> str:
    """What the progress bar says."""
    if self._objective is None:
      return ""
    return f"{self._objective:.3f}, val {best:.3f}"


class _sigterm:
  """Within it, SIGTERM only sets what the function it yields returns."""

  def __enter__(self) -> Callable[[], bool]:
    self._set = False

    def note(*_):
      self._set = True

    self._before = signal.signal(signal.SIGTERM, note)
    return lambda: self._set

  def __exit__(self, *_):
    signal.signal(signal.SIGTERM, self._before)
