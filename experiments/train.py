"""The training loop of an operator."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments import progress
from scalegmn_jax.base import InputError, MetaNetwork
from scalegmn_jax.training import optimizer as optimizers
from scalegmn_jax.training.checkpoints import Checkpoints
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import (
  TrainState,
  init_state,
  keep_best,
  make_step,
)


class Interrupted(Exception):
  """SIGTERM came; the state is in a checkpoint."""


def train(
  operator: MetaNetwork,
  loss: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  data: Any,
  validate: Callable[[Any], dict[str, float]],
  *,
  steps: int,
  workdir: Path,
  config: dict[str, Any],
  label: str = "train operator",
) -> TrainState:
  """Trains, or goes on training, the parameters of an operator.

  Args:
    operator: what is trained.
    loss: (params, key, data) -> (scalar, metrics).
    optimizer: see `training.optimizer`.
    data: whatever `loss` draws its batches from.
    validate: params -> metrics, among them "val_objective".
    steps: of training.
    workdir: gets `checkpoints/` and `metrics.jsonl`.
    config: JSON values, saved with the state; `seed` and how often to log,
      evaluate and give up (`train.*_every`, `train.patience`) are read here.
    label: of the progress bar.

  Raises:
    InputError: updates stay non-finite.
    Interrupted: on SIGTERM, after a checkpoint is on disk.
  """
  c = config["train"]
  k_init, k_run = jax.random.split(jax.random.key(config["seed"]))
  state = init_state(jax.jit(operator.init)(k_init), optimizer)
  checkpoints = Checkpoints(workdir / "checkpoints")
  try:
    if checkpoints.latest() is not None:
      state = checkpoints.restore(state)
      progress.console.print(f"resumed at step {int(state.step)}")
    start = int(state.step)
    metrics = Metrics(workdir / "metrics.jsonl", start)
    step = make_step(loss, optimizer)
    with _sigterm() as stopped, progress.bar(label, steps) as advance:
      advance(count=start)
      clock, since = time.perf_counter(), start
      for number in range(start + 1, steps + 1):
        state, values = step(state, k_run, data)
        evaluate = number % c["eval_every"] == 0 or number == steps
        if evaluate or number % c["log_every"] == 0:
          values = {k: float(v) for k, v in values.items()}
          _check_finite(state, number, c["patience"])
          values["skipped"] = int(optimizers.skipped(state.optimizer)[1])
          rate = (number - since) / (time.perf_counter() - clock)
          values["steps_per_second"] = rate
          if evaluate:
            values |= validate(state.params)
            state = keep_best(state, np.float32(values["val_objective"]))
            checkpoints.save(number, state, config)
          metrics.write(number, values)
          clock, since = time.perf_counter(), number
          advance(
            f"{values['objective']:.3f}, "
            f"val {float(state.best_objective):.3f}",
            count=0,
          )
        advance()
        if stopped():
          checkpoints.save(number, state, config)
          raise Interrupted(f"{workdir}: stopped at step {number} of {steps}")
  finally:
    checkpoints.close()
  if not np.isfinite(state.best_objective):
    raise InputError(f"{workdir}: no validation had a finite objective")
  return state


def _check_finite(state: TrainState, step: int, patience: int) -> None:
  in_a_row, total = optimizers.skipped(state.optimizer)
  if int(in_a_row) >= patience:
    raise InputError(
      f"training: the gradient is not finite since step "
      f"{step - int(in_a_row) + 1} ({int(total)} updates skipped in all); "
      "lower train.learning_rate or look at the zoo"
    )


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
