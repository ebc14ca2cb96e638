"""Whose a folder is."""

import json

import pytest

from configs import cnn
from experiments import workdir
from scalegmn_jax.base import InputError


def settings(**changed):
  config = cnn.get_config("tiny")
  for key, value in changed.items():
    section, name = key.split("_", 1)
    config[section][name] = value
  return config


@pytest.fixture
def folder(tmp_path):
  workdir.claim(tmp_path / "run", settings())
  return tmp_path / "run"


@pytest.mark.parametrize(
  "changed", ({"baselines_epochs": (1, 3)}, {"elsewhere_size": 2})
)
def test_baselines_may_be_others_when_measured_again(folder, changed):
  config = settings(**changed)
  before = (folder / "config.json").read_bytes()
  workdir.claim(folder, config, again=True)
  # Until there are results the folder is that of those it has.
  assert (folder / "config.json").read_bytes() == before
  with pytest.raises(InputError, match="holds a run with"):
    workdir.claim(folder, config)


@pytest.mark.parametrize(
  "changed",
  ({"baselines_metanetworks": ("mlp",)}, {"loss_l1": 0.5}, {"zoo_size": 9}),
)
def test_what_is_trained_may_not(folder, changed):
  ((key, _),) = changed.items()
  with pytest.raises(InputError, match=key.replace("_", ".", 1)):
    workdir.claim(folder, settings(**changed), again=True)


def test_the_same_config_goes_on(folder):
  workdir.claim(folder, settings())
  assert json.loads((folder / "config.json").read_text())["zoo"]["size"] == 24
