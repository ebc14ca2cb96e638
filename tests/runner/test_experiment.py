"""What all experiments share: trainings that begin several times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from experiments.runner import experiment
from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import Operator
from scalegmn_jax.training.step import Objective


@pytest.fixture
def config():
  config = common.start("any")
  common.train(config)
  config.train.steps = 4
  config.train.warmup = 1
  config.train.learning_rate = 1e-9
  return config


@pytest.fixture
def job():
  """Stays where it begins; the less that is, the better."""

  def loss(params, *_):
    value = (params["a"] ** 2).sum()
    return value, {"objective": value}

  return TrainingJob(
    Operator(lambda key: {"a": jax.random.normal(key, (2,))}, lambda p: p),
    Objective(lambda key, step, data: (data, ()), loss),
    jax.device_put(jnp.zeros((2, 1))),
    lambda params: {"val_objective": float(jax.device_get(params["a"][0]))},
    4,
    seed=1,
  )


def test_the_best_of_several_starts_is_kept(config, job, tmp_path):
  config.train.restarts = 4
  params, history, objectives = experiment.train_best(
    config, "operator", job, tmp_path
  )
  assert len(set(objectives)) == 4
  best = int(np.argmin(objectives))
  assert best > 0  # or this test would not see that one is chosen
  np.testing.assert_allclose(params["a"][0], objectives[best], rtol=1e-6)
  np.testing.assert_allclose(history[-1]["val_objective"], objectives[best])
  made = {path.name for path in (tmp_path / "operator").iterdir()}
  assert made == {"0", "1", "2", "3"}

  # The same again has nothing left to train.
  def fail(_):
    raise AssertionError("validated again")

  again, _, found = experiment.train_best(
    config, "operator", job._replace(validate=fail), tmp_path
  )
  jax.tree.map(np.testing.assert_array_equal, params, again)
  assert found == objectives


def test_one_start_is_the_first_of_several(config, job, tmp_path):
  one = experiment.train_best(config, "operator", job, tmp_path / "one")
  config.train.restarts = 2
  two = experiment.train_best(config, "operator", job, tmp_path / "two")
  assert one[2] == two[2][:1]
  assert (tmp_path / "one" / "operator" / "metrics.jsonl").exists()
