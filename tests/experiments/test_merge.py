"""The experiment on averages: refused configs, lines, labels."""

import jax
import numpy as np
import pytest

from configs import merge as configs
from experiments.merge import data, methods, report
from experiments.runner import experiment
from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Space,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.partial import NOTHING
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import element


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"merge.widths": ()}, "config.merge.widths is ()"),
    ({"merge.architectures.mlp.name": "vit"}, "one of cnn, mlp, resnet"),
    ({"zoo.size": 1}, "config.zoo.size is 1"),
    ({"merge.points": 2}, "config.merge.points is 2"),
  ],
)
def test_impossible_values(change, message):
  config = configs.get_config("tiny")
  experiment.load_experiment(config)
  with config.unlocked():
    config.update_from_flattened_dict(change)
  with pytest.raises(InputError) as error:
    experiment.load_experiment(config)
  assert message in str(error.value)


@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_variants(variant):
  experiment.load_experiment(configs.get_config(variant))


def test_layers_are_widened():
  wide = data.widened(configs.CNN, 4)
  assert wide.channels == (64, 64) and wide.padding == "SAME"


def test_rows_of_copies_of_one_network():
  """Aligned copies are one network; permutations need the same gauge."""
  config = configs.get_config("tiny")
  target = mlp((3, 8, 2))
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  first = jax.tree.map(lambda w: rng.normal(size=w.shape), shapes)
  g = element(target.spec, 1)
  several = [first, actions.act(g, target.spec, first)]
  x = rng.normal(size=(20, 3))

  def measure(networks):
    outputs = np.stack(
      [
        target.apply(jax.tree.map(lambda w, i=i: w[i], networks.weights), x)
        for i in range(networks.size)
      ]
    )
    error = np.square(outputs - np.asarray(target.apply(first, x)))
    return error.mean((1, 2)), -error.mean((1, 2))

  group = data.Group(data.stacked(several), measure, x)
  subject = data.Subject("mlp", 2, target, [group])
  rows = {
    row["method"]: row for row in methods.rows_of(config, subject, NOTHING)
  }
  assert list(rows) == list(methods.METHODS)
  for method, row in rows.items():
    same = method in ("aligned", "images")
    assert (row["barrier"] < 1e-6) == same
    assert (-row["soup"] < 1e-6) == same
    assert row["pairs"] == 1 and row["barrier_std"] is None
  assert report.label(rows["images"]) == "mlp, 2x: aligned, with images"
  lines = report.conclusions(list(rows.values()))
  assert lines[0].startswith("mlp, 2x: the barrier is ")


def test_statistics_are_recomputed():
  def train(weights, x, activation=0, dropout=None):
    return x, {"mean": 0.5 * weights["mean"] + x.mean(0)}

  def init(key):
    return {"mean": np.zeros(2, np.float32)}

  spaces = {"output": Space(2)}
  axes = {"mean": Axes((Axis("output", 1),), statistic=True)}
  target = TargetNetwork(
    init, train, SymmetrySpec(spaces, axes), (2,), ("relu",), {}, train
  )
  batches = np.float32([[[1, 2]], [[4, 8]]])
  networks = data.stacked([init(None)] * 2)
  found = data.recomputed(target, batches)(networks).weights["mean"]
  np.testing.assert_array_equal(found, [[4.5, 9]] * 2)
