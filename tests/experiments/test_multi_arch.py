"""The experiment on many architectures: its networks, baselines and rows."""

import json

import numpy as np
import pandas as pd
import pytest

from configs import multi_arch as configs
from experiments.multi_arch import plan, report
from experiments.multi_arch.networks import load_multi_arch
from scalegmn_jax.base import InputError
from scalegmn_jax.targets import cnn, mlp
from scalegmn_jax.zoo import codec, collection, store

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
  (folder / name / collection.TARGET).write_text(description)


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
  every = np.concatenate(list(data.parts.values()))
  assert len(set(every)) == len(every) == len(data.values)
  assert set(data.population.architecture_index[data.parts["unseen"]]) == {2}
  # The last checkpoints have odd numbers; in "train" are the others as well.
  last = np.round(data.values * 100).astype(int) % 2 == 1
  for name in ("val", "test", "unseen"):
    assert last[data.parts[name]].all()
  np.testing.assert_array_equal(
    np.flatnonzero(data.trained),
    np.sort(data.parts["train"][last[data.parts["train"]]]),
  )
  # No run is on two sides.
  run = np.round(data.values * 100).astype(int) // 2
  for number in (0, 1):
    sides = [
      {
        run[n]
        for n in data.parts[name]
        if data.population.architecture_index[n] == number
      }
      for name in ("train", "val", "test")
    ]
    assert sum(map(len, sides)) == len(set.union(*sides)) == RUNS
  # What a batch holds of a network is its own.
  for number in (0, 11, 30):
    value = data.population.graph(number).globals["value"]
    assert value == data.values[number]


def test_constants_are_means_of_training_networks(config):
  data = load_multi_arch(config)
  of = data.population.architecture_index
  found = plan.BASELINES["architecture"](data)
  means = [data.values[data.trained & (of == i)].mean() for i in (0, 1)]
  np.testing.assert_allclose(
    found["test"][0], np.array(means)[of[data.parts["test"]]]
  )
  every = data.values[data.trained].mean()
  np.testing.assert_allclose(found["unseen"], np.full((1, 8), every), 1e-6)
  constant = plan.BASELINES["constant"](data)
  np.testing.assert_allclose(constant["test"], np.full((1, 4), every), 1e-6)


def test_architectures_that_have_what_no_other_has(config, tmp_path):
  write(tmp_path, "d", mlp.mlp((1, 4, 4, 4, 3)))
  with pytest.raises(InputError, match="the last 1 architectures have ids"):
    load_multi_arch(config)
  config.zoo.unseen = 4
  with pytest.raises(InputError, match="expected fewer than the 4"):
    load_multi_arch(config)


def test_within_an_architecture_means_do_not_count():
  """Two architectures, ranked right by their means and wrong within."""
  true = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
  found = report.Predicted(
    {"test": np.array([[3, 2, 1, 9, 8, 7.0]]), "unseen": np.zeros((1, 0))}
  )
  of = np.array([0, 0, 0, 1, 1, 1])
  row = report._row(
    "scalegmn", found, {"test": true, "unseen": np.zeros(0)},
    {"test": of, "unseen": np.zeros(0, int)},
  )  # fmt: skip
  assert row["within"] == -1
  assert row["tau"] == pytest.approx((9 - 6) / 15)
  assert "unseen" not in row


@pytest.mark.parametrize(
  ("key", "value"),
  (
    ("methods", ("statistics",)),
    ("methods", ("scalegmn", "mlp")),
    ("seeds", ()),
    ("train.buckets", 0),
    ("train.grad_chunk", 2),
    ("zoo.unseen", -1),
    ("architectures", (((4,), (3,), (1,)),)),
  ),
)
def test_bad_values(key, value):
  config = configs.get_config("tiny")
  plan.check(config)
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f"config.{key} is"):
    plan.check(config)
