"""The training loop: its files, and no waiting for the host."""

import gc
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Interrupted, Networks, Operator
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training import loop as training
from scalegmn_jax.training import metrics
from scalegmn_jax.training import step as steps
from scalegmn_jax.training.objectives import amortized_objective
from scalegmn_jax.training.optimizer import make_optimizer

STEPS = 20


def init(key):
  return {"a": jax.random.uniform(key, (4,), minval=0.3, maxval=0.5)}


def draw(key, step, data):
  """Two rows of the data."""
  return data[jax.random.randint(key, (2,), 0, data.shape[0])], ()


def distance(params, row, _):
  value = jnp.sum((params["a"] - row) ** 2)
  return value, {"objective": value}


def root(params, row, _):
  """A loss whose gradient is not finite for negative parameters."""
  value = jnp.sum(jnp.sqrt(params["a"])) + 0 * jnp.sum(row)
  return value, {"objective": value}


def rows_of_data():
  return jax.device_put(
    np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  )


def fit(workdir, data, loss=distance, stop=None, patience=100, log_every=5):
  """Trains a vector; the validation objective is its least entry.

  With `stop`, a wish to end arrives during that step.
  """
  taken = 0

  def on_step(step, text):
    nonlocal taken
    del step, text
    taken += 1  # the first call is before the first step
    if stop is not None and taken > stop:
      raise Interrupted("stopped by a test")

  return training.train(
    Operator(init, lambda params: params),
    steps.Objective(draw, loss),
    make_optimizer(
      learning_rate=0.1, steps=STEPS, warmup=1, weight_decay=0.0, clip=10.0
    ),
    data,
    lambda params: {"val_objective": float(jax.device_get(params["a"]).min())},
    steps=STEPS,
    seed=0,
    workdir=workdir,
    log_every=log_every,
    eval_every=10,
    patience=patience,
    on_step=on_step,
  )


def written(workdir):
  rows = metrics.read(workdir / "metrics.jsonl")
  assert all(row.pop("steps_per_second") > 0 for row in rows)
  return rows


def test_the_loop_transfers_nothing_by_itself(tmp_path):
  """Only explicit transfers: jax.device_put, jax.device_get.

  On a CPU JAX guards transfers to the device only; an implicit transfer to the
  host would fail on an accelerator.
  """
  data = rows_of_data()
  with jax.transfer_guard("disallow"):
    fit(tmp_path / "run", data)
  assert [row["step"] for row in written(tmp_path / "run")] == [5, 10, 15, 20]

  # The guard does see arrays that come from the host.
  with (
    jax.transfer_guard("disallow"),
    pytest.raises(Exception, match="Disallowed host-to-device transfer"),
  ):
    jax.jit(jnp.sin)(np.asarray(data))


def test_going_on_transfers_nothing_by_itself(tmp_path):
  data = rows_of_data()
  with pytest.raises(Interrupted):
    fit(tmp_path, data, stop=7)
  with jax.transfer_guard("disallow"):
    fit(tmp_path, data)
  assert [row["step"] for row in written(tmp_path)] == [5, 10, 15, 20]


def test_a_step_of_an_operator_transfers_nothing():
  target = mlp((3, 8, 2))
  operator = metanetworks.operator(target, width=4, depth=1)
  losses = finetune_losses(target, l1=1e-3)
  task = amortized_objective(operator, losses, batch_networks=2, batch_images=5)
  optimizer = make_optimizer(
    learning_rate=0.1, steps=STEPS, warmup=1, weight_decay=0.1, clip=10.0
  )
  key = jax.random.key(0)
  state = steps.init_state(jax.jit(operator.init)(key), optimizer)
  weights = jax.vmap(target.init)(jax.random.split(key, 6))
  data = jax.device_put(
    (
      Networks(weights, np.zeros(6, np.int32)),
      np.ones((9, 3), np.float32),
      np.zeros(9, np.int32),
    )
  )
  step = steps.make_step(task, optimizer)
  with jax.transfer_guard("disallow"):
    for _ in range(3):
      state, _ = step(state, key, data)
  assert int(state.step) == 3


def test_between_log_steps_nothing_is_fetched(tmp_path, monkeypatch):
  fetched = []

  def device_get(value):
    fetched.append(value)
    return original(value)

  original = jax.device_get
  monkeypatch.setattr(jax, "device_get", device_get)
  fit(tmp_path / "often", rows_of_data(), log_every=1)
  often = len(fetched)
  fetched.clear()
  fit(tmp_path / "seldom", rows_of_data(), log_every=5)
  rows = [len(written(tmp_path / name)) for name in ("often", "seldom")]
  assert rows == [20, 4]
  assert often - len(fetched) == rows[0] - rows[1]


@pytest.mark.parametrize("step", (4, 5, 6, 10, 13))
def test_a_stop_loses_neither_rows_nor_bits(step, tmp_path):
  data = rows_of_data()
  expected = fit(tmp_path / "whole", data)
  with pytest.raises(Interrupted):
    fit(tmp_path / "stopped", data, stop=step)
  kept = [row["step"] for row in written(tmp_path / "stopped")]
  assert kept == [s for s in (5, 10) if s <= step]

  result = fit(tmp_path / "stopped", data)
  jax.tree.map(np.testing.assert_array_equal, result, expected)
  assert written(tmp_path / "stopped") == written(tmp_path / "whole")


@pytest.mark.parametrize("damaged", [(20,), (10, 20)])
def test_a_damaged_checkpoint_loses_neither_rows_nor_bits(
  damaged, tmp_path, caplog
):
  data = rows_of_data()
  expected = fit(tmp_path / "whole", data)
  fit(tmp_path / "damaged", data)
  for step in damaged:
    place = tmp_path / "damaged" / "checkpoints" / str(step)
    for file in place.glob("state/**/d/*"):
      file.write_bytes(b"")
  result = fit(tmp_path / "damaged", data)
  jax.tree.map(np.testing.assert_array_equal, result, expected)
  assert written(tmp_path / "damaged") == written(tmp_path / "whole")
  gc.collect()  # reports the tasks that nobody waits for
  lines = [record.getMessage() for record in caplog.records]
  assert len(lines) == len(damaged)
  then = "goes on from" if damaged == (20,) else "starts over"
  assert all("set aside as" in line and then in line for line in lines)


def test_data_of_every_step(tmp_path):
  """Data from a function of the steps taken, also after a stop."""
  rows = rows_of_data()
  asked = []

  def data(taken):
    asked.append(taken)
    return rows + taken

  expected = fit(tmp_path / "whole", data)
  assert asked == list(range(STEPS))
  with pytest.raises(Interrupted):
    fit(tmp_path / "stopped", data, stop=7)
  result = fit(tmp_path / "stopped", data)
  assert asked == 2 * list(range(STEPS))
  jax.tree.map(np.testing.assert_array_equal, result, expected)
  constant = fit(tmp_path / "constant", rows)
  assert (constant.params["a"] != expected.params["a"]).any()


def test_the_message_names_the_first_bad_step(tmp_path):
  def first_bad_step(name, **arguments):
    with pytest.raises(InputError, match="gradient is not finite") as error:
      fit(tmp_path / name, rows_of_data(), loss=root, **arguments)
    match = re.search(r"since step (\d+) \((\d+) updates", str(error.value))
    assert match
    return int(match[1]), int(match[2])

  step, skipped = first_bad_step("at once", patience=1, log_every=1)
  assert 3 <= step <= 10 and skipped == 1
  late, skipped = first_bad_step("late", patience=3, log_every=5)
  assert late == step and skipped >= 3
  assert all(row["skipped"] < 3 for row in written(tmp_path / "late"))
