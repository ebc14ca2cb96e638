"""Zoos made here: their settings, files, cache and resumption."""

import threading
import time

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.targets import mlp
from scalegmn_jax.zoo import cache, generate, networks, store

SETTINGS = {
  "size": 24,
  "epochs": (0, 2, 4),
  "batch_size": 64,
  "ranges": generate.Ranges(),
  "chunk": 16,
}


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


@pytest.fixture(scope="module")
def target():
  return mlp.mlp((64, 16, 10), ("relu", "tanh"))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, digits, target):
  folder = tmp_path_factory.mktemp("zoos")
  return cache.generated(folder, target, digits, seed=0, **SETTINGS)


def test_settings_differ_and_accuracies_span(zoo):
  last = zoo.metrics[zoo.metrics.step == 4]
  assert len(last) == 24
  for name in ("learning_rate", "l2reg", "dropout", "init_std"):
    assert last[f"config.{name}"].nunique() == 24
  for name in ("optimizer", "w_init", "train_fraction", "activation"):
    assert last[f"config.{name}"].nunique() > 1
  assert last.test_accuracy.max() - last.test_accuracy.min() >= 0.3
  first = zoo.metrics[zoo.metrics.step == 0]
  assert last.test_accuracy.mean() > first.test_accuracy.mean() + 0.1
  assert np.isfinite(zoo.weights).all()
  # Biases start at zero, and the initializations have different sizes.
  assert (zoo.weights[first.index][:, :16] == 0).all()
  assert np.ptp(np.log(zoo.weights[first.index].std(1))) > 1


def test_metrics_are_those_of_the_weights(zoo, digits, target):
  rows = np.array([2, 5, 40])
  loaded = networks.load(target, zoo, rows)
  for i, row in enumerate(rows):
    weights = [{k: v[i] for k, v in layer.items()} for layer in loaded.weights]
    logits = target.apply(weights, digits.test_x, loaded.activation[i])
    accuracy = (np.argmax(logits, 1) == digits.test_y).mean()
    assert accuracy == pytest.approx(zoo.metrics.test_accuracy[row])


def test_a_zoo_is_made_once(zoo, digits, target, monkeypatch):
  def never(*args, **kwargs):
    raise AssertionError("trained again")

  monkeypatch.setattr(generate, "train_networks", never)
  again = cache.generated(
    zoo.path.parent, target, digits, seed=0, **SETTINGS
  )
  assert again.path == zoo.path
  with pytest.raises(AssertionError, match="trained again"):
    cache.generated(zoo.path.parent, target, digits, seed=1, **SETTINGS)


def test_an_interrupted_zoo_goes_on(zoo, digits, target, tmp_path, monkeypatch):
  calls = []
  whole = generate.train_networks

  def interrupted(*args, **kwargs):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return whole(*args, **kwargs)

  monkeypatch.setattr(generate, "train_networks", interrupted)
  with pytest.raises(KeyboardInterrupt):
    cache.generated(tmp_path, target, digits, seed=0, **SETTINGS)
  resumed = cache.generated(tmp_path, target, digits, seed=0, **SETTINGS)
  assert len(calls) == 3  # the first chunk was not trained again
  np.testing.assert_array_equal(resumed.weights, zoo.weights)
  assert resumed.metrics.equals(zoo.metrics)
  left = {p.name for p in tmp_path.iterdir()}
  assert left - {f".{resumed.path.name}.lock"} == {resumed.path.name}


def test_one_process_makes_a_zoo_and_others_wait(
  zoo, digits, target, tmp_path, monkeypatch, caplog
):
  calls, found = [], []
  whole = generate.train_networks

  def want():
    found.append(cache.generated(tmp_path, target, digits, seed=0, **SETTINGS))

  other = threading.Thread(target=want)

  def slow(*args, **kwargs):
    calls.append(1)
    if len(calls) == 1:
      other.start()
      while "waiting for another process" not in caplog.text:
        time.sleep(0.01)
    return whole(*args, **kwargs)

  monkeypatch.setattr(generate, "train_networks", slow)
  want()
  other.join()
  assert len(calls) == 2  # as many as there are chunks
  for files in found:
    np.testing.assert_array_equal(files.weights, zoo.weights)


def test_sides_share_no_network(zoo):
  rows = store.select(zoo)
  sides = store.split(zoo, rows, (0.5, 0.25, 0.25))
  names = [set(zoo.metrics.modeldir[side]) for side in sides]
  assert sum(map(len, sides)) == 72 and all(names)
  assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"size": 0}, "zoo.size is 0"),
    ({"epochs": ()}, "zoo.epochs"),
    ({"batch_size": 10_000}, "zoo.batch_size is 10000"),
  ],
)
def test_bad_settings(change, message, digits, target, tmp_path):
  with pytest.raises(InputError, match=message):
    cache.generated(
      tmp_path, target, digits, seed=0, **(SETTINGS | change)
    )


def test_rows_and_weights_are_inverse(target):
  size = networks.layout_of(target).size
  rows = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
  back = networks.to_rows(networks.to_weights(target, rows))
  np.testing.assert_array_equal(back, rows)
