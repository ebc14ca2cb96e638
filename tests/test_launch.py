"""The launchers: requeued after a signal alone, and variables that are read."""

import os
import pathlib
import subprocess

import pytest
import yaml

from scalegmn_jax import processes

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


@pytest.mark.parametrize(("status", "requeued"), [(0, 0), (1, 0), (75, 1)])
def test_a_slurm_job_is_requeued_after_a_signal(status, requeued, tmp_path):
  for name, line in (
    ("srun", f'echo "$@" >> {tmp_path}/srun.log; exit {status}'),
    ("scontrol", f'echo "$@" >> {tmp_path}/scontrol.log'),
  ):
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
  path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
  done = subprocess.run(
    [LAUNCH / "slurm.sh", "--config=a.py", "--workdir=two words"],
    env=os.environ | {"PATH": path, "SLURM_JOB_ID": "7"},
    check=False,
  )
  assert done.returncode == status
  (command,) = (tmp_path / "srun.log").read_text().splitlines()
  assert command.endswith("--distributed=on --config=a.py --workdir=two words")
  log = tmp_path / "scontrol.log"
  assert log.exists() == bool(requeued)
  if requeued:
    assert log.read_text() == "requeue 7\n"


def test_the_pods_of_a_jobset_connect(monkeypatch):
  job = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())["spec"]
  spec = job["replicatedJobs"][0]["template"]["spec"]
  (container,) = spec["template"]["spec"]["containers"]
  variables = {v["name"]: v.get("value", "2") for v in container["env"]}
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  called = {}
  monkeypatch.setattr(
    processes.jax.distributed, "initialize", lambda **kw: called.update(kw)
  )
  monkeypatch.setattr(processes, "_start_watch", lambda: None)
  processes.connect("auto")
  assert called["num_processes"] == spec["completions"] == spec["parallelism"]
  assert called["process_id"] == 2
  assert called["heartbeat_timeout_seconds"] == 60
  assert called["shutdown_timeout_seconds"] == 60


@pytest.mark.parametrize(
  ("variables", "several"),
  [
    ({}, False),
    ({"SLURM_NTASKS": "4"}, False),  # a batch script without srun
    ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-2]"}, True),
    ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ({"PMI_SIZE": "2"}, True),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
  ],
)
def test_auto_connects_where_there_are_several(variables, several, monkeypatch):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  called = []
  monkeypatch.setattr(
    processes.jax.distributed, "initialize", lambda **kw: called.append(kw)
  )
  monkeypatch.setattr(processes, "_start_watch", lambda: None)
  processes.connect("off")
  assert not called
  processes.connect("auto")
  assert bool(called) == several
