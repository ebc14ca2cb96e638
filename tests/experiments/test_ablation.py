"""The ablation: its networks, its models, and what it says of numbers."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from configs import ablation as configs
from experiments import build
from experiments.ablation import models, plan, report
from experiments.ablation.report import Found, Point
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp
from scalegmn_jax.zoo import codec

RUNS = 20


def settings(**changes):
  config = configs.get_config("tiny")
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two checkpoints of each run; weights that say which network it is."""
  config = settings()
  data = images_of(config)
  target = mlp.mlp((64, 4, data.num_classes))
  accuracy = np.linspace(0.1, 0.9, RUNS)
  size = codec.layout_of(target).size
  rows = np.repeat(accuracy, 2)[:, None] * np.ones(size)
  metrics = pd.DataFrame(
    {
      "modeldir": np.repeat([f"run{i:02}" for i in range(RUNS)], 2),
      "step": np.tile([1, 4], RUNS),
      "config.activation": "relu",
      # Of the first step it is wrong.
      "test_accuracy": np.stack([1 - accuracy, accuracy], 1).ravel(),
    }
  )
  path = tmp_path_factory.mktemp("zoos") / "zoo"
  codec.write_networks(path, target, codec.to_weights(target, rows), metrics)
  return str(path)


def images_of(config):
  return build.build_images(config)


def case_of(config):
  return plan._case(config, "relu mlp", images_of(config))


def runs(part):
  """Which network each one is, by its weights."""
  return np.asarray(part.zoo.weights[0]["bias"][:, 0])


def test_small_training_sets_are_parts_of_large_ones(folder):
  case = case_of(settings(**{"zoo.path": folder, "sizes": (2, 4, 8)}))
  assert list(case.train) == [2, 4, 8]
  parts = [set(runs(part)) for part in case.train.values()]
  assert [len(part) for part in parts] == [2, 4, 8]
  assert parts[0] < parts[1] < parts[2]
  # Held-out networks are the same whatever is trained on, and no others.
  held_out = set(runs(case.val)) | set(runs(case.test))
  assert (len(runs(case.val)), len(held_out)) == (4, 12)
  assert not held_out & parts[-1]
  fewer = case_of(settings(**{"zoo.path": folder, "sizes": (4,)}))
  assert runs(fewer.test).tolist() == runs(case.test).tolist()
  assert set(runs(fewer.train[4])) == parts[1]
  for part in (case.test, case.val, *case.train.values()):
    np.testing.assert_allclose(part.values, runs(part), 1e-6)


def test_fine_tuning_learns_from_all_checkpoints(folder):
  config = settings(**{"zoo.path": folder, "task": "finetune"})
  case = case_of(config)
  assert len(case.train[4].values) == 8
  assert len(set(runs(case.train[4]))) == 4
  assert len(case.test.values) == len(set(runs(case.test))) == 8


def test_too_few_networks(folder):
  config = settings(**{"zoo.path": folder, "sizes": (9,)})
  with pytest.raises(InputError, match="20 networks, expected 21: 9 for train"):
    case_of(config)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"task": "guess"}, "config.objective is 'guess', expected one of predict"),
    ({"models": ("permutation",)}, "config.models is .* expected target and"),
    ({"sizes": (3, 8)}, "config.sizes is .3, 8., expected divisors"),
    ({"sizes": ()}, "config.sizes is"),
    ({"seeds": ()}, "config.train.seeds is"),
    ({"architectures": ("relu rnn",)}, "config.architectures .* cnn, mlp"),
    ({"architectures": ("mlp",)}, "config.architectures is"),
    ({"train.learning_rates": (0.0,)}, "config.train.learning_rates is"),
    (
      {"architectures": ("relu mlp", "tanh mlp"), "zoo.path": "zoo"},
      "config.zoo.path is 'zoo', expected '' for several",
    ),
  ],
)
def test_bad_values(changes, message):
  plan.check(settings())
  with pytest.raises(InputError, match=message):
    plan.check(settings(**changes))


def test_what_each_model_is_invariant_to(random_weights):
  target = mlp.mlp((3, 5, 2))
  config = settings(**{"model.depth": 1, "model.width": 4})
  learned = {
    task: models.TASKS[task](config, target, images_of(config))
    for task in ("predict", "finetune")
  }
  networks = [random_weights(target, seed, dead=False) for seed in range(4)]
  stacked = jax.tree.map(lambda *w: jnp.stack(w), *networks)
  key = jax.random.key(0)
  moved = {
    decades: actions.act(
      actions.sample(key, target.spec, decades=decades),
      target.spec,
      networks[0],
    )
    for decades in (0.0, 1.0)
  }
  zoo = Networks(stacked, jnp.zeros(4, jnp.int32))
  for model, kept in (
    ("target", (True, True)),
    ("balanced", (True, True)),
    ("permutation", (True, False)),
    ("mlp", (False, False)),
  ):
    functional, operator = (
      learned[task].metanetwork(model, zoo) for task in learned
    )
    params = jax.jit(functional.init)(key)
    value = jax.jit(lambda w, f=functional, p=params: f.apply(p, w)[0])
    before = value(networks[0])
    spread = np.std([value(n) for n in networks])
    found = [abs(value(m) - before) < 1e-3 * spread for m in moved.values()]
    assert tuple(found) == kept, model
    phi = jax.eval_shape(operator.init, key)
    edited = jax.eval_shape(operator.apply, phi, networks[0])
    assert jax.tree.map(jnp.shape, edited) == jax.tree.map(
      jnp.shape, networks[0]
    )


SIZES = (8, 16, 32)


@pytest.fixture(scope="module")
def outcome():
  """Of a model that ranks well, one that needs twice the data, and noise."""
  rng = np.random.default_rng(0)
  true = rng.uniform(size=200).astype(np.float32)
  noise = {
    ("target", 8): 0.4, ("target", 16): 0.2, ("target", 32): 0.1,
    ("permutation", 8): 0.8, ("permutation", 16): 0.4, ("permutation", 32): 0.2,
    ("mlp", 8): 9, ("mlp", 16): 9, ("mlp", 32): 9,
  }  # fmt: skip
  found = {}
  for (model, size), std in noise.items():
    numbers = true + std * np.random.default_rng(1).normal(size=(2, 200))
    worse = numbers + (0 if model == "target" else 1) * rng.normal(size=200)
    found[Point("relu mlp", model, size)] = Found(
      numbers, worse, steps=10, parameters=20, rates=[1e-3, 3e-3]
    )
  target = mlp.mlp((3, 5, 2))
  config = settings(sizes=SIZES)
  cases = {
    "relu mlp": types.SimpleNamespace(
      target=target,
      learned=models.predict(config, target, None),
      test=models.Networks(None, true),
    )
  }
  return report.outcome(config, cases, found)


def test_tables(outcome):
  curves, points = outcome.tables
  assert [row["method"] for row in curves.rows] == [
    "relu mlp: scale equivariant",
    "relu mlp: permutation only",
    "relu mlp: no symmetry (flat MLP)",
  ]
  own, permutation, _ = curves.rows
  assert own["8"] < own["16"] < own["32"] == own["moved"]
  assert permutation["16"] == own["8"] and permutation["32"] == own["16"]
  assert permutation["moved"] < permutation["32"] - 0.1
  assert len(points.rows) == 9
  for row in points.rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["rates"] == "0.001, 0.003"
  for table in outcome.tables:
    assert set(table.short) <= set(table.columns)
  assert outcome.pictures["curves.png"].axes[0].get_title() == "relu mlp"


def test_sentences(outcome):
  permutation, flat = outcome.lines
  assert permutation.startswith(
    "relu mlp, scale equivariant against permutation only: τ +0."
  )
  assert permutation.endswith("with 8 networks takes the other 16")
  assert flat.endswith("with 8 networks takes the other more than 32")


def test_nothing_is_balanced_without_scales():
  config = settings(models=("target", "balanced", "permutation"))
  for activation, expected in (("relu", 3), ("tanh", 2)):
    target = mlp.mlp((3, 5, 2), activation)
    assert len(models.models(config, target)) == expected


@pytest.mark.parametrize(
  "curve, better, expected",
  [
    ((0.1, 0.2, 0.4), 1, 16 * 2**0.5),
    ((0.4, 0.3, 0.2), -1, 16.0),
    ((0.5, 0.6, 0.7), 1, 8.0),
    ((0.1, 0.2, 0.29), 1, None),
  ],
)
def test_networks_needed(curve, better, expected):
  found = report._needed(SIZES, curve, 0.3, better)
  assert found is None if expected is None else found == pytest.approx(expected)
