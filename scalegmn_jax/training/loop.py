"""The training loop of a metanetwork."""

import collections
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax import compilation, devices, io
from scalegmn_jax.base import InputError, Interrupted, MetaNetwork, Params
from scalegmn_jax.training import optimizer as optimizers
from scalegmn_jax.training.checkpoints import Checkpoints
from scalegmn_jax.training.metrics import Metrics, Tracker
from scalegmn_jax.training.step import (
  Objective,
  TrainState,
  from_stored,
  init_state,
  keep_best,
  make_step,
  to_stored,
)

Watch = Callable[[int, Mapping[str, float]], None]
"""(steps taken, metrics of a validation) -> None. An exception that it raises
ends the training; the checkpoint of this step is on disk."""

OnStep = Callable[[int, str], None]
"""(steps taken, status text) -> None, for instance to move a progress bar. It
may raise `base.Interrupted`."""

MAX_QUEUED = 16
"""The most steps on the way to the devices. Several devices of a CPU deadlock
in collective operations if some hundreds of them are queued."""


def train(
  metanetwork: MetaNetwork,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  data: Any,
  validate: Callable[[Params], Mapping[str, float]],
  *,
  steps: int,
  seed: int,
  workdir: Path,
  log_every: int = 100,
  eval_every: int = 1000,
  patience: int = 100,
  grad_chunk: int | None = None,
  metadata: Mapping[str, Any] | None = None,
  on_step: OnStep | None = None,
  watch: Watch | None = None,
  tracker: Tracker | None = None,
) -> TrainState:
  """Trains the parameters of a metanetwork, or resumes their training.

  A training that was killed at any moment and resumed has the same bits as one
  without interruption, also if the last checkpoint is damaged.

  Args:
    metanetwork: the metanetwork whose parameters φ are trained.
    objective: see `training.step.Objective`; its metrics have an "objective".
    optimizer: see `training.optimizer.make_optimizer`.
    data: input of `objective.draw`; or a function from the number of steps
      taken to that input, for batches that the host makes. The function is
      called while the device is busy with the previous steps.
    validate: φ -> metrics with a "val_objective".
    steps: number of training steps.
    seed: seed of φ and of the random draws.
    workdir: receives `checkpoints/` and `metrics.jsonl`.
    log_every: steps between two rows of metrics.
    eval_every: steps between two validations, each with a checkpoint. The last
      step is always one of them.
    patience: consecutive updates with a non-finite gradient that end the
      training.
    grad_chunk: networks differentiated at a time, see `training.step.gradient`.
    metadata: JSON values, saved with every checkpoint.
    on_step: called before the first step and after every step.
    watch: called after every validation.
    tracker: receives every row of `metrics.jsonl`; the caller closes it.

  Raises:
    InputError: the gradient stays non-finite, or no validation was finite.
    Interrupted: `on_step` raised it; the checkpoint of this step is on disk.
  """
  seed = jax.device_put(np.uint32(seed))
  io.make_folder(workdir)
  k_init, k_run = jax.random.split(jax.random.key(seed))
  # One program, so that constants of the optimizer's state are not transferred.
  initial = compilation.run_once(
    lambda key: init_state(metanetwork.init(key), optimizer)
  )
  state = initial(k_init)
  keep = compilation.run_once(keep_best)
  checkpoints = Checkpoints(workdir / "checkpoints")
  try:
    stored = checkpoints.restore(to_stored(state))
    if stored is not None:
      state = from_stored(stored, state)
    state = devices.replicate(state)
    if not callable(data):
      data = devices.replicate(data)
    start = int(_number(state.step))
    best = _number(state.best_objective)
    metrics = Metrics(workdir / "metrics.jsonl", start, tracker)
    step = make_step(objective, optimizer, grad_chunk=grad_chunk)
    if on_step is not None:
      on_step(start, "")
    rows = _Rows(metrics, start, patience)
    queued = collections.deque()
    for number in range(start + 1, steps + 1):
      inputs = devices.replicate(data(number - 1)) if callable(data) else data
      state, values = step(state, k_run, inputs)
      queued.append(values["objective"])
      if len(queued) > MAX_QUEUED:
        jax.block_until_ready(queued.popleft())
      evaluate = number % eval_every == 0 or number == steps
      log = evaluate or number % log_every == 0
      if log or rows.arrived():
        rows.write()
      if log:
        rows.begin(number, values, state)
      if evaluate:
        rows.wait()
        validation = validate(state.params)
        val_objective = np.float32(validation["val_objective"])
        state = keep(state, jax.device_put(val_objective))
        best = _number(state.best_objective)
        # Rows before checkpoints: a checkpoint has its rows on disk.
        rows.write(validation)
        checkpoints.save(number, to_stored(state), metadata or {})
        if watch is not None:
          watch(number, validation)
        rows.restart_clock(number)
      if on_step is not None:
        try:
          on_step(number, rows.status(best))
        except Interrupted:
          rows.write()
          checkpoints.save(number, to_stored(state), metadata or {})
          raise
  finally:
    checkpoints.close()
  if not np.isfinite(best):
    raise InputError(f"{workdir}: no validation had a finite objective")
  return state


def _number(scalar: jax.Array) -> float:
  return float(jax.device_get(scalar))


class _Rows:
  """Rows of `metrics.jsonl` on their way from the device to the file.

  A row begins when its step has been dispatched to the device and is written
  when its numbers have arrived, at the latest before the next row begins. While
  the host waits for a row, the device has the steps of one log interval queued.
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
    # Copies: the next step donates the buffers of the state.
    in_a_row, total = map(jnp.copy, optimizers.skipped(state.optimizer))
    self._row = values | {"in_a_row": in_a_row, "skipped": total}
    self._step, self._arrival = step, None
    for value in self._row.values():
      value.copy_to_host_async()

  def arrived(self) -> bool:
    """Whether a row is ready to be written without waiting."""
    if self._row is None:
      return False
    values: Any = self._row.values()  # `is_ready` is not in jax's types
    return all(value.is_ready() for value in values)

  def wait(self) -> float:
    """Waits for the numbers of the row; returns the time of their arrival."""
    if self._arrival is None:
      jax.block_until_ready(self._row)
      self._arrival = time.perf_counter()
    return self._arrival

  def write(self, more: Mapping[str, float] | None = None) -> None:
    """Writes the pending row, if any, with the values of `more`.

    Raises:
      InputError: the gradient has not been finite for `patience` steps.
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
        "all); try a lower learning rate, or look for extreme weights among "
        "the networks"
      )
    rate = (self._step - self._since) / (arrival - self._clock)
    values["steps_per_second"] = rate
    self._metrics.write(self._step, values | dict(more or {}))
    self._objective = values["objective"]
    self._clock, self._since = arrival, self._step

  def status(self, best: float) -> str:
    """The last logged objective and the best validation objective, as text."""
    if self._objective is None:
      return ""
    return f"{self._objective:.3f}, val {best:.3f}"
