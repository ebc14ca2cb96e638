"""Runs of two processes: the same numbers, signals, kills and errors."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from scalegmn_jax import processes
from scalegmn_jax.base import InputError
from scalegmn_jax.training import metrics

ROOT = pathlib.Path(__file__).parents[2]

# A dead process is noticed after this time, instead of a minute.
PROGRAM = """
import runpy, sys
from scalegmn_jax import processes
processes.HEARTBEAT_SECONDS = 4
sys.argv = ["run", *sys.argv[1:]]
runpy.run_module("experiments.run", run_name="__main__")
"""


IMPATIENT = PROGRAM.replace(
  "HEARTBEAT_SECONDS = 4", "CONNECT_SECONDS, processes.NOTE_SECONDS = 4, 1"
)


def slurm(index):
  """The variables that `srun` sets for a task of two on this host."""
  return {
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
    "SLURM_STEP_NUM_NODES": "1",
  }


def by_address(index):
  return {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}


class Cluster:
  """Starts runs that share a cache, each as one process or as two."""

  def __init__(self, folder):
    self._folder = folder

  def start(self, name, *more, count=2, variables=by_address, program=PROGRAM):
    """The processes of a run with the workdir `name`; two devices each."""
    number = random.randrange(4096)
    shared = {"JAX_NUM_CPU_DEVICES": "2", "SLURM_JOB_ID": str(number)}
    if variables is by_address and count > 1:
      shared["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{20000 + number}"
    return [
      subprocess.Popen(
        [
          *(sys.executable, "-c", program),
          "--config=tests/runner/cluster/config.py",
          f"--config.cache={self._folder / 'cache'}",
          f"--workdir={self._folder / name}",
          *(argument.format(index=i) for argument in more),
        ],
        cwd=ROOT,
        env=os.environ | shared | (variables(i) if count > 1 else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(count)
    ]

  def files(self, name, pattern):
    return list((self._folder / name).glob(pattern))

  def rows(self, name):
    return metrics.read(self._folder / name / "vector" / "metrics.jsonl")

  def distances(self, name):
    results = json.loads((self._folder / name / "results.json").read_text())
    return [row["distance"] for row in results["tables"][0]["rows"]]


def ended(started, seconds=120):
  """[(exit status, standard error)] of processes that end by themselves."""
  try:
    errors = [process.communicate(timeout=seconds)[1] for process in started]
  finally:
    for process in started:
      process.kill()
  return [(p.returncode, e) for p, e in zip(started, errors, strict=True)]


def wait_for(started, condition):
  end = time.monotonic() + 120
  while not condition():
    for process in started:
      assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.02)


def errors_of(text):
  return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  return Cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def one(cluster):
  """The run of one process, without interruption."""
  assert ended(cluster.start("one", count=1))[0][0] == 0
  return cluster.distances("one"), cluster.rows("one")


def same(cluster, name, one):
  """Whether a run has the numbers of the run of one process."""
  distances, rows = one
  np.testing.assert_allclose(cluster.distances(name), distances, 1e-6)
  ours = cluster.rows(name)
  assert [row["step"] for row in ours] == [row["step"] for row in rows]
  for key in ("objective", "val_objective"):
    np.testing.assert_allclose(
      [row[key] for row in ours], [row[key] for row in rows], 1e-5
    )


def test_two_tasks_of_slurm_make_the_run_of_one_process(cluster, one):
  started = cluster.start("slurm", variables=slurm)
  outputs = [process.communicate(timeout=120) for process in started]
  assert [process.returncode for process in started] == [0, 0], outputs
  assert "on 4 x cpu" in outputs[0][0]
  assert "workdir" in outputs[0][0] and "workdir" not in outputs[1][0]
  same(cluster, "slurm", one)


def test_signals_and_kills_lose_nothing(cluster, one):
  """SIGTERM in zoo, training and evaluation, SIGKILL, then one process."""
  slow = ("--config.pause=0.2",)
  cache = cluster.start("cut", *slow)
  wait_for(cache, lambda: cluster.files("cache", "*.unfinished/*.npz"))
  cache[1].send_signal(signal.SIGTERM)
  statuses = ended(cache)
  assert [status for status, _ in statuses] == [75, 75], statuses
  assert "stopped by SIGTERM; the same command goes on" in statuses[0][1]

  training = cluster.start("cut", *slow)
  wait_for(training, lambda: len(cluster.rows("cut")) >= 3)
  training[0].send_signal(signal.SIGINT)
  assert [status for status, _ in ended(training)] == [75, 75]
  assert 3 <= len(cluster.rows("cut")) < 20

  evaluation = cluster.start("cut", *slow)
  wait_for(evaluation, lambda: cluster.files("cut", "measured/*/*.npz"))
  evaluation[1].kill()
  survivor, _ = ended(evaluation, 60)
  assert survivor[0] != 0
  assert not cluster.files("cut", "results.json")

  assert ended(cluster.start("cut", *slow, count=1))[0][0] == 0
  same(cluster, "cut", one)


@pytest.mark.parametrize("fault", ["training 1", "plan"])
def test_an_error_ends_all_with_one_line(fault, cluster):
  start = time.monotonic()
  statuses = ended(cluster.start(fault, f"--config.fault={fault}"), 60)
  assert time.monotonic() - start < 45
  assert [status for status, _ in statuses] == [1, 1]
  lines = [line for _, text in statuses for line in errors_of(text)]
  if fault == "plan":
    (line,) = lines  # the same error in both
    assert line.endswith("all fail in plan")
  else:
    assert "error: process 1: process 1 fails in training" in lines


@pytest.mark.parametrize("flag", ["workdir", "config.cache"])
def test_a_folder_that_is_not_shared_is_one_line(flag, cluster, tmp_path):
  program = PROGRAM.replace("HEARTBEAT_SECONDS = 4", "VISIBLE_SECONDS = 1")
  folder = f"--{flag}={tmp_path}/of-{{index}}"
  statuses = ended(cluster.start("apart", folder, program=program))
  assert [status for status, _ in statuses] == [1, 1]
  (line,) = [line for _, text in statuses for line in errors_of(text)]
  assert "process 1 does not see it; expected a folder that all hosts" in line


def test_a_missing_process_is_named(cluster):
  started = cluster.start("missing", program=IMPATIENT)
  started[1].kill()
  status, errors = ended(started)[0]
  assert status != 0
  assert (
    "still waiting for the other processes; this one ends after 4" in errors
  )


@pytest.mark.parametrize(
  ("variables", "message"),
  [
    ({}, "--distributed=on: no connection to the other processes"),
    ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two', expected an"),
  ],
)
def test_missing_variables_are_one_line(variables, message, monkeypatch):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(InputError, match=message):
    processes.connect("on")
