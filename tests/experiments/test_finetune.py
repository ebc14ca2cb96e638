"""Fine-tuning: keys of rows, their labels, costs, and the verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cnn as configs
from experiments.finetune import dependence, methods, report
from experiments.finetune.plan import label
from experiments.runner import pictures
from experiments.runner.experiment import load_experiment
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.eval.dependence import in_class_order
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp, traced


def test_epochs_after_an_edit_add_to_its_seconds():
  first = methods.Seconds(alone=1.0, batched=0.25)
  after = first.plus_epochs(3, methods.Seconds(alone=2.0, batched=0.5))
  assert after == methods.Seconds(alone=7.0, batched=1.75)


def test_pretraining_starts_from_a_network_with_many_outputs():
  """A network with an easy task is not chosen, however low its objective."""
  target = mlp.mlp((3, 4, 3))
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 4))
  classes = np.array([[0, 1, 1], [0, 2, 1], [1, 0, 2], [0, -1, 1]])
  networks = Networks(weights, jnp.zeros(4, jnp.int32), classes)
  objective = jnp.array([0.1, 0.5, 0.4, 0.2])
  best = methods.best_with_most_outputs(networks, objective)
  np.testing.assert_array_equal(best.class_to_output, classes[2:3])
  best = methods.best_with_most_outputs(
    networks._replace(class_to_output=None), objective
  )
  np.testing.assert_array_equal(
    best.weights[0]["kernel"], weights[0]["kernel"][:1]
  )


def test_a_target_without_a_last_layer_is_left_out():
  """One line instead of rows; nothing where the config has no such rows."""

  def apply(params, x):
    return jnp.tanh(jax.nn.relu(x @ params["in"]) @ params["out"])

  params = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
  bent = traced.trace(apply, params, jnp.ones((1, 3)), verify=False)
  config = configs.get_config("tiny")
  config.baselines.last_layer_steps = 2
  data = jnp.ones((5, 3)), jnp.zeros(5, int)
  solve, (line,) = methods._last_layer(config, bent, data)
  assert solve is None
  assert line.startswith("No rows of the last layer: weight out: expected out")
  solve, none = methods._last_layer(config, mlp.mlp((3, 4, 2)), data)
  assert solve is not None and not none
  config.baselines.last_layer_steps = 0
  assert methods._last_layer(config, bent, data) == (None, [])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"methods": (), "epochs_after_edit": (1,)}, "epochs_after_edit is (1,)"),
    ({"constant_epochs": 0, "last_layer_steps": 5}, "last_layer_steps is 5"),
  ],
)
def test_rows_that_go_on_from_rows_that_are_left_out(changes, message):
  config = configs.get_config("one_task,tiny")
  config.baselines.update(changes)
  with pytest.raises(InputError) as error:
    load_experiment(config)
  assert f"config.baselines.{message}, expected" in str(error.value)


ADAM = {"method": "adam", "schedule": "constant"}


@pytest.mark.parametrize(
  ("keys", "text"),
  [
    ({"method": "original"}, "original"),
    ({"method": "operator"}, "operator"),
    ({"method": "permutation"}, "permutation-only GMN"),
    ({"method": "balanced", "after": "operator"}, "operator, balanced"),
    ({"method": "keep_better", "after": "operator"}, "operator, where better"),
    ({"method": "common", "after": "operator"}, "operator, one for all"),
    ({"method": "last_layer"}, "last layer"),
    (
      {"method": "last_layer", "after": "pretrained"},
      "pretrained + last layer",
    ),
    ({**ADAM, "epochs": 1}, "Adam, 1 epoch"),
    (
      {"method": "sgd", "schedule": "cosine", "epochs": 5},
      "SGD (cosine), 5 epochs",
    ),
    ({**ADAM, "epochs": 5, "after": "operator"}, "operator + Adam, 5 epochs"),
    (
      {"method": "constant", "source": "best_of_zoo"},
      "constant: best of the zoo",
    ),
    (
      {"method": "constant", "source": "trained", "epochs": 200},
      "constant: one network, 200 epochs",
    ),
    (
      {"method": "operator", "population": "regauged"},
      "regauged test networks: operator",
    ),
    ({"method": "original", "population": "a.npy"}, "a.npy: original"),
  ],
)
def test_labels(keys, text):
  assert label(keys) == text


def measurement(objective, **keys):
  """A method with these objectives of two test networks."""
  objective = np.asarray(objective)
  seconds = 0.1 * keys.get("epochs", 1)
  row = {
    **keys,
    "objective": float(objective.mean()),
    "seconds_alone": seconds,
  }
  at_sparsity = np.linspace([1, 0.8], [0.2, 0.1], 20)
  return methods.Measurement(row, objective, at_sparsity)


@pytest.fixture
def measurements():
  """The rows that verdicts and pictures read; the last one is optional."""
  return [
    measurement([1.2, 1.0], method="original"),
    measurement([1.1, 0.9], method="balanced"),
    measurement([0.7, 0.8], method="operator"),
    measurement([0.8, 0.8], **ADAM, epochs=10),
    measurement([0.7, 0.7], **ADAM, epochs=20),
    measurement([0.9, 0.9], method="constant", source="best_of_zoo"),
    measurement([0.8, 0.78], method="constant", source="trained", epochs=2),
    measurement([0.6, 0.6], **ADAM, epochs=1, after="operator"),
    measurement([0.6, 0.7], method="last_layer", after="operator"),
  ]


@pytest.mark.parametrize("with_last_layer", [True, False])
def test_verdicts(measurements, with_last_layer):
  if not with_last_layer:
    measurements.pop()
  assert (
    report.verdicts(measurements)
    == [
      "The operator is 0.0400 below the best constant (objective; constant: "
      "one network, 2 epochs), and below it on 1 of 2 test networks",
      "The operator gains 83% of what 20 epochs of tuned Adam gain",
      "Tuned Adam needs 15.0 epochs to match: operator",
      "Tuned Adam needs more than 20 epochs to match: operator + last layer",
    ][: 3 + with_last_layer]
  )


DEPENDS = {
  "read": {"common": 0.0, "task": 0.5, "network": 0.125, "both": 0.375},
  "written": {"common": 0.125, "task": 0.75, "network": 0.0, "both": 0.125},
  "mistakes": {"own": 0.25, "others": 0.125},
}


def test_what_edits_depend_on_in_words(measurements):
  one = measurement([0.7, 0.9], method="common", after="operator")
  assert report.dependence_verdicts([*measurements, one], DEPENDS, True) == [
    "One network in place of all that is written, in each order of the "
    "classes, has the objective 0.8000, the operator 0.7500: it gains 80.0% "
    "of what the operator gains",
    "What is written, by its outputs: 12.5% is the same for all networks, "
    "75.0% depends on the order of the classes alone, 12.5% on the network "
    "itself (of what is read: 0.0%, 50.0%, 50.0%)",
    "Of the mistakes of the original networks, what is written for each "
    "repeats 25.0%, what is written for others 12.5%",
  ]
  assert report.dependence_verdicts(measurements, None, True) == []
  measurements[2] = measurement([1.0, 1.2], method="operator")
  first, second, _ = report.dependence_verdicts(
    [*measurements, one], DEPENDS, False
  )
  assert first == (
    "One network in place of all that is written has the objective 0.8000, "
    "the operator 1.1000"
  )
  assert second == (
    "What is written, by its outputs: 12.5% is the same for all networks, "
    "12.5% depends on the network itself (of what is read: 0.0%, 50.0%)"
  )


TARGET = mlp.mlp((3, 4, 4))


def networks_with_orders(count, seed):
  """Random networks that have the classes in orders of their own."""
  draw = np.random.RandomState(seed)
  weights = jax.tree.map(
    lambda leaf: draw.normal(size=(count, *leaf.shape)).astype(np.float32),
    jax.eval_shape(TARGET.init, jax.random.key(0)),
  )
  orders = np.stack([draw.permutation(4) for _ in range(count)])
  return Networks(weights, np.zeros(count, np.int32), orders.astype(np.int32))


def writes(network):
  """An operator that writes one network, in the order that it is told."""

  def edit(networks):
    return dependence.in_place_of_all(TARGET, network, networks)

  return edit


def images(seed=7):
  draw = np.random.RandomState(seed)
  return draw.normal(size=(6, 3)).astype(np.float32), np.arange(6) % 4


def outputs(networks, x):
  """[B, N, K]."""
  return np.stack(
    [
      TARGET.apply(jax.tree.map(lambda w, b=b: w[b], networks.weights), x)
      for b in range(networks.size)
    ]
  )


def test_an_operator_that_writes_one_network_depends_on_the_order_alone():
  networks = networks_with_orders(3, 0)
  one = networks_with_orders(1, 1)._replace(class_to_output=None)
  x, labels = images()
  found = dependence.numbers(TARGET, networks, writes(one), (x, labels))
  assert found is not None
  np.testing.assert_allclose(
    list(found["written"].values()), [0, 1, 0, 0], atol=1e-6
  )
  assert found["mistakes"]["own"] == found["mistakes"]["others"]
  answers = in_class_order(outputs(networks, x), networks.class_to_output)
  answers -= answers.mean(-1, keepdims=True)
  task = np.square(answers.mean(0)).mean() / np.square(answers).mean()
  np.testing.assert_allclose(
    list(found["read"].values()), [0, task, 0, 1 - task], atol=1e-5
  )
  same = networks._replace(class_to_output=None)
  found = dependence.numbers(TARGET, same, writes(one), (x, labels))
  assert found is not None and found["written"]["common"] > 1 - 1e-6
  assert found["read"]["task"] == found["read"]["both"] == 0


def test_an_operator_that_writes_what_it_reads_repeats_all_mistakes():
  networks = networks_with_orders(3, 0)
  found = dependence.numbers(TARGET, networks, lambda n: n, images())
  assert found is not None and found["read"] == found["written"]
  assert found["mistakes"]["own"] == 1 > found["mistakes"]["others"]


def test_nothing_is_said_of_networks_without_all_classes():
  networks = networks_with_orders(3, 0)
  networks.class_to_output[1, 2] = -1
  assert not dependence.applies(TARGET, networks)
  numbers = dependence.numbers(TARGET, networks, lambda n: n, images())
  assert numbers is None


def test_what_is_common_is_the_average_of_aligned_networks():
  """An operator writes one network with errors, in the gauge that it reads."""
  networks = networks_with_orders(4, 0)
  one = networks_with_orders(1, 1)._replace(class_to_output=None)
  errors = np.random.RandomState(3)

  def edit(networks):
    written = writes(one)(networks)
    noisy = jax.tree.map(
      lambda w: w + 0.1 * errors.normal(size=w.shape).astype(np.float32),
      written.weights,
    )
    g = actions.sample_on_host(np.random.default_rng(0), TARGET.spec)
    first = jax.tree.map(lambda w: np.asarray(w)[0], noisy)
    moved = actions.act(g, TARGET.spec, first)
    weights = jax.tree.map(
      lambda w, new: np.concatenate([new[None], np.asarray(w)[1:]]),
      noisy, moved,
    )  # fmt: skip
    return written._replace(weights=weights)

  x, _ = images()

  expected = outputs(writes(one)(networks), x)

  def objective(networks):
    return np.square(outputs(networks, x) - expected).mean((1, 2))

  found = dependence.common_network(TARGET, networks, edit, objective)
  best = objective(dependence.in_place_of_all(TARGET, found, networks))
  assert best.mean() < 0.5 * objective(edit(networks)).mean()

  # Weights that are not finite have no average: one that is finite is taken.
  def broken(networks):
    written = edit(networks)
    weights = jax.tree.map(
      lambda w: np.where(
        np.arange(4).reshape(-1, *[1] * (w.ndim - 1)), w, np.nan
      ),
      written.weights,
    )
    return written._replace(weights=weights)

  found = dependence.common_network(TARGET, networks, broken, objective)
  assert all(np.isfinite(w).all() for w in jax.tree.leaves(found.weights))


def test_an_operator_behind_the_constant_is_said_to_be(measurements):
  measurements[2] = measurement([0.9, 0.9], method="operator")
  assert report.verdicts(measurements)[0].startswith(
    "The operator is 0.1100 above the best constant"
  )


def test_gains_are_over_the_best_constant(measurements):
  gains = {
    label(m.row): m.row["gain_over_constant"]
    for m in methods.with_gains(measurements)
  }
  assert gains["constant: one network, 2 epochs"] == 0
  assert gains["operator"] == pytest.approx(0.04)
  assert gains["original"] == pytest.approx(-0.31)


@pytest.mark.parametrize("method", [2, 4])
def test_a_network_without_an_objective_costs_no_picture(
  measurements, method, tmp_path
):
  """Weights that are not finite are a result of a method, not the end."""
  keys = {
    k: v
    for k, v in measurements[method].row.items()
    if k not in ("objective", "seconds_alone")
  }
  measurements[method] = measurement([np.nan, 0.8], **keys)
  report.verdicts(measurements)
  for name, figure in report.pictures(measurements, "title").items():
    pictures.save(figure, tmp_path / name)


def test_picture_of_each_network_shows_the_constant_and_the_methods(
  measurements,
):
  (descent,) = report.curves(measurements).values()
  figure = report.per_network(
    measurements, methods.best_constant(measurements), descent[-1], "title"
  )
  left, right = figure.axes
  shown = {
    line.get_label(): line.get_ydata().tolist() for line in left.get_lines()
  }
  # Networks are sorted by the objective of the original.
  assert shown == {
    "original": [1.0, 1.2],
    "constant: one network, 2 epochs": [0.78, 0.8],
    "operator": [0.8, 0.7],
    "Adam, 20 epochs": [0.7, 0.7],
  }
  gains = right.get_lines()[-1].get_ydata()
  np.testing.assert_allclose(gains, [-0.02, 0.1])


def test_pictures_show_the_spread_over_networks(measurements):
  pictures = report.pictures(measurements, "2 test networks; seed 7")
  assert set(pictures) == {"per_network.png", "time.png", "sparsity.png"}
  for figure in pictures.values():
    assert figure.get_suptitle().startswith("2 test networks; seed 7")

  (axis,) = pictures["sparsity.png"].axes
  np.testing.assert_allclose(axis.get_lines()[0].get_ydata()[0], 0.9)
  band = axis.collections[0].get_paths()[0].vertices[:, 1]
  np.testing.assert_allclose([band.max(), band.min()], [0.98, 0.11])

  (axis,) = pictures["time.png"].axes
  texts = {text.get_text().replace("\n", " ") for text in axis.texts}
  assert texts == {
    "original", "operator", "balanced", "Adam, 10 to 20 epochs",
    "constant: best of the zoo", "constant: one network, 2 epochs",
    "operator + Adam, 1 epoch", "operator + last layer",
  }  # fmt: skip
  # Every objective is within the axis.
  low, high = axis.get_ylim()
  assert low < 0.6 and high > 1.2
  whiskers = [c.get_segments()[0][:, 1] for c in axis.collections]
  assert any(np.allclose(whisker, [0.71, 0.79]) for whisker in whiskers)
