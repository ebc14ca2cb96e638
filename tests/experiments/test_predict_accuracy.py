"""Generalization prediction: what is read, chosen and reported."""

import jax
import numpy as np
import pandas as pd
import pytest

from configs import predict_accuracy as configs
from experiments import build
from experiments.predict_accuracy import plan as predict
from experiments.predict_accuracy import report
from scalegmn_jax.base import InputError
from scalegmn_jax.baselines import statistics
from scalegmn_jax.zoo import codec

RUNS = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Two zoos whose weights say which network it is, and its accuracy."""
  config = configs.get_config("tiny")
  config.target.activation = ("relu", "tanh")
  target = build.build_target(config, build.build_images(config))
  size = codec.layout_of(target).size
  paths = []
  for number in range(2):
    accuracy = np.linspace(0.1, 0.9, RUNS) + 0.01 * number
    weights = np.random.default_rng(number).normal(size=(2 * RUNS, size))
    weights *= 0.01
    weights[:, 0] = np.repeat(accuracy, 2)
    metrics = pd.DataFrame(
      {
        "modeldir": np.repeat([f"run{i}" for i in range(RUNS)], 2),
        "step": np.tile([1, 4], RUNS),
        "config.activation": np.tile(["relu", "relu", "tanh", "tanh"], 12),
        # Of the first step it is wrong: nobody should read that.
        "test_accuracy": np.stack([1 - accuracy, accuracy], 1).ravel(),
      }
    )
    paths.append(tmp_path_factory.mktemp("zoos") / f"zoo{number}")
    codec.write_networks(
      paths[-1], target, codec.to_weights(target, weights), metrics
    )
  return paths


def settings(folders, **changes):
  config = configs.get_config("tiny")
  config.zoo.path, more = (str(folder) for folder in folders)
  config.zoo.more = (more,)
  config.target.activation = ("relu", "tanh")
  config.methods = ("mlp", "statistics", "constant")
  config.update_from_flattened_dict(changes)
  return config


def sides_of(config):
  data = build.build_images(config)
  target = build.build_target(config, data)
  return predict._sides(config, target, data)


def test_zoos_are_split_each_by_itself_and_read_at_their_last_step(folders):
  sources, sides = sides_of(settings(folders))
  assert sources == ["zoo0", "zoo1"]
  seen = []
  for side, count in zip(sides, (12, 6, 6), strict=True):
    assert np.bincount(side.source).tolist() == [count, count]
    first = jax.tree.leaves(side.zoo.weights)[0].reshape(2 * count, -1)[:, 0]
    np.testing.assert_allclose(first, side.values, 1e-6)
    seen += side.values.tolist()
  assert len(set(seen)) == 2 * RUNS


def test_one_step_one_activation(folders):
  config = settings(folders, **{"zoo.step": 1})
  config.target.activation = ("tanh",)
  _, (train, *_) = sides_of(config)
  assert (train.zoo.activation == 0).all() and len(train.values) == 12
  first = jax.tree.leaves(train.zoo.weights)[0].reshape(12, -1)[:, 0]
  np.testing.assert_allclose(first, 1 - train.values, 1e-5)


def test_the_published_split(folders, tmp_path):
  order = tmp_path / "order.csv"
  rows = np.random.default_rng(0).permutation(2 * RUNS)
  order.write_text("\n".join(["0", *map(str, rows)]))
  config = settings(folders, **{"zoo.step": 4, "zoo.split": str(order)})
  with pytest.raises(InputError, match="zoo.split is .* with zoo.more"):
    predict.check(config)
  config.zoo.more = ()
  predict.check(config)
  _, sides = sides_of(config)
  assert [len(side.values) for side in sides] == [9, 3, 12]


@pytest.mark.parametrize(
  ("changes", "message"),
  (
    ({"methods": ("mlp", "oracle")}, "config.methods is .*oracle"),
    ({"methods": ("statistics",)}, "at least one of bidirectional"),
    ({"seeds": ()}, "config.train.seeds is ()"),
    ({"train.learning_rates": (0.1, 0.0)}, "config.train.learning_rates"),
  ),
)
def test_impossible_values(folders, changes, message):
  with pytest.raises(InputError, match=message):
    predict.check(settings(folders, **changes))


def test_unknown_loss(folders):
  with pytest.raises(InputError, match="loss.name is 'l1'"):
    predict.plan(settings(folders, **{"loss.name": "l1"}))


def test_rates_are_chosen_on_validation_for_each_seed(folders, monkeypatch):
  monkeypatch.setattr(statistics, "BOOSTING", {"max_iter": (50,)})
  config = settings(
    folders, **{"train.learning_rates": (1e-3, 1e-2), "seeds": (3, 4)}
  )
  plan = predict.plan(config)
  assert list(plan.jobs) == [
    "mlp/0.001/3", "mlp/0.01/3", "mlp/0.001/4", "mlp/0.01/4",
  ]  # fmt: skip
  rates = {t.learning_rate for t in plan.jobs.values()}
  assert rates == {1e-3, 1e-2}
  init = jax.jit(plan.jobs["mlp/0.001/3"].metanetwork.init)
  params = {
    name: init(jax.random.key(number))
    for number, name in enumerate(plan.jobs)
  }
  objective = {
    name: job.validate(params[name])["val_objective"]
    for name, job in plan.jobs.items()
  }
  outcome = plan.evaluate(params)
  chosen = outcome.extra["chosen"]["flat MLP"]
  for seed, name in zip((3, 4), chosen, strict=True):
    rate = name.removeprefix("rate ")
    assert objective[f"mlp/{rate}/{seed}"] == min(
      objective[f"mlp/{r}/{seed}"] for r in ("0.001", "0.01")
    )
  first, of_layers, constant = outcome.tables[0].rows
  assert first["std"] > 0 and of_layers["std"] is None
  # The accuracy is a bias of these networks: statistics find it.
  assert of_layers["tau"] > 0.8
  assert constant["tau"] == constant["high"] == 0 and constant["r2"] <= 0
  # τ within each activation and each zoo.
  assert list(outcome.tables[1].columns) == ["relu", "tanh", "zoo0", "zoo1"]
  against, *_ = outcome.lines
  assert "flat MLP against layer statistics: τ" in against
  panels = [a for a in outcome.pictures["scatter.png"].axes if a.get_visible()]
  assert [a.get_title().split("\n")[0] for a in panels] == [
    "flat MLP", "layer statistics",
  ]  # fmt: skip


def test_published_numbers_stand_beside_the_same_images_and_activations():
  config = configs.get_config("cifar10_gs")
  values = np.linspace(0, 1, 5)
  found = {"a": report.Predicted(values[None], 0.1)}

  def lines():
    return report._lines(config, found, values, {})

  assert "0.941" in lines()[-1]
  config.target.activation = ("tanh",)
  assert "0.942" in lines()[-1]
  config.data.name = "digits"
  assert lines() == []


def test_variants():
  with pytest.raises(ValueError, match="no variant 'huge'"):
    configs.get_config("huge")
  for variant in ("", "mixed", "tiny", "cifar10_gs", "paper"):
    predict.check(configs.get_config(variant))
