"""The search over hyper-parameters: its space, its trials, how it resumes."""

import dataclasses
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import optuna
import pytest

from configs import common
from experiments.runner import experiment, search, workdir
from experiments.runner.experiment import Plan, TrainingJob
from scalegmn_jax.base import InputError, Operator
from scalegmn_jax.training.loop import Interrupted
from scalegmn_jax.training.step import Objective

ROOT = pathlib.Path(__file__).parents[2]


def settings():
  config = common.start("quadratic")
  common.full_model(config)
  common.train(config)
  config.train.steps = 8
  config.train.eval_every = 2
  config.train.log_every = 2
  config.train.warmup = 1
  return config


@dataclasses.dataclass
class Quadratic:
  """An experiment without cost, whose best depth is two.

  Attributes:
    folder: the folder of the sweep.
    broken: {(depth, number of its validation): error that it raises}.
    validated: the depth of every validation.
  """

  folder: pathlib.Path
  broken: dict = dataclasses.field(default_factory=dict)
  validated: list = dataclasses.field(default_factory=list)

  def plan(self, config):
    depth = config.model.depth

    def loss(params, *_):
      value = (params["a"] ** 2).sum()
      return value, {"objective": value}

    def validate(params):
      self.validated.append(depth)
      error = self.broken.get((depth, self.validated.count(depth)))
      if error is not None:
        raise error
      value = float(jax.device_get(params["a"][0]))
      return {"val_objective": (depth - 2) ** 2 + 0.01 * abs(value)}

    job = TrainingJob(
      Operator(lambda key: {"a": jnp.ones(2)}, lambda params: params),
      Objective(lambda key, step, data: (data, ()), loss),
      jax.device_put(jnp.zeros((2, 1))),
      validate,
      config.train.steps,
      0,
    )
    return Plan({"operator": job}, lambda params, partial: None)  # type: ignore

  def sweep(self, trials, *vary):
    config = settings()
    space = search.parse(config, vary)
    workdir.claim(self.folder, search.sweep_config(config, space))
    search.sweep(config, space, self.folder, trials)
    return json.loads((self.folder / "results.json").read_text())


@pytest.fixture
def quadratic(monkeypatch, tmp_path):
  made = Quadratic(tmp_path / "sweep")
  module = types.SimpleNamespace(plan=made.plan)
  monkeypatch.setattr(experiment, "load_experiment", lambda config: module)
  return made


DEPTH = "model.depth=1..3"
RATE = "train.learning_rate=1e-3..1e-1:log"


def test_the_best_trial_is_found(quadratic):
  results = quadratic.sweep(12, DEPTH, RATE)
  rows = results["tables"][0]["rows"]
  assert sorted(row["trial"] for row in rows) == list(range(12))
  assert rows[0]["model.depth"] == 2 and rows[0]["ended"] == "complete"
  assert all(1e-3 <= row["train.learning_rate"] <= 1e-1 for row in rows)
  # Most trials with a wrong depth end early.
  early = [row for row in rows if row["ended"] == "ended early"]
  assert early and all(row["steps"] < 8 for row in early)
  best = "--config.model.depth=2 --config.train.learning_rate="
  assert best in results["lines"][0]
  assert results["lines"][2].startswith("Importance of the keys: ")
  assert (quadratic.folder / "sweep.png").stat().st_size > 0


def test_more_trials_are_added(quadratic):
  quadratic.sweep(2, DEPTH)
  before = len(quadratic.validated)
  assert len(quadratic.sweep(2, DEPTH)["tables"][0]["rows"]) == 2
  assert len(quadratic.validated) == before
  assert len(quadratic.sweep(3, DEPTH)["tables"][0]["rows"]) == 3


def test_an_interrupted_trial_resumes(quadratic):
  quadratic.broken = {(2, 3): Interrupted("stopped")}
  with pytest.raises(Interrupted):
    quadratic.sweep(1, "model.depth=2,2")
  results = quadratic.sweep(1, "model.depth=2,2")
  (row,) = results["tables"][0]["rows"]
  assert row["ended"] == "complete" and row["steps"] == 8
  # Two validations, the interrupted one, and the two remaining ones.
  assert len(quadratic.validated) == 5


def test_a_failed_trial_is_counted_and_the_others_continue(quadratic):
  quadratic.broken = {(1, 1): InputError("the gradient is not finite")}
  rows = quadratic.sweep(6, DEPTH)["tables"][0]["rows"]
  assert len(rows) == 6
  assert rows[-1]["ended"] == "failed: the gradient is not finite"
  assert rows[0]["ended"] == "complete"


def test_an_impossible_config_ends_the_sweep(quadratic):
  def plan(config):
    raise InputError("no such images")

  experiment.load_experiment(settings()).plan = plan
  with pytest.raises(InputError, match="no such images"):
    quadratic.sweep(2, DEPTH)


def test_the_folder_of_another_sweep(quadratic):
  quadratic.sweep(1, DEPTH)
  with pytest.raises(InputError, match="holds a run with sweep.model_depth"):
    quadratic.sweep(1, "model.depth=1,2")


def test_processes_share_trials(quadratic):
  """A trial that another process works on is left to it."""
  config = settings()
  space = search.parse(config, [DEPTH])
  workdir.claim(quadratic.folder, search.sweep_config(config, space))
  study = search._study(quadratic.folder)
  trial = study.ask()
  trial.set_user_attr(search.PLACE, "trials/other")
  with search._lock(quadratic.folder / "trials" / "other"):
    search.sweep(config, space, quadratic.folder, 2)
    states = [t.state for t in search._study(quadratic.folder).trials]
    assert states == [
      optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.COMPLETE
    ]  # fmt: skip


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("train.learning_rat=1..2", "expected one of .*train.learning_rate"),
    ("loss.l1=1..2", "expected one of"),
    ("model.depth", "expected key=low..high"),
    ("model.depth=3..1", "expected key=low..high"),
    ("model.depth=a..b", "expected key=low..high"),
    ("model.depth=1..2:square", "no scale 'square'"),
    ("model.depth=deep,deeper", "expected key=low..high"),
    ("train.learning_rate=0..1:log", "expected key=low..high"),
  ],
)
def test_bad_spaces(text, message):
  with pytest.raises(InputError, match=message):
    search.parse(settings(), [text])


@pytest.mark.parametrize(
  ("workdir", "message"),
  [
    ("", "config.model.width is 0, expected a whole"),
    ("gs://bucket/sweep", "--workdir=gs://bucket/sweep: expected a folder of"),
  ],
)
def test_the_command(workdir, message, tmp_path, program, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  status, _, err = program(
    *("experiments.sweep", "--config=configs/cnn.py:tiny"),
    *("--vary=model.width=0..0", f"--workdir={workdir or tmp_path / 'sweep'}"),
  )
  assert status == 1
  assert message in err
  assert len(err.strip().splitlines()) == 1, err
