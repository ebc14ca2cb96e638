"""The scripts of examples/ run, and print what they promise."""

import pathlib
import re
import runpy
import sys

import jax
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
ARGUMENTS = {
  "fine_tune_flax": (),
  "gauge_of_a_file": ("{folder}",),
  "predict_accuracy": ("16", "2"),
  "trace_your_own": (),
  "train_operator": ("{folder}/operator", "2"),
}
"""{script: arguments with which it takes seconds}."""


def test_scripts_are_short():
  scripts = {path.stem: path for path in FOLDER.glob("*.py")}
  assert set(scripts) == set(ARGUMENTS)
  for path in scripts.values():
    lines = path.read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 40, path


@pytest.mark.parametrize("name", ARGUMENTS)
def test_script(name, tmp_path, monkeypatch, capsys):
  arguments = [a.format(folder=tmp_path) for a in ARGUMENTS[name]]
  monkeypatch.setattr(sys, "argv", [name, *arguments])
  with jax.numpy_rank_promotion("allow"):
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
  out = capsys.readouterr().out
  if name == "fine_tune_flax":
    before, after = map(float, re.findall(r"0\.\d+", out))
    assert before < 0.5 and after > 0.95
  elif name == "gauge_of_a_file":
    before, after = map(int, re.findall(r" (\d+)\b", out)[:2])
    assert 0 < after < 0.7 * before
    assert float(out.split()[-1]) < 1e-4
    assert (tmp_path / "balanced.safetensors").exists()
  elif name == "predict_accuracy":
    assert re.search(r"on 4 networks never seen: -?\d\.\d\d", out)
  elif name == "trace_your_own":
    assert "16 neurons, permuted, q > 0" in out
    assert "'down': (16, 8)" in out
  else:
    assert re.fullmatch(r"accuracy 0\.\d\d\naccuracy 0\.\d\d\n", out)
    assert (tmp_path / "operator" / "operator.npz").exists()
