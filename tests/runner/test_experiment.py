"""The protocol of experiments, and training with restarts."""

import importlib
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import cnn, common, multi_task
from experiments import predict
from experiments.runner import comparison, experiment
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax.base import InputError, Operator
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.io import as_path
from scalegmn_jax.partial import Result
from scalegmn_jax.saved import save_functional
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training.step import Objective

CONFIGS = [
  path.stem
  for path in sorted((pathlib.Path(__file__).parents[2] / "configs").iterdir())
  if path.suffix == ".py" and path.stem not in ("common", "bench")
]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_of_an_experiment(name):
  """The values of the config and of all its variants pass the checks."""
  module = importlib.import_module(f"configs.{name}")
  for variant in ("", *module.VARIANTS):
    config = module.get_config(variant)
    loaded = experiment.load_experiment(config)
    assert loaded.check(config) is None
    assert callable(loaded.plan) and callable(loaded.label)


def test_every_experiment_has_a_config():
  names = {
    importlib.import_module(f"configs.{name}").get_config().experiment
    for name in CONFIGS
  }
  assert names == set(experiment.list_experiments())


def test_the_default_has_orders_of_each_networks_own():
  for variants in ("", "full", "tiny"):
    config = cnn.get_config(variants)
    assert config == multi_task.get_config(variants)
    assert config.zoo.classes_per_network == (10, 10)
  for variants in ("one_task", "tanh", "resnet", "tiny,vit", "full,tanh"):
    config = cnn.get_config(variants)
    assert not config.zoo.classes_per_network and not config.model.classes
    assert config == cnn.get_config(f"one_task,{variants}")
    assert config.train.restarts == 1


def test_variants_compose_from_left_to_right():
  config = cnn.get_config("cifar10_gs,tanh,tiny")
  assert config.data.name == "cifar10_gs"
  assert config.target.activation == ("tanh",)
  assert config.target.channels == (4, 4)
  assert config.train.learning_rate == 5e-3 and config.train.steps == 30
  other = cnn.get_config("tiny,cifar10_gs")
  assert other.target.channels == (16, 16, 16)
  with pytest.raises(ValueError, match="configs/cnn.py has no variant 'gs'"):
    cnn.get_config("tiny,gs")


OWN = """
from experiments.runner.experiment import Plan

def check(config):
  pass

def plan(config):
  return Plan({}, lambda params, partial: None)
"""


def test_an_experiment_in_a_module_of_the_user(tmp_path, monkeypatch, config):
  (tmp_path / "their_package").mkdir()
  module = tmp_path / "their_package" / "study.py"
  module.write_text(OWN + "def label(row):\n  return row['method']\n")
  (tmp_path / "their_package" / "half.py").write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)
  config.experiment = "their_package.study"
  loaded = experiment.load_experiment(config)
  assert loaded.label({"method": "a"}) == "a"
  assert not loaded.plan(config).jobs
  config.experiment = "their_package.half"
  with pytest.raises(InputError, match=r"their_package.half has no label\(\)"):
    experiment.load_experiment(config)


@pytest.mark.parametrize("name", ("dream", "no.such.module", "", "a..b"))
def test_unknown_experiments(name, config):
  config.experiment = name
  with pytest.raises(
    InputError, match="expected one of ablation, classify_inr"
  ):
    experiment.load_experiment(config)


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
  """Training without change; its validation objective is the initial value."""

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


def test_a_run_in_a_bucket(config, job, bucket, monkeypatch, capsys):
  """It is finished, shown again, compared, and what it saved is found."""
  target, model = mlp((2, 3, 2)), {"width": 4, "depth": 1}
  metanetwork = metanetworks.functional(target, **model)

  def save(folder, _):
    params = metanetwork.init(jax.random.key(0))
    save_functional(folder / "operator", target, model, params)

  def evaluate(params, partial):
    partial.remember("a part", lambda _: Result({"a": params["operator"]["a"]}))
    row = {"method": "ours", "loss": 0.5}
    table = Table("loss", {"loss": ("loss", "{}")}, [row], ["loss"])
    return Outcome([table], ["a line"], {"empty.png": Figure()}, {})

  module = types.SimpleNamespace(
    check=lambda config: None,
    plan=lambda config: Plan({"operator": job._replace(save=save)}, evaluate),
    label=lambda row: row["method"],
  )
  monkeypatch.setattr(experiment, "load_module", lambda name: module)
  folder = as_path(bucket)
  experiment.run(config, folder)
  assert f"pictures and trained metanetworks are in {bucket}" in (
    capsys.readouterr().out
  )
  names = {path.name for path in folder.iterdir()}
  assert names == {
    "config.json", "empty.pdf", "empty.png", "operator", "results.json",
    "results.md", "trained.json", "training.pdf", "training.png",
  }  # fmt: skip
  experiment.run(config, folder)
  assert "finished before" in capsys.readouterr().out
  run = comparison.load(folder)
  assert run.name == "study" and run.results["lines"] == ["a line"]
  assert predict.functional_of_run(bucket).target.spec == target.spec


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

  again, _, repeated = experiment.train_best(
    config, "operator", job._replace(validate=fail), tmp_path
  )
  jax.tree.map(np.testing.assert_array_equal, params, again)
  assert repeated == objectives


def test_one_start_is_the_first_of_several(config, job, tmp_path):
  one = experiment.train_best(config, "operator", job, tmp_path / "one")
  config.train.restarts = 2
  two = experiment.train_best(config, "operator", job, tmp_path / "two")
  assert one[2] == two[2][:1]
  assert (tmp_path / "one" / "operator" / "metrics.jsonl").exists()


def test_a_key_that_the_config_lacks_is_named(tmp_path):
  config = cnn.get_config("tiny")
  with config.unlocked():
    del config.train["steps"]
  with pytest.raises(InputError, match="the config has no key 'steps', which"):
    experiment.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
