"""An experiment of a second, which has every phase of a long one.

A zoo in parts, a training, and a measurement that is kept row by row; what
takes long elsewhere is a pause of `config.pause` seconds here.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runner import interrupt, progress
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax import batched, devices, processes, streaming
from scalegmn_jax.base import InputError, Operator
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.trained import TrainedOperator
from scalegmn_jax.training.step import Objective
from scalegmn_jax.zoo import codec, parts, store

TARGET = mlp((1, 1, 1))
SIZE = codec.layout_of(TARGET).size


def double():
  """An operator that doubles weights."""

  def apply(params, weights, activation=0):
    del params, activation
    return jax.tree.map(lambda w: 2 * w, weights)

  return TrainedOperator(TARGET, Operator(lambda key: {}, apply), {}, {})


def check(config):
  """Every value is possible."""


def label(row):
  return row["method"]


def plan(config):
  def pause():
    time.sleep(config.pause)

  def fault(phase):
    if config.fault == phase:
      raise InputError(f"all fail in {phase}")
    if config.fault == f"{phase} 1" and processes.index() == 1:
      raise ZeroDivisionError(f"process 1 fails in {phase}")

  draw = jax.jit(
    lambda index: batched.map_networks(
      lambda i: jax.random.normal(jax.random.key(i), (SIZE,)), index
    )
  )

  def make(index, partial):
    partial.check()
    pause()
    columns = {"step": np.zeros(len(index), int)}
    columns["config.activation"] = np.array(["relu"] * len(index))
    return parts.Part(np.asarray(draw(index)), columns)

  with progress.bar("zoo", 4) as advance:
    files = parts.assemble(
      Path(config.cache), {"pause": config.pause}, codec.layout_of(TARGET),
      make, size=12, save_every=3, on_kept=advance, check=interrupt.check,
    )  # fmt: skip
  fault("plan")

  def loss(params, row, _):
    value = jnp.sum((params["a"] - row) ** 2)
    return value, {"objective": value}

  measure = batched.apply_batched(
    lambda params, row: jnp.sum((params["a"] - row) ** 2)
  )
  rows = devices.replicate(np.array(files.weights))

  def validate(params):
    pause()
    fault("training")
    return {"val_objective": float(measure(params, rows).mean())}

  job = TrainingJob(
    Operator(lambda key: {"a": jax.random.normal(key, (SIZE,))}, lambda p: p),
    Objective(
      lambda key, step, data: (
        data[jax.random.randint(key, (4,), 0, len(data))],
        (),
      ),
      loss,
    ),
    rows,
    validate,
    config.train.steps,
    config.seed,
  )

  def evaluate(params, partial):
    def row(name):
      pause()
      fault("evaluation")
      distances = measure(params["vector"], rows)
      return {"method": name, "distance": float(distances.max())}

    def edited():
      """A zoo of which each process reads and edits its share."""
      out = Path(config.cache) / f"edited-{processes.count()}-{config.pause}"
      with devices.spread(jax.local_devices()):
        streaming.edit_zoo(double(), files.path, out)
      processes.see(out)
      weights = store.read_zoo(out).weights
      return {"method": "edited", "distance": float(np.std(weights))}

    found = [
      partial.remember_row(str(i), lambda i=i: row(str(i))) for i in range(8)
    ]
    found.append(partial.remember_row("edited", edited))
    columns = {"distance": ("distance", "{:.3f}")}
    table = Table("distances", columns, found, ["distance"])
    return Outcome([table], [], {}, {})

  return Plan({"vector": job}, evaluate)
