"""The pruning experiment: refused configs, chosen settings, reports."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import prune as configs
from experiments.prune import compare, data, plan, report
from experiments.prune.methods import MethodKey
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.data.images import Images
from scalegmn_jax.targets.mlp import mlp

VALUES = [
  ({"sparsities": ()}, "config.prune.sparsities"),
  ({"sparsities": (0.5, 1.0)}, "config.prune.sparsities is (0.5, 1.0)"),
  ({"epochs": 1}, "config.prune.epochs is 1, expected at least 2"),
  ({"learning_rates": (0.0, 0.1)}, "config.prune.learning_rates"),
  ({"ascent_l1": ()}, "config.prune.ascent_l1"),
  ({"extensions": -1}, "config.prune.extensions"),
  ({"own_steps": -1}, "config.prune.own_steps"),
  ({"subjects": ("zoo", "best")}, "some of zoo, network"),
  ({"subjects": ("zoo",), "network": 1}, "config.prune.network is 1"),
  ({"network_path": "a.npy", "network": 1}, "config.prune.network is 1"),
  ({"predictor_steps": 3}, "0 <= warmup < steps"),
]


@pytest.mark.parametrize(("changes", "message"), VALUES)
def test_impossible_values(changes, message):
  config = configs.get_config("tiny")
  plan.check(config)
  with config.unlocked():
    config.prune.update(changes)
  with pytest.raises(InputError) as error:
    plan.check(config)
  assert message in str(error.value)


@pytest.mark.parametrize("variant", ("", "full", "cifar10_gs"))
def test_variants(variant):
  config = configs.get_config(variant)
  plan.check(config)
  with pytest.raises(ValueError, match="no variant 'big'"):
    configs.get_config("big")


def test_settings_have_the_best_validation_accuracy():
  """In this test, the other value has the best test accuracy."""
  config = configs.get_config("tiny")
  config.prune.sparsities = (0.0, 0.5)
  target = mlp((2, 8, 2))
  x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
  y = x.argmax(1).astype(np.int32)
  images = Images(x, y, x, y, x, 1 - y, 2)
  identity = np.eye(2, 8, dtype=np.float32)

  def networks(sign):
    first = {"bias": jnp.full((1, 8), 9.0), "kernel": jnp.asarray([identity])}
    kernel = jnp.asarray([sign * identity.T])
    last = {"bias": jnp.zeros((1, 2)), "kernel": kernel}
    return Networks((first, last), jnp.zeros(1, jnp.int32))

  method = pruning.PruneMethod(
    pruning.once(0),
    importance.magnitude_as_stored,
    {"which": (1, 2)},
    lambda _, settings: networks(1.0 if settings["which"] == 2 else -1.0),
  )
  subject = data.PruneSubject("one network", networks(-1.0), networks(-1.0))
  key = MethodKey("choice", 0)
  result = compare.make_comparison(config, target, images)(
    subject, {key: [method, method]}
  )[key]
  assert result.settings == {"0": [{"which": 2}] * 2, "0.5": [{"which": 2}] * 2}
  assert result.accuracy.shape == (2, 2, 1) and not result.accuracy.any()
  assert result.data_passes == 0


def test_tables_and_lines():
  sparsities = (0.0, 0.9)

  def result(accuracy):  # [sparsities, seeds, networks]
    return compare.PruneResult(np.asarray(accuracy), 0.1, 5, {}, [])

  results = {
    MethodKey("magnitude", 5): result([[[0.8, 0.6]], [[0.4, 0.2]]]),
    MethodKey("operator", 5): result(
      [[[0.9, 0.7], [0.7, 0.7]], [[0.5, 0.5], [0.7, 0.7]]]
    ),
    MethodKey("l1", 5, 13): result([[[0.8, 0.6]], [[0.3, 0.2]]]),
    MethodKey("magnitude", 0): result([[[0.8, 0.6]], [[0.1, 0.1]]]),
  }
  one = Networks((), jnp.zeros(2, jnp.int32))
  subject = data.PruneSubject("zoo", one, one)
  original = np.array([0.8, 0.6])
  table = report.table(subject, original, results, sparsities)
  assert [plan.label(row) for row in table.rows] == [
    "original", "magnitude", "operator", "L1 (13 epochs before)",
    "magnitude, no fine-tuning",
  ]  # fmt: skip
  first, magnitude, operator, *_ = table.rows
  assert (magnitude["method"], magnitude["epochs"]) == ("magnitude", 5)
  assert first["accuracy_0"] == pytest.approx(0.7)
  assert "accuracy_0.9" not in first
  assert magnitude["accuracy_0.9"] == pytest.approx(0.3)
  assert magnitude["std_0.9"] == pytest.approx(0.1)
  assert operator["accuracy_0.9"] == pytest.approx(0.6)
  assert operator["std_0"] == pytest.approx(0.05)
  assert set(table.short) <= set(table.columns)
  after, without = report.ranking(subject, results, sparsities)
  assert without == "zoo, 90 % pruned, without fine-tuning: magnitude 0.100"
  assert "after 5 epochs: operator 0.600, magnitude 0.300, L1 (13" in after
  (spread,) = report.seed_spread(results, sparsities)
  assert "0.141 at 90 %" in spread and "operator" in spread
  figure = report.picture(subject, original, results, sparsities, (3, 4))
  assert "zoo; seeds 3, 4" in figure.get_suptitle()
  tuned, untuned = figure.axes
  assert len(tuned.lines) == 4 and len(untuned.lines) == 2
  np.testing.assert_allclose(tuned.lines[2].get_ydata(), (0.75, 0.6))
  labels = {text.get_text() for text in untuned.texts}
  assert labels == {"original", "magnitude"}


def test_published_rows_have_labels():
  table = report.published()
  assert plan.label(table.rows[0]) == "magnitude"
  assert all(set(table.columns) <= set(row) for row in table.rows)
