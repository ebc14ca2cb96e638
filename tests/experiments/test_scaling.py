"""Operators by training networks and steps."""

import jax
import numpy as np
import pytest

from configs import scaling as configs
from experiments import build
from experiments.finetune import report
from experiments.runner import experiment
from experiments.scaling import plan as scaling
from scalegmn_jax.base import InputError


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"scaling.networks": (4, 13)}, "the zoo has 12 training networks"),
    ({"scaling.steps": ()}, "config.scaling.steps is ()"),
    ({"scaling.steps": (2, 30)}, "(2, 30), expected more than train.warmup, 5"),
    ({"train.seeds": (-1,)}, "config.train.seeds is (-1,)"),
    ({"baselines.methods": (("lion", "constant"),)}, "lion"),
    (
      {"baselines.methods": (("adam", "constant"), ("adam", "cosine"))},
      "expected one method",
    ),
  ],
)
def test_impossible_values(change, message, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  config = configs.get_config("tiny")
  config.zoo.epochs = (1,)
  config.update_from_flattened_dict(change)
  with pytest.raises(InputError) as error:
    experiment.load_experiment(config).plan(config)
  assert message in str(error.value)


def test_labels():
  keys = {"method": "operator", "networks": 4, "steps": 3000}
  assert scaling.label(keys) == "4 networks, 3,000 steps"
  keys = {"method": "adam", "schedule": "constant", "epochs": 1}
  assert scaling.label(keys) == "Adam, 1 epoch"


def test_the_text_of_epochs_to_match_says_where_the_curve_ends():
  assert report.epochs_to_match_text(15.04, 50) == "15.0"
  assert report.epochs_to_match_text(np.inf, 50) == "more than 50"


def test_fewer_networks_are_a_subset_of_more(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  config = configs.get_config("tiny")
  config.scaling.networks, config.scaling.steps = (4, 12), (16,)
  plan = scaling.plan(config)
  few, many = (
    {row.tobytes() for row in np.asarray(job.data[0].weights[0]["kernel"])}
    for job in (plan.jobs["4/16/0"], plan.jobs["12/16/0"])
  )
  checkpoints = len(config.zoo.epochs)
  assert (len(few), len(many)) == (4 * checkpoints, 12 * checkpoints)
  assert few < many
  # φ is initialized from data.
  job = plan.jobs["4/16/0"]
  params = job.metanetwork.init(jax.random.key(0))
  probes = np.asarray(params["prototypes"]["classes"]["probes"])
  images = {image.tobytes() for image in np.asarray(job.data[1])}
  assert {probe.tobytes() for probe in probes} <= images
  zoos = build.build_zoos(
    config,
    build.build_target(config, build.build_images(config)),
    build.build_images(config),
  )
  assert np.bincount(zoos.owner).tolist() == [checkpoints] * 12
