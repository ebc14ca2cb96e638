"""Mistakes of users: one line each, and nothing is overwritten."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from configs import cnn, mlp
from experiments.runner import experiment, workdir
from scalegmn_jax import load_operator, saved
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec

ROOT = pathlib.Path(__file__).parents[2]

VALUES = [
  ({"train.steps": 0}, "train.steps is 0"),
  ({"train.warmup": 99}, "config.train.warmup is 99, expected less than"),
  ({"train.seeds": (1, 1)}, "config.train.seeds is (1, 1)"),
  ({"train.clip": 0.0}, "config.train.clip is 0.0"),
  ({"train.learning_rate": -1.0}, "train.learning_rate is -1.0"),
  (
    {"train.batch_networks": 0},
    "config.train.batch_networks is 0, expected a whole number from 1",
  ),
  ({"train.grad_chunk": 3}, "0 or a divisor of train.batch_networks"),
  ({"model.edge_block": 0}, "edge_block is 0"),
  ({"loss.l1": -0.1}, "loss.l1 is -0.1"),
  ({"loss.penalty": "l2"}, "loss.penalty is 'l2', expected one of balanced"),
  ({"data.name": "cifar"}, "cifar"),
  ({"target.name": "rnn"}, "unknown target network 'rnn'"),
  ({"target.activation": ("relu6",)}, "config.target.activation is ('relu6',)"),
  ({"target.padding": "FULL"}, "config.target.padding is 'FULL'"),
  ({"target.channels": (4, 0)}, "channels"),
  ({"target.stride": 9, "target.padding": "VALID"}, "are too small"),
  ({"model.symmetry": "none"}, "symmetry is 'none'"),
  ({"model.backward": "edge"}, "backward is 'edge'"),
  ({"model.width": 0}, "config.model.width is 0"),
  ({"zoo.size": 0}, "zoo.size is 0"),
  ({"zoo.fractions": (0.9, 0.2, 0.1)}, "config.zoo.fractions is (0.9"),
  ({"zoo.dropout": (0.5, 1.0)}, "config.zoo.dropout"),
  ({"zoo.optimizer": ("lion",)}, "config.zoo.optimizer"),
  (
    {"zoo.classes_per_network": (3, 2)},
    "config.zoo.classes_per_network is (3, 2), expected (), or low <= high",
  ),
  (
    {"zoo.classes_per_network": (2, 11)},
    "classes_per_network is (2, 11), expected at most 10",
  ),
  (
    {"zoo.outputs_per_network": (2, 3)},
    "outputs_per_network is (2, 3) without classes_per_network",
  ),
  (
    {"data.name": "digits+digits"},
    "several image sets: config.zoo.classes_per_network",
  ),
  ({"data.limit": (5, 5)}, "config.data.limit is (5, 5), expected (), or 3"),
  ({"data.side": -1}, "config.data.side is -1"),
  (
    {"loss.ramp": (0.6, 0.1)},
    "config.loss.ramp is (0.6, 0.1), expected",
  ),
  ({"loss.supervision": "logits"}, "config.loss.supervision is 'logits'"),
  ({"model.classes": -1}, "classes is -1"),
  ({"model.class_combinations": True}, "class_combinations is True with"),
  ({"train.restarts": 0}, "config.train.restarts is 0"),
  ({"train.image_noise": -0.1}, "config.train.image_noise is -0.1"),
  ({"zoo.path": "nowhere"}, "nowhere"),
  ({"ood.size": -1}, "config.ood.size is -1"),
  ({"ood.dropout": (0.5, 1.0)}, "config.ood.dropout"),
  ({"ood.batch_size": 9999}, "config.ood.batch_size is 9999"),
  ({"ood.paths": ("gone",)}, "gone: no such folder"),
  ({"ood.paths": ("gone.npy",)}, "gone.npy"),
  ({"baselines.learning_rates": ()}, "config.baselines.learning_rates"),
  ({"baselines.methods": (("lbfgs", "constant"),)}, "lbfgs"),
  ({"seed": -1}, "config.seed is -1"),
  ({"experiment": "dream"}, "config.experiment is 'dream', expected one of"),
]


def settings(changes, name="cnn"):
  if name == "cnn":
    config = cnn.get_config("one_task,tiny")
  else:
    config = mlp.get_config("tiny")
  config.zoo.size = 8
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize(("changes", "message"), VALUES)
def test_impossible_values(changes, message, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  with pytest.raises(InputError) as error:
    experiment.run(settings(changes), tmp_path / "run")
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def tiny_target():
  """The target of configs/mlp.py:tiny on digits."""
  return make_target(
    {"name": "mlp", "sizes": [64, 6, 6, 10], "activation": ["relu"]}
  )


def write_zoo(folder, target, rows=8, activation="relu", spoil=None):
  size = codec.layout_of(target).size
  weights = np.random.default_rng(0).normal(size=(rows, size)) * 0.1
  metrics = pd.DataFrame(
    {
      "modeldir": [f"run{i}" for i in range(rows)],
      "step": 1,
      "config.activation": activation,
    }
  )
  codec.write_networks(
    folder, target, codec.to_weights(target, weights), metrics
  )
  if spoil:
    spoil(folder)
  return folder


def truncate(folder):
  file = folder / "weights.npy"
  file.write_bytes(file.read_bytes()[:1000])


def put_nan(folder):
  weights = np.load(folder / "weights.npy", allow_pickle=False)
  weights[3, 7] = np.nan
  np.save(folder / "weights.npy", weights)


def drop_metrics_row(folder):
  file = folder / "metrics.csv.gz"
  pd.read_csv(file)[:-1].to_csv(file, index=False)


def with_tasks(*tasks):
  def spoil(folder):
    file = folder / "metrics.csv.gz"
    rows = pd.read_csv(file)
    rows["config.classes"] = [tasks[i % len(tasks)] for i in range(len(rows))]
    rows.to_csv(file, index=False)

  return spoil


ZOOS = [
  ({"spoil": truncate}, "weights.npy"),
  ({"spoil": put_nan}, "row 3 (1 of "),
  ({"spoil": drop_metrics_row}, "7 rows, expected 8"),
  ({"spoil": lambda f: (f / "layout.csv").unlink()}, "layout.csv"),
  ({"activation": "tanh"}, "activations of 'tanh'"),
  ({"rows": 2}, "2 runs split"),
  ({"spoil": with_tasks("1 0 two")}, "config.classes is '1 0 two', expected"),
  (
    {"spoil": with_tasks("1 0 -1", "0 1 -1", "1 1 0", "-1 0 1")},
    "config.classes has 3 classes, the images 'digits' have 10",
  ),
]


@pytest.mark.parametrize(("arguments", "message"), ZOOS)
def test_bad_zoo_files(arguments, message, tmp_path):
  path = write_zoo(tmp_path / "zoo", tiny_target(), **arguments)
  config = settings({"zoo.path": str(path)}, "mlp")
  config.zoo.fractions = (0.5, 0.25, 0.25)
  with pytest.raises(InputError) as error:
    experiment.run(config, tmp_path / "run")
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def test_zoo_of_another_width(tmp_path):
  other = make_target({"name": "mlp", "sizes": [64, 7, 6, 10]})
  path = write_zoo(tmp_path / "zoo", other)
  with pytest.raises(InputError, match="layout.csv: networks of weights"):
    experiment.run(settings({"zoo.path": str(path)}, "mlp"), tmp_path / "run")


def test_workdir_with_something_else_in_it(tmp_path):
  (tmp_path / "thesis.tex").write_text("precious")
  with pytest.raises(InputError, match="not empty"):
    experiment.run(settings({}), tmp_path)
  assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_workdir_of_the_same_config(tmp_path):
  workdir.claim(tmp_path / "run", settings({}))
  before = (tmp_path / "run" / "config.json").read_bytes()
  assert json.loads(before)["zoo"]["size"] == 8
  workdir.claim(tmp_path / "run", settings({}))
  assert (tmp_path / "run" / "config.json").read_bytes() == before


@pytest.mark.parametrize(
  "changes", ({"baselines.epochs": (1, 3)}, {"ood.size": 2})
)
def test_other_baselines_are_for_measuring_again(changes, tmp_path):
  workdir.claim(tmp_path / "run", settings({}))
  before = (tmp_path / "run" / "config.json").read_bytes()
  workdir.claim(tmp_path / "run", settings(changes), again=True)
  # The config changes with the results, not before.
  assert (tmp_path / "run" / "config.json").read_bytes() == before
  with pytest.raises(InputError, match="holds a run with"):
    workdir.claim(tmp_path / "run", settings(changes))


@pytest.mark.parametrize(
  "changes",
  ({"baselines.metanetworks": ("mlp",)}, {"loss.l1": 0.5}, {"zoo.size": 9}),
)
def test_what_is_trained_stays(changes, tmp_path):
  workdir.claim(tmp_path / "run", settings({}))
  ((key, _),) = changes.items()
  with pytest.raises(InputError, match=f"holds a run with {key} = "):
    workdir.claim(tmp_path / "run", settings(changes), again=True)


def save_tiny_operator(folder, target):
  model = {"width": 4, "depth": 1}
  metanetwork = metanetworks.operator(target, **model)
  params = jax.jit(metanetwork.init)(jax.random.key(0))
  return saved.save_operator(folder, target, model, params), model


def test_nothing_to_measure_again(tmp_path):
  with pytest.raises(InputError, match="no trained metanetwork to measure"):
    experiment.run(settings({}), tmp_path / "run", eval_only=True)
  assert not (tmp_path / "run").exists()


def test_no_operator_here(tmp_path):
  with pytest.raises(InputError, match="no trained operator here"):
    load_operator(tmp_path)


@pytest.mark.parametrize("cut", (0, 100, 2000))
def test_damaged_operator(cut, tmp_path):
  path, model = save_tiny_operator(tmp_path, tiny_target())
  assert load_operator(tmp_path).model == model
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(InputError, match="expected a trained operator"):
    load_operator(tmp_path)


COMMANDS = [
  (["experiments.run"], "--config"),
  (["experiments.run", "--config=configs/none.py"], "none.py"),
  (
    ["experiments.run", "--config=configs/cnn.py:full,huge"],
    "configs/cnn.py has no variant 'huge': expected some of one_task",
  ),
  (
    ["experiments.run", "--config=configs/bench.py"],
    "configs/bench.py: not the config of an experiment",
  ),
  (
    ["experiments.sweep", "--config=configs/bench.py"],
    "configs/bench.py: not the config of an experiment",
  ),
  (
    ["experiments.run", "--config=configs/cnn.py", "--config.train.stops=1"],
    "train.stops",
  ),
  (
    ["experiments.run", "--config=configs/cnn.py", "--config.seed=one"],
    "config.seed",
  ),
  (["experiments.run", "--config=configs/cnn.py", "extra"], "extra"),
  (
    [
      *("experiments.run", "--config=configs/cnn.py:tiny"),
      "--workdir=pyproject.toml/below",
    ],
    "error: pyproject.toml/below",
  ),
  (
    [
      *("experiments.run", "--config=configs/cnn.py:tiny"),
      f"--workdir={'n' * 300}",
    ],
    "error: nnn",
  ),
  (
    ["experiments.apply", "--zoo.path=x", "--out=y"],
    "expected --workdir or --operator, neither is given",
  ),
  (
    ["experiments.predict", "--functional=x", "--zoo.path=y"],
    "--out is needed",
  ),
]


def test_nobody_reads_the_output():
  """As in `python -m experiments.run --list | head -1`."""
  process = subprocess.Popen(
    [sys.executable, "-m", "experiments.run", "--list"],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None and process.stderr is not None
  process.stdout.close()
  with process.stderr:
    assert process.stderr.read() == ""
  assert process.wait() == 141


def is_one_line(status, err, message):
  return (
    status == 1
    and message in err
    and "Traceback" not in err
    and len(err.strip().splitlines()) == 1
  )


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_bad_command_lines(arguments, message, program):
  status, _, err = program(*arguments)
  assert is_one_line(status, err, message), (status, err)


def test_a_bad_command_line_ends_the_process():
  arguments, message = COMMANDS[2]
  result = subprocess.run(
    [sys.executable, "-m", *arguments],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert is_one_line(result.returncode, result.stderr, message), result
