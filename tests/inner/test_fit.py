"""The inner trainer: networks of a batch do not influence each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalegmn_jax.base import Interrupted, Networks
from scalegmn_jax.inner import fit, objective
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((4, 8, 3), ("relu", "tanh"))
B, N = 4, 26


def loss(network, images, labels, hyper, key):
  dropout = (hyper["dropout"], key)
  logits = TARGET.apply(network.weights, images, network.activation, dropout)
  ce = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return ce.mean(), network.weights


def adam(hyper):
  return optax.chain(
    optax.add_decayed_weights(hyper["decay"]), optax.adam(hyper["rate"])
  )


def sgd(hyper):
  return optax.sgd(hyper["rate"])


FITS = {
  name: fit.fit(
    loss, optimizer, batch_size=8, fraction=lambda hyper: hyper["fraction"]
  )
  for name, optimizer in {"adam": adam, "sgd": sgd}.items()
}


@pytest.fixture
def task(x64, random_weights):
  """(weights, hyper, networks, keys, images, labels) of B networks."""
  rng = np.random.default_rng(0)
  networks = [random_weights(TARGET, i, dead=False) for i in range(B)]
  labels = jnp.asarray(rng.integers(0, 3, N))
  images = rng.normal(size=(N, 4)) + 2 * jax.nn.one_hot(labels, 4)
  hyper = {
    "rate": jnp.full(B, 0.01),
    "decay": jnp.asarray([0, 0.1, 0, 0.01]),
    "dropout": jnp.asarray([0, 0.2, 0.5, 0]),
    "fraction": jnp.asarray([1, 0.5, 0.3, 1]),
  }
  weights = jax.tree.map(lambda *w: jnp.stack(w), *networks)
  return (
    weights,
    hyper,
    Networks(weights, jnp.asarray([0, 1, 1, 0])),
    jax.random.split(jax.random.key(1), B),
    images,
    labels,
  )


def train(task, epochs=2, optimizer="adam"):
  weights, hyper, networks, keys, images, labels = task
  trainer = FITS[optimizer]
  state = trainer.init(weights, hyper)
  for epoch in range(epochs):
    keys_now = jax.vmap(jax.random.fold_in, (0, None))(keys, epoch)
    state = trainer.epoch(state, hyper, networks, keys_now, images, labels)
  return state


def with_hyper(task, **settings):
  hyper = {**task[1], **{k: jnp.asarray(v) for k, v in settings.items()}}
  return (task[0], hyper, *task[2:])


def network(tree, i):
  return jax.tree.map(lambda w: w[i], tree)


def gradient_of(weights, *rest):
  """Gradient of the loss of a network with the second activation."""
  return jax.grad(lambda w: loss(Networks(w, 1), *rest)[0])(weights)


def differ(a, b):
  """Whether each network differs between two populations, [B]."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return np.any([(x != y).reshape(len(x), -1).any(1) for x, y in pairs], axis=0)


def test_a_network_trains_to_the_same_weights_alone(task):
  batched = train(task).weights
  i = slice(1, 2)
  alone = train((*network(task[:4], i), *task[4:]))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[i], b, 1e-10, 1e-12),
    batched,
    alone.weights,
  )


def test_epoch_is_the_loop_over_shuffled_batches(task):
  """Against a plain loop over full batches."""
  weights, hyper, networks, keys, images, labels = with_hyper(
    task, fraction=[1.0] * B, dropout=[0.0] * B
  )
  state = FITS["sgd"].init(weights, hyper)
  after = FITS["sgd"].epoch(state, hyper, networks, keys, images, labels)
  k_order, _ = jax.random.split(keys[2])
  order = jax.random.permutation(k_order, N)
  expected, h = network(weights, 2), network(hyper, 2)
  gradient = jax.jit(gradient_of)
  for rows in order[:24].reshape(3, 8):
    g = gradient(expected, images[rows], labels[rows], h, keys[0])
    expected = jax.tree.map(lambda w, g: w - 0.01 * g, expected, g)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-12),
    network(after.weights, 2),
    expected,
  )


@pytest.mark.parametrize("vmap_size", [1, 2, 3])
def test_vmap_size_does_not_change_the_result(task, vmap_size):
  weights, hyper, *data = task
  trainer = fit.fit(loss, sgd, batch_size=8, vmap_size=vmap_size)
  whole = fit.fit(loss, sgd, batch_size=8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-12),
    trainer.epoch(trainer.init(weights, hyper), hyper, *data),
    whole.epoch(whole.init(weights, hyper), hyper, *data),
  )


def test_a_batch_of_all_images_is_one_step_of_gradient_descent(task):
  weights, hyper, networks, keys, images, labels = with_hyper(
    task, dropout=[0.0] * B
  )
  trainer = fit.fit(loss, sgd, batch_size=N)
  state = trainer.epoch(
    trainer.init(weights, hyper), hyper, networks, keys, images, labels
  )
  h = network(hyper, 2)
  g = gradient_of(network(weights, 2), images, labels, h, keys[0])
  jax.tree.map(
    lambda w, g, b: np.testing.assert_allclose(w - 0.01 * g, b, 1e-10, 1e-12),
    network(weights, 2),
    g,
    network(state.weights, 2),
  )


def test_settings_act_only_on_their_network(task):
  before = train(task).weights
  for name, values in (
    ("rate", [0.01, 0.02, 0.01, 0.01]),
    ("decay", [0, 0.2, 0, 0.01]),
    ("dropout", [0, 0.9, 0.5, 0]),
    ("fraction", [1, 0.9, 0.3, 1]),
  ):
    after = train(with_hyper(task, **{name: values})).weights
    assert differ(before, after).tolist() == [False, True, False, False], name
  other_key = task[3].at[1].set(jax.random.key(9))
  after = train((*task[:3], other_key, *task[4:])).weights
  assert differ(before, after).tolist() == [False, True, False, False]


def test_rate_zero_keeps_the_weights(task):
  after = train(with_hyper(task, rate=[0.0, 0.01, 0.0, 0.01])).weights
  assert differ(task[0], after).tolist() == [False, True, False, True]


def test_a_diverging_network_keeps_finite_weights(task):
  fine = train(task, optimizer="sgd").weights
  rates = jnp.asarray([0.01, 1e200, 0.01, 0.01])
  state = train(with_hyper(task, rate=rates), optimizer="sgd")
  for leaf in jax.tree.leaves(state):
    assert np.isfinite(leaf).all()
  assert differ(fine, state.weights).tolist() == [False, True, False, False]


def test_a_non_finite_gradient_changes_nothing(task):
  images = jnp.full_like(task[4], jnp.nan)
  state = train((*task[:4], images, task[5]))
  assert not differ(task[0], state.weights).any()
  initial = FITS["adam"].init(*task[:2])
  jax.tree.map(np.testing.assert_array_equal, initial, state)


def test_fraction_uses_the_first_images(task):
  """Networks see floor(fraction 26) images: 26, 13, 7 and 26."""
  before = train(task).weights
  for first, changed in (
    (13, [True, False, False, True]),
    (12, [True, True, False, True]),
    (7, [True, True, False, True]),
    (6, [True] * B),
  ):
    images = task[4].at[first:].add(1.0)
    after = train((*task[:4], images, task[5])).weights
    assert differ(before, after).tolist() == changed, first


@pytest.mark.parametrize("optimizer", FITS)
def test_training_lowers_the_loss(task, optimizer):
  task = with_hyper(task, rate=[0.05] * B, decay=[0.0] * B, fraction=[1.0] * B)
  _, _, networks, _, images, labels = task
  before = objective.evaluate_networks(TARGET.apply, networks, images, labels)
  state = train(task, epochs=15, optimizer=optimizer)
  after = objective.evaluate_networks(
    TARGET.apply, networks._replace(weights=state.weights), images, labels
  )
  assert (after[0] < 0.8 * before[0]).all()


def test_evaluate_networks_against_numpy(task):
  weights, _, networks, _, images, labels = task
  ce, accuracy, predictions = objective.evaluate_networks(
    TARGET.apply, networks, images, labels
  )
  assert predictions.shape == (B, N) and predictions.dtype == jnp.int32
  apply = jax.jit(TARGET.apply)
  for i in range(B):
    activation = networks.activation[i]
    logits = np.asarray(apply(network(weights, i), images, activation))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -np.log(p[np.arange(N), labels])
    hits = logits.argmax(1) == np.asarray(labels)
    np.testing.assert_allclose(ce[i], losses.mean(), 1e-12)
    np.testing.assert_array_equal(predictions[i], logits.argmax(1))
    np.testing.assert_allclose(accuracy[i], hits.mean(), 1e-6)


def test_a_network_is_trained_on_its_classes_with_its_labels(task):
  """Network 1 has classes 0 and 2; network 2 permutes all classes."""
  weights, hyper, networks, keys, images, labels = with_hyper(
    task, fraction=[1.0] * B, dropout=[0.0] * B
  )
  classes = jnp.asarray([[0, 1, 2], [2, -1, 0], [1, 2, 0], [0, 1, 2]])

  def own_loss(network, images, labels, hyper, key):
    del hyper, key
    return objective.training_divergence(TARGET, network, images, labels)

  trainer = fit.fit(own_loss, sgd, batch_size=8)

  def trained(images, labels, classes):
    state = trainer.init(weights, hyper)
    labelled = networks._replace(class_to_output=classes)
    return trainer.epoch(state, hyper, labelled, keys, images, labels).weights

  result = trained(images, labels, classes)
  absent = (labels == 1)[:, None]
  other = trained(jnp.where(absent, images + 1, images), labels, classes)
  assert differ(result, other).tolist() == [True, False, True, True]
  # All networks with the labels of network 2.
  same = jnp.tile(classes[:1], (4, 1))
  relabelled = trained(images, classes[2][labels], same)
  assert not differ(network(result, slice(2, 3)),
                    network(relabelled, slice(2, 3))).any()  # fmt: skip


def test_running_statistics_move_and_get_no_gradient(x64):
  """One weight is trained, one follows the mean of the inputs."""

  def own_loss(network, images, labels, hyper, key):
    del labels, hyper, key
    w = network.weights
    moved = w | {"mean": 0.5 * w["mean"] + 0.5 * images.mean()}
    return (w["weight"] * images).mean(), moved

  trainer = fit.fit(own_loss, optax.sgd, batch_size=2)
  weights = {"weight": jnp.array([1.0]), "mean": jnp.array([4.0])}
  rate = jnp.array([0.5])
  images = jnp.array([[2.0], [4.0]])
  networks = Networks(None, jnp.zeros(1, int))
  keys = jax.random.split(jax.random.key(0), 1)
  state = trainer.epoch(
    trainer.init(weights, rate), rate, networks, keys, images, jnp.zeros(2, int)
  )
  assert float(state.weights["weight"][0]) == 1 - 0.5 * 3
  assert float(state.weights["mean"][0]) == 0.5 * 4 + 0.5 * 3


@pytest.mark.parametrize("vmap_size", [1, None])
def test_a_stop_anywhere_loses_no_bits(task, vmap_size, tmp_path, monkeypatch):
  """Also between two networks of an epoch, where one follows the other."""
  monkeypatch.setattr(fit.batched, "CALL_SECONDS", 0.0)
  weights, hyper, networks, keys, *data = task
  trainer = fit.fit(loss, sgd, batch_size=8, vmap_size=vmap_size)

  def run(partial):
    return fit.run_epochs(
      trainer,
      trainer.init(weights, hyper),
      hyper,
      networks,
      lambda epoch: jax.vmap(jax.random.fold_in, (0, None))(keys, epoch),
      data,
      (0, 1, 2),
      partial=partial,
    )

  expected, stops = run(NOTHING), 0
  assert list(expected) == [0, 1, 2]
  for _ in range(100):
    calls = 0

    def check():
      nonlocal calls
      calls += 1
      if calls == 2:
        raise Interrupted

    try:
      result = run(Partial(tmp_path, check))
      break
    except Interrupted:
      stops += 1
  assert stops == {1: B, None: 1}[vmap_size]
  jax.tree.map(np.testing.assert_array_equal, result, expected)
  # A finished computation is read.
  monkeypatch.setattr(fit.Fit, "epoch", None)
  jax.tree.map(np.testing.assert_array_equal, run(Partial(tmp_path)), expected)
