"""A workdir that format 1 wrote is claimed, shown and restored.

`tests/formats/workdir_1.tar.gz` is a finished run of configs/many.py:tiny, now
configs/multi_task.py:tiny, without its pictures.
"""

import io
import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import multi_task
from experiments import build
from experiments.runner import experiment, progress, workdir
from scalegmn_jax import saved
from scalegmn_jax.base import InputError
from scalegmn_jax.training.checkpoints import Checkpoints
from scalegmn_jax.training.metrics import Metrics
from scalegmn_jax.training.step import from_stored, init_state, to_stored

ARCHIVE = pathlib.Path(__file__).parents[1] / "formats" / "workdir_1.tar.gz"


@pytest.fixture
def folder(tmp_path):
  with tarfile.open(ARCHIVE) as archive:
    archive.extractall(tmp_path, filter="data")
  return tmp_path / "workdir"


@pytest.fixture
def config():
  return multi_task.get_config("tiny")


@pytest.mark.parametrize("again", (False, True))
def test_the_same_config_claims_it(again, folder, config):
  before = (folder / "config.json").read_bytes()
  workdir.claim(folder, config, again=again)
  assert (folder / "config.json").read_bytes() == before


def test_new_keys_with_other_values_do_not(folder, config):
  config.train.seeds = (3,)
  with pytest.raises(InputError, match=r"holds a run with train.seeds = \[\]"):
    workdir.claim(folder, config)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("train.batch_networks", 4, "train.batch_networks = 2, not 4"),
    ("train.image_noise", 0.0, "train.image_noise = 0.2, not 0.0"),
    ("zoo.save_every", 8, "zoo.save_every = 24, not 8"),
  ],
)
def test_other_values_are_named_by_their_new_keys(
  key, value, message, folder, config
):
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=message):
    workdir.claim(folder, config)


def test_other_baselines_are_measured_again(folder, config):
  config.baselines.epochs_after_edit = ()
  config.ood.size = 0
  with pytest.raises(InputError, match="holds a run with"):
    workdir.claim(folder, config)
  workdir.claim(folder, config, again=True)


def test_its_results_are_shown_with_their_labels(folder, config, monkeypatch):
  out = io.StringIO()
  monkeypatch.setattr(progress, "console", Console(file=out, width=200))
  experiment.run(config, folder)
  text = out.getvalue()
  assert "finished before" in text
  results = json.loads((folder / "results.json").read_text())
  for table in results["tables"]:
    for row in table["rows"]:
      assert row["method"] in text


def test_its_checkpoints_have_the_parameters_of_its_operator(folder, config):
  """The best restart, bit for bit; it has no steps left to train."""
  expected = saved.load_operator(folder).params
  initial = init_state(
    expected, build.build_optimizer(config, config.train.steps)
  )
  states = []
  for restart in range(config.train.restarts):
    place = folder / "operator" / str(restart)
    checkpoints = Checkpoints(place / "checkpoints")
    try:
      stored = checkpoints.restore(to_stored(initial))
    finally:
      checkpoints.close()
    states.append(from_stored(stored, initial))
    rows = Metrics(place / "metrics.jsonl", config.train.steps).read()
    assert rows[-1]["step"] == states[-1].step == config.train.steps
  best = min(states, key=lambda state: float(state.best_objective))
  jax.tree.map(np.testing.assert_array_equal, best.best_params, expected)


def test_a_new_run_writes_the_number_of_its_format(tmp_path, config):
  workdir.claim(tmp_path / "run", config)
  values = json.loads((tmp_path / "run" / "config.json").read_text())
  assert values.pop("format") == 2
  assert values == build.plain(config)
  workdir.claim(tmp_path / "run", config)
