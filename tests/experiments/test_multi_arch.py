"""The experiment `multi_arch`: data, baselines and rows."""

import json
import types

import numpy as np
import pandas as pd
import pytest

from configs import multi_arch as configs
from experiments.multi_arch import methods, plan, report
from experiments.multi_arch.data import MultiArchData, load_multi_arch
from experiments.multi_arch.methods import MultiArchPredictions
from experiments.runner import experiment, pictures
from scalegmn_jax.base import InputError
from scalegmn_jax.targets import cnn, mlp
from scalegmn_jax.zoo import codec, store

TARGETS = {
  "a": cnn.cnn((8, 8, 1), (4,), 3, 4, "SAME", classes=3),
  "b": cnn.cnn((8, 8, 1), (4, 4), 3, 4, "SAME", classes=3),
  "c": cnn.cnn((8, 8, 1), (6,), 1, 4, "SAME", classes=3),
}
RUNS, STEPS = 8, (1, 5)


def write(folder, name, target):
  """A zoo of random networks whose accuracies tell run and step."""
  rows = np.random.default_rng(0).normal(
    size=(RUNS * len(STEPS), codec.layout_of(target).size)
  )
  metrics = pd.DataFrame(
    {
      "modeldir": np.repeat([f"{i}" for i in range(RUNS)], len(STEPS)),
      "step": np.tile(STEPS, RUNS),
      "test_accuracy": np.arange(RUNS * len(STEPS)) / 100,
      "config.activation": "relu",
    }
  )
  store.write_zoo(
    folder / name, rows.astype(np.float32), metrics, codec.layout_of(target)
  )
  description = json.dumps(dict(target.description))
  (folder / name / store.TARGET).write_text(description)


@pytest.fixture
def config(tmp_path):
  for name, target in TARGETS.items():
    write(tmp_path, name, target)
  config = configs.get_config()
  config.zoo.path = str(tmp_path)
  config.zoo.unseen = 1
  config.zoo.fractions = (0.5, 0.25, 0.25)
  return config


def test_networks_are_split_and_numbered(config):
  data = load_multi_arch(config)
  assert data.names == ["4 k3 s4", "4-4 k3-3 s4-4", "6 k1 s4"]
  counts = {name: len(rows) for name, rows in data.parts.items()}
  assert counts == {"train": 16, "val": 4, "test": 4, "unseen": 8}
  numbers = np.concatenate(list(data.parts.values()))
  assert len(set(numbers)) == len(numbers) == len(data.accuracies)
  assert set(data.dataset.architecture_index[data.parts["unseen"]]) == {2}
  # The last checkpoints have odd numbers; "train" has all checkpoints.
  last = np.round(data.accuracies * 100).astype(int) % 2 == 1
  for name in ("val", "test", "unseen"):
    assert last[data.parts[name]].all()
  np.testing.assert_array_equal(
    np.flatnonzero(data.last_train),
    np.sort(data.parts["train"][last[data.parts["train"]]]),
  )
  # No training run is in two parts.
  run = np.round(data.accuracies * 100).astype(int) // 2
  for number in (0, 1):
    parts = [
      {
        run[n]
        for n in data.parts[name]
        if data.dataset.architecture_index[n] == number
      }
      for name in ("train", "val", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == RUNS
  # A graph carries the accuracy of its network.
  for number in (0, 11, 30):
    value = data.dataset.graph(number).globals["value"]
    assert value == data.accuracies[number]


def test_constants_are_means_of_training_networks(config):
  data = load_multi_arch(config)
  of = data.dataset.architecture_index
  by_architecture = methods.BASELINES["architecture"](data).values
  means = [data.accuracies[data.last_train & (of == i)].mean() for i in (0, 1)]
  np.testing.assert_allclose(
    by_architecture["test"][0], np.array(means)[of[data.parts["test"]]]
  )
  mean = data.accuracies[data.last_train].mean()
  np.testing.assert_allclose(
    by_architecture["unseen"], np.full((1, 8), mean), 1e-6
  )
  constant = methods.BASELINES["constant"](data).values
  np.testing.assert_allclose(constant["test"], np.full((1, 4), mean), 1e-6)


def test_unseen_architectures_with_types_that_are_not_trained(config, tmp_path):
  write(tmp_path, "d", mlp.mlp((1, 4, 4, 4, 3)))
  with pytest.raises(InputError, match="the last 1 architectures have types"):
    load_multi_arch(config)
  config.zoo.unseen = 4
  with pytest.raises(InputError, match="expected fewer than the 4"):
    load_multi_arch(config)


def test_tau_within_architectures_ignores_their_means():
  """Two architectures, ranked right by their means and wrong within."""
  data = MultiArchData(
    names=["a", "b"],
    dataset=types.SimpleNamespace(
      architecture_index=np.array([0, 0, 0, 1, 1, 1])
    ),
    networks=[],
    accuracies=np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]),
    parts={"test": np.arange(6), "unseen": np.zeros(0, int)},
    last_train=np.zeros(6, bool),
  )
  predictions = MultiArchPredictions(
    {"test": np.array([[3, 2, 1, 9, 8, 7.0]]), "unseen": np.zeros((1, 0))}
  )
  row = report._row("scalegmn", predictions, data)
  assert row["within"] == -1
  assert row["tau"] == pytest.approx((9 - 6) / 15)
  assert "unseen_tau" not in row
  assert plan.label(row) == "ScaleGMN, mixed batches"


@pytest.mark.parametrize("count", [2, 20, 60])
def test_a_picture_has_room_for_its_legend(tmp_path, count):
  """One method, and more architectures than fit beside its two plots."""
  values = np.linspace(0, 1, 2 * count)
  data = types.SimpleNamespace(
    names=[f"16-16-16 k3-3-3 s2-2-{i} flatten" for i in range(count)],
    parts={"train": range(9)},
    true=lambda part: values,
    architecture_index=lambda part: np.arange(2 * count) // 2,
  )
  predictions = {
    "probes": MultiArchPredictions(dict.fromkeys(report.EVALUATED, [values]))
  }
  figure = report._scatter(data, predictions, 0)
  pictures.save(figure, tmp_path / "scatter.png")  # a warning is an error
  for axis in figure.axes:
    box = axis.get_window_extent()
    assert min(box.width, box.height) > 1.2 * figure.dpi
  assert len(figure.legends) == (count < 60)


def test_labels_of_architectures():
  row = {"architecture": "4 k3 s4", "unseen": True}
  assert plan.label(row) == "4 k3 s4 (unseen)"
  assert plan.label(row | {"unseen": False}) == "4 k3 s4"


@pytest.mark.parametrize(
  ("key", "value"),
  (
    ("methods", ("statistics",)),
    ("methods", ("scalegmn", "mlp")),
    ("train.seeds", (-1,)),
    ("loss.name", "l1"),
    ("train.buckets", 0),
    ("train.grad_chunk", 2),
    ("zoo.unseen", -1),
    ("architectures", (((4,), (3,), (1,)),)),
  ),
)
def test_bad_values(key, value):
  config = configs.get_config("tiny")
  experiment.load_experiment(config)
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f"config.{key} is"):
    experiment.load_experiment(config)
