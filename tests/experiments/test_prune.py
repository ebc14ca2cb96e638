"""The pruning experiment: what it accepts, chooses and says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import prune as configs
from experiments.prune import methods, plan, report
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.data.images import Images
from scalegmn_jax.targets.mlp import mlp

VALUES = [
  ({"shares": ()}, "config.prune.sparsities"),
  ({"shares": (0.5, 1.0)}, "config.prune.sparsities is (0.5, 1.0)"),
  ({"epochs": 1}, "config.prune.epochs is 1, expected at least 2"),
  ({"seeds": 0}, "config.train.seeds is 0"),
  ({"rates": (0.0, 0.1)}, "config.prune.learning_rates"),
  ({"ascent_l1": ()}, "config.prune.ascent_l1"),
  ({"extensions": -1}, "config.prune.extensions"),
  ({"subjects": ("zoo", "best")}, "some of zoo, network"),
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


def test_settings_are_those_of_the_best_validation_accuracy():
  """Not of the best test accuracy: here the other value has that."""
  config = configs.get_config("tiny")
  config.prune.sparsities = (0.0, 0.5)
  target = mlp((2, 8, 2))
  x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
  y = x.argmax(1).astype(np.int32)
  data = Images(x, y, x, y, x, 1 - y, 2)
  identity = np.eye(2, 8, dtype=np.float32)

  def network(sign):
    first = {"bias": jnp.full(8, 9.0), "kernel": jnp.asarray(identity)}
    last = {"bias": jnp.zeros(2), "kernel": jnp.asarray(sign * identity.T)}
    return Networks((first, last), jnp.zeros((), jnp.int32))

  def edit(zoo, settings):
    one = network(1.0 if settings["which"] == 2 else -1.0)
    return jax.tree.map(lambda a: a[None], one)

  method = pruning.PruneMethod(
    pruning.once(0), importance.magnitude_as_stored, {"which": (1, 2)}, edit
  )
  zoo = jax.tree.map(lambda a: a[None], network(-1.0))
  subject = methods.Subject("one network", zoo, zoo)
  compare = methods.comparer(config, target, data)
  found = compare(subject, {"choice": [method, method]})["choice"]
  assert found.settings == {"0": [{"which": 2}] * 2, "0.5": [{"which": 2}] * 2}
  assert found.accuracy.shape == (2, 2, 1) and not found.accuracy.any()
  assert found.data_passes == found.epochs == 0


def measured(accuracy, epochs):
  return methods.Measured(np.asarray(accuracy), 0.1, epochs, epochs, {}, [])


def test_tables_and_lines():
  shares = (0.0, 0.9)
  results = {
    # [shares, seeds, networks]
    "magnitude": measured([[[0.8, 0.6]], [[0.4, 0.2]]], 5),
    "operator": measured(
      [[[0.9, 0.7], [0.7, 0.7]], [[0.5, 0.5], [0.7, 0.7]]], 5
    ),
    "magnitude, no fine-tuning": measured([[[0.8, 0.6]], [[0.1, 0.1]]], 0),
  }
  table = report.table("two networks", np.array([0.8, 0.6]), results, shares)
  original, magnitude, operator, _ = table.rows
  assert original["0"] == pytest.approx(0.7) and "0.9" not in original
  assert magnitude["0.9"] == pytest.approx(0.3)
  assert magnitude["std 0.9"] == pytest.approx(0.1)
  assert operator["0.9"] == pytest.approx(0.6)
  assert operator["std 0"] == pytest.approx(0.05)
  assert set(table.short) <= set(table.columns)
  after, without = report.lines("zoo", results, shares)
  assert without == "zoo, 90 % pruned, without fine-tuning: magnitude 0.100"
  assert after.endswith("after 5 epochs: operator 0.600, magnitude 0.300")
  (spread,) = report.spread(results, shares)
  assert "0.141 at 90 %" in spread and "operator" in spread
  figure = report.picture("two networks", np.array([0.8, 0.6]), results, shares)
  tuned, untuned = figure.axes
  assert len(tuned.lines) == 3 and len(untuned.lines) == 2
  np.testing.assert_allclose(tuned.lines[2].get_ydata(), (0.75, 0.6))
