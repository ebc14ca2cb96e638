"""Generalization prediction: data, selection on validation, reports."""

import jax
import numpy as np
import pandas as pd
import pytest

from configs import predict_accuracy as configs
from experiments import build
from experiments.predict_accuracy import plan as predict
from experiments.predict_accuracy import report
from experiments.predict_accuracy.data import (
  AccuracyData,
  LabelledNetworks,
  load_accuracy_data,
)
from experiments.predict_accuracy.methods import AccuracyPredictions
from experiments.runner import experiment, select
from scalegmn_jax.base import InputError
from scalegmn_jax.baselines import statistics
from scalegmn_jax.zoo import codec, store

RUNS = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Two zoos; the first weight of a network is its accuracy."""
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
        # Wrong at the first step, which must not be read.
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


def data_of(config):
  images = build.build_images(config)
  target = build.build_target(config, images)
  return load_accuracy_data(config, target, images)


def first_weights(part):
  leaf = jax.tree.leaves(part.networks.weights)[0]
  return leaf.reshape(part.networks.size, -1)[:, 0]


def test_each_zoo_is_split_and_read_at_its_last_step(folders):
  data = data_of(settings(folders))
  assert data.zoo_names == ["zoo0", "zoo1"]
  accuracies = []
  for part, count in ((data.train, 12), (data.val, 6), (data.test, 6)):
    assert np.bincount(part.zoo_index).tolist() == [count, count]
    np.testing.assert_allclose(first_weights(part), part.accuracies, 1e-6)
    accuracies += part.accuracies.tolist()
  assert len(set(accuracies)) == 2 * RUNS


def test_a_regauged_zoo_has_the_functions_of_the_zoo(folders):
  """By permutations, and multipliers (relu) or signs (tanh)."""
  config = settings(folders)
  images = build.build_images(config)
  target = build.build_target(config, images)

  @jax.jit
  @jax.vmap
  def answer(network):
    return target.apply(network.weights, images.test_x[:8], network.activation)

  def sorted_sizes(networks):
    leaves = jax.tree.leaves(networks.weights)
    return np.sort(
      np.concatenate([abs(w).reshape(networks.size, -1) for w in leaves], 1), 1
    )

  stored = load_accuracy_data(config, target, images)
  config.zoo.regauge = True
  regauged = load_accuracy_data(config, target, images)
  for old, new in zip(stored[2:], regauged[2:], strict=True):
    np.testing.assert_array_equal(new.accuracies, old.accuracies)
    expected = answer(old.networks)
    np.testing.assert_allclose(
      answer(new.networks), expected, atol=1e-5 * np.abs(expected).max()
    )
    assert (first_weights(new) != first_weights(old)).mean() > 0.7
    relu = new.networks.activation == 0
    same = sorted_sizes(old.networks) == sorted_sizes(new.networks)
    assert same[~relu].all() and not same[relu].all(1).any()


def test_one_step_one_activation(folders):
  config = settings(folders, **{"zoo.step": 1})
  config.target.activation = ("tanh",)
  train = data_of(config).train
  assert (train.networks.activation == 0).all() and train.networks.size == 12
  np.testing.assert_allclose(first_weights(train), 1 - train.accuracies, 1e-5)


def test_networks_with_nan_are_skipped_on_request(folders, tmp_path):
  old = store.read_zoo(folders[0])
  weights = np.array(old.weights)
  weights[1::8] = np.nan
  store.write_zoo(tmp_path / "zoo", weights, old.metrics, old.layout)
  config = settings((tmp_path / "zoo", folders[1]))
  with pytest.raises(InputError, match="holds NaN or infinity"):
    data_of(config)
  config.zoo.skip_bad = True
  assert sum(len(part.accuracies) for part in data_of(config)[2:]) == 42


def test_the_published_split(folders, tmp_path):
  order = tmp_path / "order.csv"
  rows = np.random.default_rng(0).permutation(2 * RUNS)
  order.write_text("\n".join(["0", *map(str, rows)]))
  config = settings(folders, **{"zoo.step": 4, "zoo.split": str(order)})
  with pytest.raises(InputError, match="zoo.split is .* with zoo.more"):
    experiment.load_experiment(config)
  config.zoo.more = ()
  experiment.load_experiment(config)
  *_, train, val, test = data_of(config)
  assert [p.networks.size for p in (train, val, test)] == [9, 3, 12]


@pytest.mark.parametrize(
  ("changes", "message"),
  (
    ({"methods": ("mlp", "oracle")}, "config.methods is .*oracle"),
    ({"methods": ("statistics",)}, "at least one of scalegmn"),
    ({"train.seeds": (-1,)}, "config.train.seeds is .-1,."),
    ({"loss.name": "l1"}, "config.loss.name is 'l1', expected one of cross"),
    ({"train.learning_rates": (0.1, 0.0)}, "config.train.learning_rates"),
  ),
)
def test_impossible_values(folders, changes, message):
  with pytest.raises(InputError, match=message):
    experiment.load_experiment(settings(folders, **changes))


def test_rates_are_selected_on_validation_for_each_seed(folders, monkeypatch):
  monkeypatch.setattr(statistics, "BOOSTING", {"max_iter": (50,)})
  config = settings(
    folders, **{"train.learning_rates": (1e-3, 1e-2), "train.seeds": (3, 4)}
  )
  plan = predict.plan(config)
  assert list(plan.jobs) == [
    "mlp/0.001/3", "mlp/0.01/3", "mlp/0.001/4", "mlp/0.01/4",
  ]  # fmt: skip
  assert [(j.seed, j.learning_rate) for j in plan.jobs.values()] == [
    (3, 1e-3), (3, 1e-2), (4, 1e-3), (4, 1e-2),
  ]  # fmt: skip
  init = jax.jit(plan.jobs["mlp/0.001/3"].metanetwork.init)
  params = {
    name: init(jax.random.key(number)) for number, name in enumerate(plan.jobs)
  }
  outcome = plan.evaluate(params)
  for seed, rate in zip((3, 4), outcome.extra["selected"]["mlp"], strict=True):
    jobs = {n: job for n, job in plan.jobs.items() if job.seed == seed}
    assert rate == select.select_best(jobs, params).job.learning_rate
  flat, of_layers, constant = outcome.tables[0].rows
  assert [predict.label(row) for row in outcome.tables[0].rows] == [
    "flat MLP", "layer statistics", "constant: training mean",
  ]  # fmt: skip
  assert flat["std"] > 0 and of_layers["std"] is None
  # The accuracy is a bias of these networks: statistics contain it.
  assert of_layers["tau"] > 0.8
  assert constant["tau"] == constant["high"] == 0 and constant["r2"] <= 0
  # τ within each activation and each zoo.
  assert list(outcome.tables[1].columns) == ["relu", "tanh", "zoo0", "zoo1"]
  difference, *_ = outcome.lines
  assert "flat MLP vs layer statistics: τ" in difference
  assert any("flat MLP: learning rate 0.0" in line for line in outcome.lines)
  panels = [a for a in outcome.pictures["scatter.png"].axes if a.get_visible()]
  assert [a.get_title().split("\n")[0] for a in panels] == [
    "flat MLP", "layer statistics",
  ]  # fmt: skip


def test_published_numbers_are_for_the_same_images_and_activations():
  config = configs.get_config("cifar10_gs")
  values = np.linspace(0, 1, 5)
  test = LabelledNetworks(None, values, np.zeros(5, int))
  data = AccuracyData(("relu", "tanh"), ["zoo"], test, test, test)
  predictions = {"forward": AccuracyPredictions(values[None], 0.1)}

  def lines(data):
    return report._lines(config, data, predictions, {})

  assert "0.941" in lines(data)[-1]
  assert "0.942" in lines(data._replace(activations=("tanh",)))[-1]
  config.data.name = "digits"
  assert lines(data) == []


def test_variants():
  with pytest.raises(ValueError, match="no variant 'huge'"):
    configs.get_config("huge")
  for variant in ("", "mixed", "tiny", "cifar10_gs", "paper"):
    experiment.load_experiment(configs.get_config(variant))
