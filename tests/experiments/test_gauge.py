"""The gauge experiment: refused configs, labels and conclusions."""

import jax
import numpy as np
import pytest

from configs import gauge as configs
from experiments.gauge import data, directions, plan, report
from experiments.gauge.l1 import L1Norms, ZooNorms, final_norms, l1_norms
from experiments.runner import experiment
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.data import images
from scalegmn_jax.symmetry import measure, tangents
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.traced import trace
from tests.graph.traced import network

VALUES = [
  ({"target.name": "mlp"}, "config.target.name is 'mlp'"),
  ({"target.activation": ("relu", "tanh")}, "expected some of relu"),
  ({"gauge.images": ()}, "config.gauge.images is ()"),
  ({"gauge.images": (20, 20)}, "1,000,000,000, ascending"),
  ({"gauge.tested": 0}, "config.gauge.tested is 0"),
]


@pytest.mark.parametrize(("changes", "message"), VALUES)
def test_impossible_values(changes, message):
  config = configs.get_config("tiny")
  experiment.load_experiment(config)
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  with pytest.raises(InputError) as error:
    experiment.load_experiment(config)
  assert message in str(error.value)


def test_pooled_cnns_are_refused_before_a_zoo_is_made(tmp_path):
  config = configs.get_config("tiny")
  config.zoo.cache = str(tmp_path)
  config.target.pool_size, config.target.stride = 2, 1
  with pytest.raises(InputError, match="pooling between convolutions cannot"):
    data.load(config)
  assert not list(tmp_path.iterdir())


LABELS = [
  ({"network": "zoo", "form": "trained"}, "zoo"),
  ({"network": "file", "form": "mlp"}, "network of a file, as an MLP"),
  ({"network": "zoo", "form": "trained", "data": "noise"}, "zoo: noise"),
  ({"network": "zoo", "step": 3}, "zoo, step 3"),
  ({"network": "file", "layer": 2}, "network of a file: layer 2"),
  ({"method": "balanced"}, "balanced"),
  (
    {"method": "operator", "penalty": "plain", "input": "balanced"},
    "operator, plain penalty, balanced input",
  ),
]


@pytest.mark.parametrize(("row", "text"), LABELS)
def test_labels(row, text):
  assert plan.label(row) == text


def test_balanced_norm_does_not_depend_on_the_gauge():
  target = cnn(channels=(2, 3), input_shape=(8, 8, 1))
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 4))
  networks = Networks(weights, np.zeros(4, np.int32))
  _, regauged = measure.regauge_networks(target)(networks, jax.random.key(1))
  before, after = l1_norms(target, networks), l1_norms(target, regauged)
  assert before.plain.shape == before.balanced.shape == (4, 3)
  np.testing.assert_allclose(after.balanced, before.balanced, rtol=1e-5)
  assert (after.gauge_share > before.gauge_share).all()
  assert (before.gauge_share >= 0).all()


def test_unrolled_networks_follow_their_cnns():
  target = cnn(channels=(2,), input_shape=(8, 8, 1))
  weights = target.init(jax.random.key(0))
  subjects = data.with_mlps([data.GaugeSubject("zoo", target, weights)])
  assert [s.keys["form"] for s in subjects] == ["trained", "mlp"]
  assert subjects[1].cnn is subjects[0]
  assert data.as_networks(subjects[0]).size == 1


def row_of(target, weights):
  """The row of a network, and the lines about it."""
  shape = target.input_shape
  x = np.random.default_rng(0).normal(size=(20, *shape))
  inputs = images.Images(*[x, np.zeros(20, int)] * 3, sets=(2,))
  subject = data.GaugeSubject("a", target, weights)
  config = configs.get_config("tiny")
  with jax.numpy_rank_promotion("allow"):
    (row,) = directions.direction_rows(config, [subject], inputs)
  return row, report._direction_lines([row])


def test_directions_of_a_normalized_network(x64, normalized):
  """Six channels have two multipliers before γ and one after both."""
  row, lines = row_of(normalized, normalized.init(jax.random.key(0)))
  assert row["layers"] == "18"
  assert row["tested"] == row["rank"] == row["svd_rank"] == 18
  assert (row["before"], row["after"], row["summed"]) == (12, 6, 6)
  assert row["sensitivity"] < 1e-12
  assert lines[0] == (
    "a: 18 gauge directions of 130 weights (13.85%): 12 of neurons before a "
    "scale, such as the γ of a normalization, 6 of neurons after it, 6 more if "
    "no two layers wrote to the same neurons"
  )


def test_scalings_are_no_symmetry_of_a_sine(x64):
  row, lines = row_of(*network("siren"))
  assert row["layers"] == "0+0" and row["rank"] == 0
  assert row["tested"] == 9 and row["sensitivity"] > 0.1
  assert not lines


def test_a_network_without_hidden_neurons_has_no_tangents():
  weights = {"w": np.ones((3, 4))}
  target = trace(lambda p, x: x @ p["w"], weights, np.ones((2, 3)))
  subject = data.GaugeSubject("linear", target, weights)
  config = configs.get_config("tiny")
  assert directions._sensitivity(config, subject, np.ones((2, 3))) == (0, None)


def test_traced_architectures():
  """BatchNorm doubles the directions; shortcuts share those of a stream."""
  config = configs.get_config("traced")
  config.gauge.architectures.update(configs.ARCHITECTURES)
  experiment.load_experiment(config)
  others = data.other_architectures(config, images.load("digits"))
  starts = {name: other.zoo.initializer for name, (other, _) in others.items()}
  assert starts["mlp"] == ("glorot_normal",)
  assert starts["resnet"] == starts["vit"] == ("target",)
  assert others["vit"][0].zoo.dropout == (0.0, 0.0)
  counts = {
    name: (
      sum(tangents.directions(target.spec).values()),
      *tangents.accounts(target.spec),
    )
    for name, (_, target) in others.items()
    if name.startswith("resnet")
  }
  # Channels of kernels: 4 + 4 + 4 and 8 + 8, and 8 of a shortcut.
  assert counts == {
    "resnet, no shortcuts": (56, 28, 28, 0),
    "resnet": (60, 36, 24, 12),
    "resnet, no BatchNorm": (24, 0, 0, 12),
  }


def test_many_spaces_are_listed_in_runs():
  spaces = dict(enumerate([16, 16, 8, 0, 0, 0, 4]))
  assert directions._listed(spaces) == "2x16+8+3x0+4"


def direction_row(form, directions, weights, sensitivity=1e-6, tied=None):
  return {
    "network": "zoo",
    "form": form,
    "directions": directions,
    "weights": weights,
    "share": directions / weights,
    "rank": directions,
    "before": 0,
    "after": 0,
    "summed": 0,
    "sensitivity": sensitivity,
    "tied": tied,
  }


def operator_row(objective, **keys):
  return {**keys, "objective": objective}


def test_conclusions():
  def norms(total, **keys):
    layers = np.full((2, 4), total / 4)
    return ZooNorms(
      {"network": "zoo", **keys}, L1Norms(layers, layers / 2), 0.3
    )

  rows = [
    direction_row("trained", 5, 100),
    direction_row("mlp", 40, 1000, tied=5),
    direction_row("untied", 40, 500),
  ]
  operators = [
    operator_row(0.9, method="original"),
    operator_row(0.8, method="balanced"),
    operator_row(0.6, method="operator", penalty="plain", input="original"),
    operator_row(0.5, method="operator", penalty="balanced", input="original"),
  ]
  final = final_norms([norms(80, step=1), norms(60, step=3)])
  assert [n.keys["step"] for n in final] == [3]
  lines = report.conclusions(rows, [], final, operators, 1e-3)
  assert lines[0] == (
    "zoo: 5 gauge directions of 100 weights (5.00%), as an MLP 40 of 1,000 "
    "(4.00%), or of 500 without structural zeros (8.00%); weight sharing keeps "
    "5 of them"
  )
  assert lines[2] == (
    "zoo, step 3: 50.0% of the L1 norm is gauge (50.0% to 50.0%), or 0.030 of "
    "the objective; the cross-entropy is 0.300"
  )
  assert "from 0.8000 to 0.6000" in lines[3] and "to 0.5000" in lines[3]
