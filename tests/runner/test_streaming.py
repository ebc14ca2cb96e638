"""The commands that apply a trained metanetwork to a zoo."""

import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import predict
from experiments.runner import streaming
from scalegmn_jax import saved
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, store

ROOT = pathlib.Path(__file__).parents[2]
TARGET = mlp((2, 3, 2))
MODEL = {"width": 4, "depth": 1}


def save(folder):
  folder.mkdir(parents=True)
  metanetwork = metanetworks.functional(TARGET, **MODEL)
  params = jax.jit(metanetwork.init)(jax.random.key(0))
  saved.save_functional(folder, TARGET, MODEL, params, link="sigmoid")


def test_predictions_of_a_zoo_with_a_bad_row(tmp_path):
  save(tmp_path / "run" / "forward" / "0")
  weights = np.random.default_rng(0).normal(size=(4, 17)).astype(np.float32)
  weights[2, 0] = np.inf
  metrics = pd.DataFrame(
    {"modeldir": list("abcd"), "step": 1, "config.activation": "relu"}
  )
  layout = codec.layout_of(TARGET)
  store.write_zoo(tmp_path / "zoo", weights, metrics, layout)
  result = subprocess.run(
    [
      *(sys.executable, "-m", "experiments.predict"),
      *(f"--workdir={tmp_path / 'run'}", f"--zoo.path={tmp_path / 'zoo'}"),
      f"--out={tmp_path / 'predictions.csv'}",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 3, result.stderr
  assert "not finite: rows 2; their predictions are empty" in result.stdout
  table = pd.read_csv(tmp_path / "predictions.csv")
  functional = saved.load_functional(tmp_path / "run" / "forward" / "0")
  network = jax.tree.map(lambda w: w[0], codec.to_weights(TARGET, weights[3:]))
  assert table.prediction[3] == pytest.approx(
    float(functional(network)[0]), rel=1e-4
  )
  assert np.isnan(table.prediction[2])


@pytest.mark.parametrize("flag", ["zoo.path", "out"])
def test_zoos_are_in_no_bucket(flag, monkeypatch):
  given = {"workdir": "run", "operator": "", "zoo.path": "zoo", "out": "better"}
  given[flag] = "gs://bucket/zoo"
  values = {k: types.SimpleNamespace(value=v) for k, v in given.items()}
  monkeypatch.setattr(streaming.flags, "FLAGS", values)
  with pytest.raises(InputError, match=f"^--{flag}=gs://bucket/zoo: expected"):
    streaming.run([], "operator", fail, fail, fail, "")


def fail(*_):
  raise AssertionError("called")


def test_a_run_with_several_functionals_needs_a_choice(tmp_path):
  with pytest.raises(InputError, match="no functional.npz in it or below it"):
    predict.functional_of_run(str(tmp_path))
  for name in "ab":
    (tmp_path / name).mkdir()
    (tmp_path / name / saved.FUNCTIONAL).touch()
  with pytest.raises(InputError, match="2 files .* choose one with --funct.*a"):
    predict.functional_of_run(str(tmp_path))
