"""The folder of a run: who may use it, and when it is claimed."""

import json
import pathlib
import subprocess
import sys
import types

import pytest

from configs import cnn
from experiments.finetune import plan as finetune
from experiments.runner import experiment, workdir
from scalegmn_jax.base import InputError
from scalegmn_jax.io import as_path

ROOT = pathlib.Path(__file__).parents[2]


def settings(**changes):
  config = cnn.get_config("one_task,tiny")
  config.update_from_flattened_dict(changes)
  return config


def test_a_second_process_is_told_who_uses_the_folder(tmp_path):
  with workdir.lock(tmp_path):
    pid = json.loads((tmp_path / workdir.HOLDER).read_text())["process"]
    with pytest.raises(InputError) as error, workdir.lock(tmp_path):
      pass
  message = str(error.value)
  assert message.startswith(f"{tmp_path}: process {pid} on ")
  assert "\n" not in message
  with workdir.lock(tmp_path):
    pass


def test_the_lock_ends_with_a_killed_process(tmp_path):
  kill = (
    "import os, pathlib; from experiments.runner import workdir\n"
    f"with workdir.lock(pathlib.Path({str(tmp_path)!r})): os._exit(9)"
  )
  done = subprocess.run([sys.executable, "-c", kill], cwd=ROOT)
  assert done.returncode == 9 and (tmp_path / workdir.HOLDER).exists()
  with workdir.lock(tmp_path):
    workdir.claim(tmp_path, settings())
  # What the lock leaves is not mistaken for files of somebody else.
  workdir.claim(tmp_path, settings())


def test_a_folder_that_nobody_claimed_is_gone(tmp_path):
  with workdir.lock(tmp_path / "run"):
    pass
  assert not (tmp_path / "run").exists()


def test_a_bucket_has_no_lock_but_a_note(bucket, capsys):
  folder = as_path(bucket)
  with workdir.lock(folder):
    workdir.claim(folder, settings())
    assert not (folder / workdir.LOCK).exists()
    with workdir.lock(folder):  # as if the first one had been killed
      pass
  out = capsys.readouterr().out
  assert f"{bucket}: process" in out and "or was killed" in out
  with workdir.lock(folder):
    workdir.claim(folder, settings())
  assert not capsys.readouterr().out
  with pytest.raises(InputError, match=f"^{bucket}: holds a run with loss.l1"):
    workdir.claim(folder, settings(**{"loss.l1": 0.5}))


@pytest.mark.parametrize("where", ["value", "preview", "plan"])
def test_a_refused_config_has_not_claimed_the_folder(
  where, tmp_path, monkeypatch
):
  def refuse(config):
    if config.loss.l1 == 0.5:
      raise InputError("refused")
    return []

  module = types.SimpleNamespace(
    check=refuse if where == "value" else lambda c: None,
    preview=refuse if where == "preview" else lambda c: [],
    plan=refuse,
    label=str,
  )
  monkeypatch.setattr(experiment, "load_module", lambda name: module)
  with pytest.raises(InputError, match="refused"):
    experiment.run(settings(**{"loss.l1": 0.5}), tmp_path / "run")
  workdir.claim(tmp_path / "run", settings())


def test_paths_are_read_before_the_zoo_is_made(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  config = settings(**{"ood.paths": ("gone",)})
  with pytest.raises(InputError, match="gone: no such folder"):
    experiment.run(config, tmp_path / "run")
  assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_and_writes_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  experiment.run(settings(), tmp_path / "run", dry_run=True)
  out = capsys.readouterr().out
  assert "zoo: 24 networks of 238 weights, 3 epochs, 48 checkpoints" in out
  assert "operator: 30 steps on 2 networks, 4,806 parameters" in out
  # 2 rates x 4 validation networks and 6 test networks, 2 epochs; 2 rates x 2.
  assert "baselines: 32 epochs of one network" in out
  assert "time: about" in out and "memory: about" in out
  assert list(tmp_path.iterdir()) == []


def test_the_operations_of_a_run():
  """Epochs of zoo networks: twice the networks are twice the operations."""
  half, whole = (
    {part.name: part.flops() for part in finetune.preview(config)}
    for config in (settings(), settings(**{"zoo.size": 48, "train.steps": 60}))
  )
  assert whole["zoo"] == 2 * half["zoo"] > 0
  assert whole["operator"] == 2 * half["operator"] > 0
  assert whole["baselines"] == half["baselines"] > 0
