"""Quantization: methods, and where training begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quantize as configs
from experiments import build
from experiments.compression import measure, report
from experiments.quantize import methods, plan
from experiments.runner import experiment
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.data.images import Images
from scalegmn_jax.partial import NOTHING
from scalegmn_jax.targets.mlp import mlp


@pytest.mark.parametrize("bits", ((), (1,), (3, 9)))
def test_impossible_bits(bits):
  config = configs.get_config("tiny")
  config.quantize.bits = bits
  with pytest.raises(InputError, match=r"config\.quantize\.bits"):
    experiment.load_experiment(config)


def small():
  """(config, data): random networks, each its own teacher, random images."""
  config = configs.get_config("tiny")
  config.model.depth, config.model.width = 1, 4
  config.train.batch_networks = 3
  config.quantize.steps_per = methods.STEPS_PER
  target = mlp((2, 8, 6, 2))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 2)).astype(np.float32)
  y = x.argmax(1).astype(np.int32)
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 3))
  networks = Networks(weights, jnp.zeros(3, jnp.int32), teacher=weights)
  zoo = build.ZooSplit(
    networks, np.arange(3), networks, networks,
    {"test": 3, "training": 3}, "",
  )  # fmt: skip
  images = Images(x, y, x, y, x, y, 2)
  return config, measure.CompressionData(images, target, zoo)


def test_methods_have_kernels_on_the_grid(monkeypatch):
  config, data = small()
  kernels, evaluate = [], measure.evaluate_networks

  def spy(apply, networks, x, y):
    if networks.teacher is not None:
      jax.debug.callback(kernels.append, networks.weights[0]["kernel"])
    return evaluate(apply, networks, x, y)

  monkeypatch.setattr(measure, "evaluate_networks", spy)
  operator = methods.make_operator(config, data.target, methods.Grid(3, False))
  params = {measure.job_name(0): operator.init(jax.random.key(0))}
  results = methods.measure_methods(config, data, params, NOTHING)
  assert list(results) == [
    "operator", "nearest", "nearest_balanced", "nearest_as_stored", "biases_1",
    "distillation_1",
  ]  # fmt: skip
  assert len(kernels) == 2 * len(results)
  for found in kernels:
    for kernel in np.asarray(found):
      one = len(np.unique(kernel)) <= 7
      each = all(len(np.unique(column)) <= 7 for column in kernel.T)
      assert one or each
  for one in results.values():
    assert one.divergence.shape == (2, 3) and (one.divergence > 0).all()
  assert results["biases_1"].images == 16 and not results["nearest"].images
  better = results["distillation_1"].divergence.mean()
  assert better < results["nearest"].divergence.mean()
  outcome = report.outcome(
    plan.WORDS, results, measure.original(data), plan.levels(config), "",
    {"test": 3},
  )  # fmt: skip
  table, differences, _ = outcome.tables
  assert plan.label(table.rows[5]) == "distillation, 1 step, 16 images"
  assert plan.label(differences.rows[1]) == (
    "rounded, equal ranges, 3 bits, per channel"
  )
  assert list(table.columns) == ["bits_3", "bits_3_per_channel"]


def test_training_begins_near_plain_rounding():
  config, data = small()
  job = methods.make_jobs(config, data)["seed_0"]
  params = job.metanetwork.init(jax.random.key(0))

  @jax.jit
  def step(params):
    items, x = job.objective.draw(jax.random.key(1), 0, job.data)
    loss = jax.value_and_grad(job.objective.loss, has_aux=True)
    return jax.lax.map(lambda item: loss(params, item, x), items)

  (relative, metrics), gradient = step(params)
  np.testing.assert_allclose(relative, 1, 0.5)
  assert (metrics["divergence"] > 0).all()
  assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient["hidden"]))
  assert job.validate(params)["val_objective"] == pytest.approx(1, abs=0.3)
