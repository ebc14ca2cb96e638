"""What one shot is worth, from curves of objectives."""

import jax
import numpy as np
import pytest

from configs import scaling as configs
from experiments import build
from experiments.finetune import report
from experiments.runner import experiment
from experiments.scaling import plan as scaling
from scalegmn_jax.base import InputError
from scalegmn_jax.eval.epochs_to_match import epochs_to_match

CURVE = [(1, 0.8), (5, 0.6), (25, 0.5), (50, 0.55)]


@pytest.mark.parametrize(
  ("objective", "worth"),
  [(1.0, 0), (1.2, 0), (0.9, 0.5), (0.7, 3), (0.6, 5), (0.5, 25)],
)
def test_worth_is_where_the_curve_first_gets_there(objective, worth):
  found = epochs_to_match(CURVE, 1.0, objective)
  assert found == pytest.approx(worth)
  assert report.worth_text(found, 50) == f"{worth:.1f}"


def test_worth_beyond_the_curve():
  found = epochs_to_match(CURVE, 1.0, 0.49)
  assert found == np.inf
  assert report.worth_text(found, 50) == "more than 50"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"scaling.networks": (4, 13)}, "the zoo has 12 training networks"),
    ({"scaling.steps": ()}, "config.scaling.steps is ()"),
    ({"scaling.steps": (2, 30)}, "train.steps is 2 and train.warmup 5"),
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


def test_fewer_networks_are_a_part_of_more(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  config = configs.get_config("tiny")
  plan = scaling.plan(config)
  few, many = (
    {row.tobytes() for row in np.asarray(job.data[0].weights[0]["kernel"])}
    for job in (plan.jobs["4/16/0"], plan.jobs["12/16/0"])
  )
  checkpoints = len(config.zoo.epochs)
  assert (len(few), len(many)) == (4 * checkpoints, 12 * checkpoints)
  assert few < many
  # And each begins from data.
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
