"""The ablation: data, metanetworks, tables and text."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from configs import ablation as configs
from experiments import build
from experiments.ablation import methods, plan, report
from experiments.ablation.data import AblationData, load_ablation_data
from experiments.ablation.objectives import OBJECTIVES, TRAIN_STEP
from experiments.ablation.report import CurvePoint, PointResult
from experiments.predict_accuracy.data import LabelledNetworks
from experiments.runner import experiment
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
  """Two checkpoints of each run; every weight of a network is its accuracy."""
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
      # Wrong at the first step.
      "test_accuracy": np.stack([1 - accuracy, accuracy], 1).ravel(),
    }
  )
  path = tmp_path_factory.mktemp("zoos") / "zoo"
  codec.write_networks(path, target, codec.to_weights(target, rows), metrics)
  return str(path)


def images_of(config):
  return build.build_images(config)


def data_of(config):
  return load_ablation_data(
    config, "relu mlp", images_of(config), TRAIN_STEP[config.objective]
  )


def first_weights(part):
  """A number that identifies the training run of each network."""
  return np.asarray(part.networks.weights[0]["bias"][:, 0])


def test_small_training_sets_are_subsets_of_large_ones(folder):
  data = data_of(settings(**{"zoo.path": folder, "sizes": (2, 4, 8)}))
  assert list(data.train) == [2, 4, 8]
  sets = [set(first_weights(part)) for part in data.train.values()]
  assert [len(part) for part in sets] == [2, 4, 8]
  assert sets[0] < sets[1] < sets[2]
  # Held-out networks are the same for all training sets, and in none of them.
  held_out = set(first_weights(data.val)) | set(first_weights(data.test))
  assert (data.val.networks.size, len(held_out)) == (4, 12)
  assert not held_out & sets[-1]
  fewer = data_of(settings(**{"zoo.path": folder, "sizes": (4,)}))
  np.testing.assert_array_equal(
    first_weights(fewer.test), first_weights(data.test)
  )
  assert set(first_weights(fewer.train[4])) == sets[1]
  for part in (data.test, data.val, *data.train.values()):
    np.testing.assert_allclose(part.accuracies, first_weights(part), 1e-6)


def test_fine_tuning_trains_on_all_checkpoints(folder):
  config = settings(**{"zoo.path": folder, "objective": "finetune"})
  data = data_of(config)
  assert data.train[4].networks.size == 8
  assert len(set(first_weights(data.train[4]))) == 4
  assert data.test.networks.size == len(set(first_weights(data.test))) == 8


def test_too_few_networks(folder):
  config = settings(**{"zoo.path": folder, "sizes": (9,)})
  with pytest.raises(InputError, match="20 networks, expected 21: 9 for train"):
    data_of(config)


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"objective": "guess"},
      "config.objective is 'guess', expected one of predict",
    ),
    ({"models": ("permutation",)}, "config.models is .* with target"),
    ({"sizes": (3, 8)}, "config.sizes is .3, 8., expected divisors"),
    ({"sizes": ()}, "config.sizes is"),
    ({"train.seeds": (-1,)}, "config.train.seeds is"),
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
  experiment.load_experiment(settings())
  with pytest.raises(InputError, match=message):
    experiment.load_experiment(settings(**changes))


def test_symmetry_of_each_method(random_weights):
  target = mlp.mlp((3, 5, 2))
  config = settings(**{"model.depth": 1, "model.width": 4})
  predict, finetune = (
    OBJECTIVES[name](config, target, images_of(config))
    for name in ("predict", "finetune")
  )
  singles = [random_weights(target, seed, dead=False) for seed in range(4)]
  stacked = jax.tree.map(lambda *w: jnp.stack(w), *singles)
  key = jax.random.key(0)
  acted = [
    actions.act(
      actions.sample(key, target.spec, decades=decades),
      target.spec,
      singles[0],
    )
    for decades in (0.0, 1.0)  # permutations alone, and with multipliers
  ]
  networks = Networks(stacked, jnp.zeros(4, jnp.int32))
  for method, expected in (
    ("target", [True, True]),
    ("balanced", [True, True]),
    ("permutation", [True, False]),
    ("mlp", [False, False]),
  ):
    functional, operator = (
      o.metanetwork(method, networks) for o in (predict, finetune)
    )
    params = jax.jit(functional.init)(key)
    value = jax.jit(lambda w, f=functional, p=params: f.apply(p, w)[0])
    before = value(singles[0])
    spread = np.std([value(n) for n in singles])
    invariant = [bool(abs(value(w) - before) < 1e-3 * spread) for w in acted]
    assert invariant == expected, method
    phi = jax.eval_shape(operator.init, key)
    edited = jax.eval_shape(operator.apply, phi, singles[0])
    assert jax.tree.map(jnp.shape, edited) == jax.tree.map(
      jnp.shape, singles[0]
    )


SIZES = (8, 16, 32)


@pytest.fixture(scope="module")
def outcome():
  """A method that ranks well, one that needs twice the data, and noise."""
  rng = np.random.default_rng(0)
  true = rng.uniform(size=200).astype(np.float32)
  noise = {
    ("target", 8): 0.4, ("target", 16): 0.2, ("target", 32): 0.1,
    ("permutation", 8): 0.8, ("permutation", 16): 0.4, ("permutation", 32): 0.2,
    ("mlp", 8): 9, ("mlp", 16): 9, ("mlp", 32): 9,
  }  # fmt: skip
  results = {}
  for (method, size), std in noise.items():
    numbers = true + std * np.random.default_rng(1).normal(size=(2, 200))
    worse = numbers + (0 if method == "target" else 1) * rng.normal(size=200)
    results[CurvePoint("relu mlp", method, size)] = PointResult(
      numbers, worse, steps=10, num_parameters=20, learning_rates=[1e-3, 3e-3]
    )
  target = mlp.mlp((3, 5, 2))
  config = settings(sizes=SIZES)
  objective = OBJECTIVES["predict"](config, target, None)
  test = LabelledNetworks(None, true, np.zeros(200, int))
  data = AblationData(target, {}, test, test)
  return report.outcome(
    config, {"relu mlp": data}, {"relu mlp": objective}, results
  )


def test_tables(outcome):
  curves, points = outcome.tables
  assert [plan.label(row) for row in curves.rows] == [
    "relu mlp: scale equivariant",
    "relu mlp: permutation only",
    "relu mlp: no symmetry (flat MLP)",
  ]
  scale, permutation, _ = curves.rows
  assert scale["8"] < scale["16"] < scale["32"] == scale["regauged"]
  assert permutation["16"] == scale["8"] and permutation["32"] == scale["16"]
  assert permutation["regauged"] < permutation["32"] - 0.1
  assert len(points.rows) == 9
  expected = "relu mlp, 8 networks: scale equivariant"
  assert plan.label(points.rows[0]) == expected
  for row in points.rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["learning_rates"] == "0.001, 0.003"
  for table in outcome.tables:
    assert set(table.short) <= set(table.columns)
  assert outcome.pictures["curves.png"].axes[0].get_title() == "relu mlp"


def test_lines(outcome):
  permutation, flat = outcome.lines
  assert permutation.startswith(
    "relu mlp, scale equivariant vs permutation only: τ +0."
  )
  assert permutation.endswith("needs 16 networks to match the first with 8")
  assert flat.endswith("needs more than 32 networks to match the first with 8")


def test_nothing_is_balanced_without_scales():
  config = settings(models=("target", "balanced", "permutation"))
  for activation, expected in (("relu", 3), ("tanh", 2)):
    target = mlp.mlp((3, 5, 2), activation)
    assert len(methods.applicable_methods(config, target)) == expected


@pytest.mark.parametrize(
  "curve, sign, expected",
  [
    ((0.1, 0.2, 0.4), 1, 16 * 2**0.5),
    ((0.4, 0.3, 0.2), -1, 16.0),
    ((0.5, 0.6, 0.7), 1, 8.0),
    ((0.1, 0.2, 0.29), 1, None),
  ],
)
def test_networks_to_match(curve, sign, expected):
  size = report.networks_to_match(SIZES, curve, 0.3, sign)
  assert size is None if expected is None else size == pytest.approx(expected)
