"""Generated zoos: settings, files, cache and resumption."""

import threading
import time

import jax
import numpy as np
import pandas as pd
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.inner import objective
from scalegmn_jax.targets import mlp, resnet
from scalegmn_jax.zoo import cache, codec, generate, split, store

SETTINGS = {
  "size": 24,
  "epochs": (0, 2, 4),
  "batch_size": 64,
  "ranges": generate.TrainingRanges(),
  "save_every": 16,
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
  return cache.cached_zoo(folder, target, digits, seed=0, **SETTINGS)


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
  # Biases start at zero; the scales of initializations differ.
  assert (zoo.weights[first.index][:, :16] == 0).all()
  assert np.ptp(np.log(zoo.weights[first.index].std(1))) > 1


def test_metrics_belong_to_the_weights(zoo, digits, target):
  rows = np.array([2, 5, 40])
  loaded = codec.load_networks(target, zoo, rows)
  for i, row in enumerate(rows):
    network = loaded.take(i)
    logits = target.apply(network.weights, digits.test_x, network.activation)
    accuracy = (np.argmax(logits, 1) == digits.test_y).mean()
    assert accuracy == pytest.approx(zoo.metrics.test_accuracy[row])


def test_a_zoo_is_trained_once(zoo, digits, target, monkeypatch):
  def never(*args, **kwargs):
    raise AssertionError("trained again")

  monkeypatch.setattr(generate, "train_networks", never)
  again = cache.cached_zoo(zoo.path.parent, target, digits, seed=0, **SETTINGS)
  assert again.path == zoo.path
  with pytest.raises(AssertionError, match="trained again"):
    cache.cached_zoo(zoo.path.parent, target, digits, seed=1, **SETTINGS)


def test_an_interrupted_zoo_is_resumed(
  zoo, digits, target, tmp_path, monkeypatch
):
  calls = []
  whole = generate.train_networks

  def interrupted(*args, **kwargs):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return whole(*args, **kwargs)

  monkeypatch.setattr(generate, "train_networks", interrupted)
  with pytest.raises(KeyboardInterrupt):
    cache.cached_zoo(tmp_path, target, digits, seed=0, **SETTINGS)
  resumed = cache.cached_zoo(tmp_path, target, digits, seed=0, **SETTINGS)
  assert len(calls) == 3  # the first part was not trained again
  np.testing.assert_array_equal(resumed.weights, zoo.weights)
  assert resumed.metrics.equals(zoo.metrics)
  left = {p.name for p in tmp_path.iterdir()}
  assert left - {f".{resumed.path.name}.lock"} == {resumed.path.name}


def test_one_process_trains_a_zoo_and_others_wait(
  zoo, digits, target, tmp_path, monkeypatch, caplog
):
  calls, zoos = [], []
  whole = generate.train_networks

  def get():
    zoos.append(cache.cached_zoo(tmp_path, target, digits, seed=0, **SETTINGS))

  other = threading.Thread(target=get)

  def slow(*args, **kwargs):
    calls.append(1)
    if len(calls) == 1:
      other.start()
      while "waiting for another process" not in caplog.text:
        time.sleep(0.01)
    return whole(*args, **kwargs)

  monkeypatch.setattr(generate, "train_networks", slow)
  get()
  other.join()
  assert len(calls) == 2  # the number of parts
  for files in zoos:
    np.testing.assert_array_equal(files.weights, zoo.weights)


def test_sides_share_no_network(zoo):
  sides = split.split_zoo(zoo, fractions=(0.5, 0.25, 0.25), eval_step=None)
  names = [set(zoo.metrics.modeldir[side]) for side in sides]
  assert sum(map(len, sides)) == 72 and all(names)
  assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"size": 0}, "^size is 0"),
    ({"save_every": 0}, "save_every is 0"),
    ({"epochs": ()}, "^epochs is"),
    ({"batch_size": 10_000}, "^batch_size is 10000"),
    (
      {"ranges": generate.TrainingRanges(outputs_per_network=(2, 3))},
      "^outputs_per_network is .2, 3. without",
    ),
    (
      {"ranges": generate.TrainingRanges(classes_per_network=(2, 11))},
      "^classes_per_network is .2, 11., expected at most 10",
    ),
  ],
)
def test_bad_settings(change, message, digits, target, tmp_path):
  with pytest.raises(InputError, match=message):
    cache.cached_zoo(tmp_path, target, digits, seed=0, **(SETTINGS | change))


def test_targets_without_description_are_not_cached(digits, target, tmp_path):
  with pytest.raises(InputError, match="target has an empty description"):
    cache.cached_zoo(
      tmp_path, target._replace(description={}), digits, seed=0, **SETTINGS
    )


def test_folder_is_frozen(zoo):
  """Zoos cached by other versions are found again."""
  assert zoo.path.name == "zoo-4f2299a5383e36e4"


def test_rows_and_weights_are_inverse(target):
  size = codec.layout_of(target).size
  rows = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
  back = codec.to_rows(codec.to_weights(target, rows))
  np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize(
  ("classes", "groups", "sets"),
  [((5, 5), (), (5,)), ((2, 4), (), (5,)), ((5, 5), (2, 4), (5,)),
   ((3, 5), (2, 3), (5, 5))],
)  # fmt: skip
def test_drawn_classes_have_the_sizes_of_the_ranges(classes, groups, sets):
  ranges = generate.TrainingRanges(
    classes_per_network=classes, outputs_per_network=groups
  )
  draw = jax.jit(
    jax.vmap(lambda key: generate.draw_classes(key, ranges, sets, 5))
  )
  drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 300)))
  assert drawn.shape == (300, sum(sets))
  kept, used = (drawn >= 0).sum(1), [len(set(t[t >= 0])) for t in drawn]
  assert (kept.min(), kept.max()) == classes
  assert (min(used), max(used)) == (groups or classes)
  assert drawn.max() == 4 and len({tuple(t) for t in drawn}) > 60
  # Every class at every output, and classes of one image set per network.
  assert all(set(range(5)) <= set(column) for column in drawn.T)
  set_of_class = np.repeat(np.arange(len(sets)), sets)
  assert all(len(set(set_of_class[t >= 0])) == 1 for t in drawn)


def test_networks_learn_network_specific_labels(tmp_path, digits, target):
  settings = SETTINGS | {
    "ranges": generate.TrainingRanges(
      classes_per_network=(2, 3),
      learning_rate=(3e-3, 1e-2),
      init_std=(0.05, 0.1),
    )
  }
  zoo = cache.cached_zoo(tmp_path, target, digits, seed=0, **settings)
  rows = split.select_rows(zoo, "last")
  loaded = codec.load_networks(target, zoo, rows)
  assert loaded.class_to_output.shape == (24, 10)
  accuracy = objective.evaluate_networks(
    target.apply, loaded, digits.test_x, digits.test_y
  )[1]
  measured = codec.read_metric(zoo, rows)
  np.testing.assert_allclose(accuracy, measured, atol=1e-3)
  assert np.median(measured) > 0.8
  # Other labels than the ones they were trained on are not predicted.
  others = loaded._replace(class_to_output=loaded.class_to_output[::-1])
  other = objective.evaluate_networks(
    target.apply, others, digits.test_x, digits.test_y
  )[1]
  assert np.median(other) < 0.6


def test_images_of_every_set_are_measured(monkeypatch):
  monkeypatch.setattr(generate, "MEASURED", 3)
  labels = np.array([1, 0, 1, 0, 1, 2, 2, 4, 3, 3, 3, 5])
  x = np.arange(len(labels))
  for sets, rows in (((), [0, 1, 2]), ((2, 1, 3), [0, 1, 2, 5, 6, 7, 8, 9])):
    found, of = generate._sample(x, labels, sets)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(of, labels[rows])


def test_networks_keep_running_statistics(tmp_path, digits):
  """They move in training, and what is measured uses them."""
  target = resnet.resnet((8, 8, 1), widths=(4,))
  ranges = generate.TrainingRanges(
    learning_rate=(1e-2, 2e-2), dropout=(0.0, 0.0), train_fraction=(1.0,),
    optimizer=("adam",), initializer=("target",),
  )  # fmt: skip
  zoo = cache.cached_zoo(
    tmp_path, target, digits, seed=0, size=2, epochs=(0, 2), batch_size=64,
    ranges=ranges,
  )  # fmt: skip
  found = codec.read_target(zoo.path)
  assert found.description == target.description
  networks = codec.load_networks(found, zoo, np.arange(4))
  mean, variance = (networks.weights["stem"][n] for n in ("mean", "variance"))
  assert (mean[::2] == 0).all() and (variance[::2] == 1).all()
  assert (mean[1::2] != 0).all() and (variance[1::2] != 1).all()
  last = networks.take(1)
  logits = jax.jit(target.apply)(last.weights, digits.test_x)
  accuracy = (np.argmax(logits, 1) == digits.test_y).mean()
  assert accuracy == pytest.approx(zoo.metrics.test_accuracy[1])
  assert accuracy > 0.2


@pytest.mark.parametrize("text", ["10 0 1", "-1 -1 -1", "0 1", "one", "0 -2 1"])
def test_broken_class_to_output(tmp_path, target, text):
  metrics = pd.DataFrame(
    {
      "modeldir": ["a", "b"],
      "step": 0,
      "config.activation": "relu",
      "config.classes": ["0 1 2", text],
    }
  )
  weights = np.zeros((2, codec.layout_of(target).size), np.float32)
  store.write_zoo(tmp_path / "zoo", weights, metrics, codec.layout_of(target))
  with pytest.raises(InputError, match="row 1: config.classes is '"):
    codec.load_networks(target, store.read_zoo(tmp_path / "zoo"), np.arange(2))
