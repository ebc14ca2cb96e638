"""The run command: killed and resumed, and its files."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import scalegmn_jax
from configs import cnn
from experiments import run
from experiments.finetune.plan import label
from scalegmn_jax.training import metrics
from scalegmn_jax.zoo import codec, store

ROOT = pathlib.Path(__file__).parents[2]

# The tiny MLP run with more and longer steps, so that there is time to kill it.
# Without messages it compiles in half the time.
ARGUMENTS = [
  "--config=configs/mlp.py:tiny",
  "--config.model.depth=0",
  "--config.train.batch_networks=8",
  "--config.train.steps=60",
  "--config.train.eval_every=20",
  "--config.train.log_every=10",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """A separate cache folder; the runs share compiled programs."""
  return os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def start(environment, workdir, *more):
  return subprocess.Popen(
    [
      *(sys.executable, "-m", "experiments.run", *ARGUMENTS),
      *(f"--workdir={workdir}", *more),
    ],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, status=0):
  out, err = process.communicate(timeout=300)
  assert process.returncode == status, err
  return out, err


def results(workdir):
  return json.loads((workdir / "results.json").read_text())


def table(workdir):
  return results(workdir)["tables"][0]["rows"]


def rows(workdir):
  file = workdir / "operator" / "metrics.jsonl"
  return metrics.read(file)


def wait_for(process, condition):
  end = time.monotonic() + 240
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
  """A run without interruption."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  finish(start(environment, workdir))
  return workdir


def test_a_killed_run_ends_with_the_same_bits(environment, finished, tmp_path):
  """SIGKILL in the training, SIGTERM in the evaluation, to the end."""
  workdir = tmp_path / "killed"
  process = start(environment, workdir)
  committed = "operator/checkpoints/*/commit_success.txt"
  wait_for(process, lambda: list(workdir.glob(committed)))
  process.kill()
  process.communicate()

  process = start(environment, workdir)
  wait_for(process, lambda: list(workdir.glob("measured/*/*/*.npz")))
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=300)
  assert process.returncode == 75, err
  assert err.endswith("stopped by SIGTERM; the same command goes on\n")
  assert "resumed at step" in out
  finish(start(environment, workdir))
  assert not (workdir / "measured").exists()

  ours, theirs = (
    np.load(path / "operator.npz", allow_pickle=False)
    for path in (workdir, finished)
  )
  assert set(ours.files) == set(theirs.files) and len(ours.files) > 10
  for name in ours.files:
    np.testing.assert_array_equal(ours[name], theirs[name], strict=True)

  timed = ("steps_per_second",)
  ours, theirs = (
    [{k: v for k, v in row.items() if k not in timed} for row in rows(path)]
    for path in (workdir, finished)
  )
  assert [row["step"] for row in ours] == [10, 20, 30, 40, 50, 60]
  assert ours == theirs

  # The other run compiled the programs, this one read them from the cache.
  cache = pathlib.Path(environment["XDG_CACHE_HOME"], "scalegmn_jax", "xla")
  assert list(cache.glob("*-cache"))
  timed = ("seconds_alone", "seconds_batched")
  ours, theirs = (
    [{k: v for k, v in row.items() if k not in timed} for row in table(path)]
    for path in (workdir, finished)
  )
  assert ours == theirs


def test_results_have_the_agreed_form(finished):
  stored = results(finished)
  assert set(stored) >= {
    "config", "zoo", "tables", "lines", "symmetry_error", "dependence",
    "device", "processor", "versions", "seconds",
  }  # fmt: skip
  assert max(stored["symmetry_error"]["functions"]) <= 1e-4
  assert 0 < stored["seconds"]["compiling"] <= stored["seconds"]["total"]
  for shares in ("read", "written"):
    found = stored["dependence"][shares]
    assert sum(found.values()) == pytest.approx(1)
    assert found["task"] == found["both"] == 0  # all have the same labels
  for begin in (
    "One network in place of all", "What is written, by its outputs",
    "Of the mistakes of the original",
  ):  # fmt: skip
    assert sum(line.startswith(begin) for line in stored["lines"]) == 1
  labels = [label(row) for row in table(finished)]
  for name in (
    "original", "balanced", "operator", "operator, one for all",
    "Adam, 1 epoch", "Adam, 2 epochs",
    "constant: best of the zoo", "constant: one network, 2 epochs",
    "last layer", "operator + last layer", "pretrained + last layer",
  ):  # fmt: skip
    assert name in labels
  keys = {"method", "after", "epochs", "schedule", "source"}
  for row in table(finished):
    assert set(row) - keys == {
      "objective", "gain_over_constant", "cross_entropy", "objective_plain",
      "l1", "l1_balanced", "accuracy_mean", "accuracy_std", "accuracy_min",
      "accuracy_change_min", "sparsity", "accuracy_pruned", "agreement",
      "seconds_alone", "seconds_batched", "data_passes",
    }  # fmt: skip
    assert all(np.isfinite(v) for k, v in row.items() if k not in keys)
    assert row["l1_balanced"] <= row["l1"] * (1 + 1e-5)
  ood = results(finished)["tables"][1]["rows"]
  assert [row["population"] for row in ood[::4]] == ["regauged", "ood"]
  operator, regauged = table(finished)[2], ood[1]
  assert operator["method"] == regauged["method"] == "operator"
  assert regauged["objective"] == pytest.approx(operator["objective"], rel=1e-4)
  original, balanced = table(finished)[:2]
  assert balanced["cross_entropy"] == pytest.approx(original["cross_entropy"])
  assert original["agreement"] == 1
  for picture in ("training", "per_network", "time", "sparsity"):
    assert (finished / f"{picture}.png").stat().st_size > 5000
  text = (finished / "results.md").read_text()
  assert "| operator |" in text and "compiling took" in text


def test_a_finished_run_shows_its_table(environment, finished):
  before = (finished / "results.json").stat().st_mtime_ns
  out, _ = finish(start(environment, finished))
  assert "finished before" in out and "operator" in out
  assert (finished / "results.json").stat().st_mtime_ns == before


def test_another_config_is_refused(environment, finished):
  process = start(environment, finished, "--config.loss.l1=0.5")
  out, err = finish(process, 1)
  assert "holds a run with loss.l1 = 0.001, not 0.5" in err
  assert "Traceback" not in err and len(err.strip().splitlines()) == 1


def test_apply_writes_the_improved_zoo(environment, finished, tmp_path):
  cache = pathlib.Path(environment["XDG_CACHE_HOME"], "scalegmn_jax", "zoos")
  zoo = max(cache.glob("zoo-*"), key=lambda z: len(store.read_zoo(z).weights))
  command = [
    *(sys.executable, "-m", "experiments.apply", f"--workdir={finished}"),
    *(f"--zoo.path={zoo}", f"--out={tmp_path / 'better'}"),
  ]
  arguments = {"cwd": ROOT, "env": environment, "text": True}
  subprocess.run(command, check=True, capture_output=True, **arguments)
  before, after = store.read_zoo(zoo), store.read_zoo(tmp_path / "better")
  assert after.layout == before.layout
  assert (after.metrics.modeldir == before.metrics.modeldir).all()
  assert after.metrics.test_accuracy.isna().all()

  # What it writes is what the library computes.
  operator = scalegmn_jax.load_operator(finished)
  network = codec.load_networks(operator.target, before, np.arange(5, 6))
  expected = jax.vmap(operator)(network.weights, network.activation)
  np.testing.assert_allclose(
    after.weights[5:6], codec.to_rows(expected), rtol=1e-4, atol=1e-5
  )
  assert np.abs(after.weights[5] - before.weights[5]).max() > 1e-3

  again = subprocess.run(command, capture_output=True, **arguments)
  assert again.returncode == 1 and "exists already" in again.stderr


@pytest.mark.parametrize(
  ("width", "processes", "expected"),
  [(31, 1, ["quickly"]), (32, 1, []), (64, 1, ["cores"]), (64, 2, [])],
)
def test_wide_metanetworks_get_cores_and_narrow_ones_quick_compilation(
  width, processes, expected, monkeypatch
):
  calls = []

  def patch(name, word):
    monkeypatch.setattr(run.runtime, name, lambda: calls.append(word))

  monkeypatch.setattr(run.processes, "count", lambda: processes)
  patch("device_per_core", "cores")
  patch("compile_quickly", "quickly")
  config = cnn.get_config("tiny")
  config.model.width = width
  run.prepare_processor(config)
  assert calls == expected
