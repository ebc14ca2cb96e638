"""--help and --list."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs import cnn
from experiments.runner import experiment, usage


def test_keys_are_shown_with_values_meanings_and_bounds():
  config = cnn.get_config("tiny")
  config.train.steps = 77
  table = experiment.keys_of(experiment.load_module(config.experiment))
  lines = usage.keys(config, table).splitlines()
  at = lines.index("  --config.train.steps=77")
  assert lines[at + 1].startswith("      training steps [a whole number from 1")
  texts = [line for line in lines if not line.startswith("  --config.")]
  assert max(map(len, texts)) <= usage.WIDTH


def test_all_configs_and_experiments_are_listed():
  text = usage.configs()
  for file in usage.config_files():
    assert f"--config=configs/{file.name}\n" in text
  assert ":one_task, :paper, :cifar10_gs, :tanh" in text
  for name in experiment.list_experiments():
    assert name in text


@pytest.mark.parametrize(
  "name", ["apply", "bench", "compare", "docs", "predict", "run", "sweep"]
)
def test_programs_show_their_docstring_and_their_flags(name, program):
  status, out, err = program(f"experiments.{name}", "--help")
  assert (status, err) == (0, "")
  assert f"python -m experiments.{name}" in out
  assert "\n  --help\n" in out


def test_help_in_a_process_of_its_own():
  result = subprocess.run(
    [sys.executable, "-m", "experiments.run", "--help"],
    cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert "python -m experiments.run" in result.stdout
  assert "\n  --help\n" in result.stdout
