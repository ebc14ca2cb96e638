"""Masks: what is left of networks, and the tables of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import mask as configs
from experiments import build
from experiments.compression import measure, report
from experiments.mask import methods, plan
from experiments.runner import experiment
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.data.images import Images
from scalegmn_jax.partial import NOTHING
from scalegmn_jax.symmetry import kernels
from scalegmn_jax.targets.mlp import mlp


@pytest.mark.parametrize("sparsities", ((), (0.0, 0.5), (0.5, 1.0)))
def test_impossible_sparsities(sparsities):
  config = configs.get_config("tiny")
  config.mask.sparsities = sparsities
  with pytest.raises(InputError, match=r"config\.mask\.sparsities"):
    experiment.load_experiment(config)


def data(size=3):
  """Random networks, each with itself as its teacher, and random images."""
  target = mlp((2, 8, 6, 2))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(20, 2)).astype(np.float32)
  y = x.argmax(1).astype(np.int32)
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), size))
  networks = Networks(weights, jnp.zeros(size, jnp.int32), teacher=weights)
  zoo = build.ZooSplit(
    networks, np.arange(size), networks, networks, {"test": size}, ""
  )
  return measure.CompressionData(Images(x, y, x, y, x, y, 2), target, zoo)


def test_every_method_removes_as_many_entries(monkeypatch):
  """And φ that has not been trained removes what pruning by magnitude does."""
  config = configs.get_config("tiny")
  config.mask.sparsities = (0.5,)
  config.model.depth, config.model.width = 0, 4
  found = data()
  left, evaluate = [], measure.evaluate_networks
  entries = kernels.count(found.target.spec, found.zoo.test.take(0).weights)

  def spy(apply, networks, x, y):
    values = evaluate(apply, networks, x, y)
    if networks.teacher is not None:
      kept = sum((layer["kernel"] != 0).sum() for layer in networks.weights)
      jax.debug.callback(left.append, kept)
    return values

  monkeypatch.setattr(measure, "evaluate_networks", spy)
  operator = methods.make_operator(config, found.target, 0.5)
  params = {measure.job_name(0): operator.init(jax.random.key(0))}
  results = methods.measure_methods(config, found, params, NOTHING)
  assert list(results) == [n for n in plan.LABELS if n != "original"]
  assert left == [3 * (entries - entries // 2)] * len(results)
  for one in results.values():
    assert one.divergence.shape == one.accuracy.shape == (1, 3)
    assert (one.divergence > 0).all()
  np.testing.assert_allclose(
    results["operator"].divergence, results["magnitude"].divergence, 0, 1e-6
  )
  assert results["obd"].images == 8 and not results["synflow"].images
  assert results["obd"].divergence.mean() < results["snip"].divergence.mean()


def test_training_begins_at_pruning_by_magnitude():
  """Where each network has the objective 1, and φ has a gradient."""
  config = configs.get_config("tiny")
  config.mask.sparsities = (0.3, 0.6)
  config.model.depth, config.model.width = 0, 4
  config.train.batch_networks = 3
  found = data()
  job = methods.make_jobs(config, found)["seed_0"]
  params = job.metanetwork.init(jax.random.key(0))

  @jax.jit
  def step(params):
    items, x = job.objective.draw(jax.random.key(1), 0, job.data)

    loss = jax.value_and_grad(job.objective.loss, has_aux=True)
    return jax.lax.map(lambda item: loss(params, item, x), items)

  (relative, metrics), gradient = step(params)
  divergence = metrics["divergence"]
  expected = divergence / (divergence + measure.SMALL)
  np.testing.assert_allclose(relative, expected, 1e-5)
  moved = jax.tree.leaves(gradient["score"]["ends"]["out"])
  assert all(abs(g).max() > 0 for g in moved)
  assert 0.9 < job.validate(params)["val_objective"] <= 1


def test_tables_and_lines():
  def compressed(values, images=0):  # [sparsities, networks]
    values = np.asarray(values)
    return measure.Measured(values, 1 - values, images)

  results = {
    "operator": compressed([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
    "magnitude": compressed([[0.1, 0.35, 0.45], [0.5, 0.7, 0.9]]),
    "synflow": compressed([[0.6, 0.6, 0.6], [0.9, 0.9, 0.9]]),
    "obd": compressed([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]], 8),
  }
  config = configs.get_config("tiny")
  config.mask.sparsities = (0.5, 0.9)
  outcome = report.outcome(
    plan.WORDS, results, np.array([0.9, 1.0, 0.8]), plan.levels(config),
    "heading", {"test": 3},
  )  # fmt: skip
  divergences, differences, accuracies = outcome.tables
  assert [plan.label(row) for row in divergences.rows] == [
    "operator", "magnitude", "SynFlow", "OBD, 8 images",
  ]  # fmt: skip
  assert divergences.rows[0]["0.5"] == pytest.approx(0.2)
  assert plan.label(accuracies.rows[0]) == "original"
  assert accuracies.rows[0]["0"] == pytest.approx(0.9)
  assert accuracies.rows[1]["0.9"] == pytest.approx(0.5)
  magnitude = differences.rows[1]
  assert plan.label(magnitude) == "magnitude, 90 %"
  assert magnitude["difference"] == pytest.approx(-0.2)
  # The t interval of -0.1, -0.2, -0.3 with two degrees of freedom.
  half = 4.302653 * 0.1 / 3**0.5
  assert magnitude["low"] == pytest.approx(-0.2 - half, rel=1e-5)
  assert magnitude["high"] == pytest.approx(-0.2 + half, rel=1e-5)
  assert len(outcome.lines) == 4
  assert (
    "KL 0.2000 after the operator, 0.3000 after magnitude" in (outcome.lines[0])
  )
  assert "after OBD, the best of those with data" in outcome.lines[2]
  (panel,) = outcome.pictures["divergence.png"].axes
  np.testing.assert_allclose(panel.lines[0].get_ydata(), (0.2, 0.5))
