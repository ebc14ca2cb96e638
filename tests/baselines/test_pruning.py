"""Pruning: masks, sparsity, and invariance of the scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Network, Networks
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.inner import objective
from scalegmn_jax.symmetry import actions, gauge, kernels
from scalegmn_jax.symmetry.spec import leaves
from scalegmn_jax.targets.mlp import mlp

pytestmark = pytest.mark.usefixtures("x64")

TARGET = mlp((4, 12, 11, 3))
RUN = pruning.pruner(TARGET, batch_size=16)
KEY = jax.random.key(2)
MAGNITUDE = importance.magnitude(TARGET)
SNIP = importance.snip(TARGET, images=32)
STORED = importance.magnitude_as_stored
KEEP = jax.jit(functools.partial(kernels.keep_highest, TARGET.spec))
SCORE = jax.jit(MAGNITUDE)
SETTINGS = {"rate": 0.01, "l1": 0.01}


@functools.cache
def problem():
  """Three networks, images and labels, on the host."""
  keys = jax.random.split(jax.random.key(0), 3)
  weights = jax.jit(jax.vmap(TARGET.init))(keys)
  networks = Networks(weights, np.zeros(3, np.int32))
  x = np.random.default_rng(1).normal(size=(48, 4))
  data = x, x[:, :3].argmax(1).astype(np.int32)
  return jax.device_get(networks), data


def entries(weights):
  """(kernel entries, biases) of one network, in a row each."""
  leaves = jax.tree.leaves(weights)
  return tuple(
    np.concatenate([w.ravel() for w in leaves if (w.ndim > 1) == matrix])
    for matrix in (True, False)
  )


def network(networks, i=0):
  return jax.tree.map(lambda a: a[i], networks)


def element():
  rng = np.random.default_rng(5)
  return actions.sample_on_host(rng, TARGET.spec, decades=1.5)


def regauged(networks):
  """The same functions in another gauge."""
  g = element()
  count = len(networks.activation)
  each = [network(networks, i).weights for i in range(count)]
  moved = [actions.act(g, TARGET.spec, w) for w in each]
  return networks._replace(weights=jax.tree.map(lambda *w: np.stack(w), *moved))


def distance(a, b):
  a, b = (
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(t)])
    for t in (a, b)
  )
  assert np.abs(b).max() > 0
  return np.abs(a - b).max() / np.abs(b).max()


OBD = importance.obd(TARGET, images=16)
SCORES = {
  "magnitude": MAGNITUDE,
  "unit norm": importance.magnitude_of_unit_norm(TARGET),
  "synflow": importance.synflow(TARGET),
  "obd": OBD,
  "L1": importance.magnitude(TARGET, power=1),
  "snip": SNIP,
  "stored": STORED,
}


@pytest.mark.parametrize("name", SCORES)
def test_which_scores_depend_on_the_gauge(name):
  """|w| as stored does; |w| in a fixed gauge and |w ∂L/∂w| do not."""
  score = SCORES[name]
  networks, data = problem()
  here = jax.device_get(jax.jit(score)(network(networks), *data))
  there = jax.jit(score)(network(regauged(networks)), *data)
  permutation = {
    name: actions.Element(e.permutation, np.ones_like(e.multiplier))
    for name, e in element().items()
  }
  error = distance(there, actions.act(permutation, TARGET.spec, here))
  assert error > 0.5 if name == "stored" else error < 1e-6


@pytest.mark.parametrize("power", (1, 2))
def test_magnitudes_are_those_of_the_gauge_of_least_norm(power):
  """Incoming and outgoing weights of a neuron have equal sums of |w|^p, and the
  weights are on the orbit: each neuron is multiplied by one number."""
  networks, data = problem()
  one = network(networks)
  score = importance.magnitude(TARGET, power=power)
  scores = jax.tree.map(np.asarray, jax.jit(score)(one, *data))
  for before, after in zip(scores[:-1], scores[1:], strict=True):
    incoming = before["kernel"].sum(0) + before["bias"]
    np.testing.assert_allclose(incoming, after["kernel"].sum(1), 1e-5)
  stored = np.abs(one.weights[0]["kernel"]) ** power
  ratio = scores[0]["kernel"] / stored
  np.testing.assert_allclose(ratio, ratio[:1].repeat(4, 0), 1e-9)
  assert np.ptp(ratio) > 0.1


def scaled(weights, i, factor):
  """The weights with entry `i` of the second kernel multiplied."""
  first, second, last = weights
  kernel = jnp.asarray(second["kernel"]).at[i].multiply(factor)
  return first, {**second, "kernel": kernel}, last


def test_snip_is_the_loss_of_shrinking_a_weight_to_first_order():
  networks, (x, y) = problem()
  one = network(networks)
  scores = jax.jit(SNIP)(one, x, y)
  i = jnp.unravel_index(scores[1]["kernel"].argmax(), (12, 11))

  @jax.jit
  def loss(factor):
    shrunk = Networks(scaled(one.weights, i, factor), one.activation)
    # Only the first 32 images are used.
    return objective.evaluate_network(TARGET.apply, shrunk, x[:32], y[:32])[0]

  slope = float(abs(loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4)
  assert float(scores[1]["kernel"][i]) == pytest.approx(slope, rel=1e-4)


def test_obd_is_the_divergence_of_shrinking_a_weight_to_second_order():
  networks, (x, y) = problem()
  one = network(networks)
  scores = jax.jit(OBD)(one, x, y)
  i = jnp.unravel_index(scores[1]["kernel"].argmax(), (12, 11))

  @jax.jit
  def divergence(factor):
    shrunk = Network(scaled(one.weights, i, factor), 0, teacher=one.weights)
    # Only the first 16 images are used.
    return objective.evaluate_network(TARGET.apply, shrunk, x[:16], y[:16])[0]

  step = 1e-3
  curvature = float(divergence(1 + step) + divergence(1 - step)) / 2 / step**2
  assert float(scores[1]["kernel"][i]) == pytest.approx(curvature, rel=1e-3)


def test_synflow_is_conserved():
  """The scores of what enters a neuron and of what leaves it have one sum."""
  networks, data = problem()
  scores = jax.jit(SCORES["synflow"])(network(networks), *data)
  incoming = scores[0]["kernel"].sum(0) + scores[0]["bias"]
  np.testing.assert_allclose(incoming, scores[1]["kernel"].sum(1), 1e-9)


def test_the_mask_keeps_the_highest_kernel_entries():
  networks, data = problem()
  scores = SCORE(network(networks), *data)
  ones = jax.tree.map(jnp.ones_like, scores)
  total = kernels.count(TARGET.spec, scores)
  assert total == 4 * 12 + 12 * 11 + 11 * 3
  values, _ = entries(scores)
  for count in (0, 1, 100, total):
    kept, biases = entries(KEEP(scores, ones, count))
    assert biases.all() and (kept == 0).sum() == count
    if 0 < count < total:
      assert values[kept == 0].max() < values[kept == 1].min()


def test_pruned_entries_are_pruned_first():
  """For any score; ties do not change the number of pruned entries."""
  networks, data = problem()
  scores = SCORE(network(networks), *data)
  ones = jax.tree.map(jnp.ones_like, scores)
  before = KEEP(scores, ones, 100)
  reverse = jax.tree.map(lambda s: 1 / (s + 1e-3), scores)
  was, _ = entries(before)
  for now in (reverse, jax.tree.map(jnp.zeros_like, scores)):
    kept, _ = entries(KEEP(now, before, 120))
    assert (kept == 0).sum() == 120 and not kept[was == 0].any()
  kept, _ = entries(KEEP(reverse, ones, 120))
  assert kept[was == 0].any()


METHODS = {
  "once": pruning.PruneMethod(pruning.once(4), SNIP),
  "gradually": pruning.PruneMethod(pruning.gradually(4, 3), MAGNITUDE),
  "penalized": pruning.PruneMethod(pruning.penalized_first(4), MAGNITUDE),
  "stored": pruning.PruneMethod(pruning.once(4), STORED),
  "at once": pruning.PruneMethod(pruning.once(0), MAGNITUDE),
}


@pytest.mark.parametrize("name", METHODS)
def test_pruned_weights_are_exactly_zero_in_the_end(name):
  networks, data = problem()
  method, steps = METHODS[name], []
  results = {
    share: RUN(
      method, networks, share, SETTINGS, KEY, data,
      lambda count: steps.append(count),
    )
    for share in (0.0, 0.55)
  }  # fmt: skip
  assert sum(steps) == 2 * 3 * method.epochs
  balance = jax.jit(jax.vmap(lambda w: gauge.balance(TARGET.spec, w)))
  balanced = balance(networks.weights)
  for share, weights in results.items():
    for i in range(3):
      after, biases = entries(network(weights, i))
      start, start_biases = entries(network(balanced, i))
      zero = after == 0
      assert zero.sum() == round(share * after.size)
      if method.epochs:
        # The others are trained, unless their neuron is dead.
        assert (after[~zero] != start[~zero]).mean() > 0.5
        assert (biases != start_biases).mean() > 0.5
      else:
        np.testing.assert_array_equal(after[~zero], start[~zero])


@pytest.mark.parametrize("name", ("once", "gradually", "stored"))
def test_the_resulting_function_does_not_depend_on_the_gauge(name):
  """Negative control: a score that is not invariant."""
  networks, (x, y) = problem()
  there = regauged(networks)
  outputs = []
  for z in (networks, there):
    weights = RUN(METHODS[name], z, 0.6, SETTINGS, KEY, (x, y))
    outputs.append(jax.vmap(lambda w: TARGET.apply(w, x))(weights))
  error = distance(*outputs)
  assert error > 0.05 if name == "stored" else error < 1e-5


def test_fine_tuning_helps_and_the_penalty_makes_networks_small():
  networks, data = problem()
  measure = jax.jit(
    lambda z: objective.evaluate_networks(TARGET.apply, z, *data)[0].mean()
  )

  def after(phases, l1=0.0):
    method = pruning.PruneMethod(phases, MAGNITUDE)
    settings = {"rate": 0.02, "l1": l1}
    weights = RUN(method, networks, 0.7, settings, KEY, data)
    return networks._replace(weights=weights)

  assert measure(after(pruning.once(4))) < 0.9 * measure(after(pruning.once(0)))
  first = (pruning.Phase(0, 4, penalized=True), pruning.Phase(1, 0))
  norms = [gauge.l1(TARGET.spec, after(first, l1).weights) for l1 in (0.0, 0.1)]
  assert norms[1] < 0.8 * norms[0]


def test_vmap_size_does_not_change_the_result():
  networks, data = problem()
  results = [
    run(METHODS["gradually"], networks, 0.6, SETTINGS, KEY, data)
    for run in (RUN, pruning.pruner(TARGET, batch_size=16, vmap_size=1))
  ]
  assert distance(*results) < 1e-9


def test_phases_divide_the_epochs():
  for epochs in range(5):
    for phases in (
      pruning.once(epochs),
      pruning.penalized_first(epochs),
      *(pruning.gradually(epochs, rounds) for rounds in (1, 2, 5)),
    ):
      assert pruning.PruneMethod(phases, STORED).epochs == epochs
      assert phases[-1].cut == 1
  # Each round keeps the same share of the weights of the previous round.
  kept = [0.1**phase.cut for phase in pruning.gradually(10, 4)]
  np.testing.assert_allclose(np.divide(kept, [1, *kept[:-1]]), 0.1**0.25)
  assert [p.epochs for p in pruning.gradually(10, 4)] == [2, 3, 2, 3]


def likelihood(scale, weights, activation):
  """An invariant value: the negative cross-entropy."""
  _, data = problem()
  return (
    -scale
    * objective.evaluate_network(
      TARGET.apply, Networks(weights, activation), *data
    )[0]
  )


def test_ascent():
  """Higher values, lower norms, independent of the gauge, finite."""
  networks, _ = problem()
  climb = jax.jit(pruning.ascent(TARGET, likelihood, steps=20))
  one, there = network(networks), network(regauged(networks))
  up = climb(1.0, one, 0.02, 0.0)
  assert likelihood(1.0, up, 0) > 0.8 * likelihood(1.0, one.weights, 0)
  small = climb(1.0, one, 0.02, 0.1)
  assert gauge.l1(TARGET.spec, small) < 0.8 * gauge.l1(TARGET.spec, up)
  x = problem()[1][0]
  error = distance(
    TARGET.apply(climb(1.0, there, 0.02, 0.1), x), TARGET.apply(small, x)
  )
  assert error < 1e-5
  # A NaN gradient leaves the balanced network unchanged.
  stuck = climb(jnp.nan, one, 0.02, 0.1)
  assert distance(stuck, gauge.balance(TARGET.spec, one.weights, 0)) == 0


def test_only_kernels_are_pruned(normalized):
  """Not the scales and statistics of a normalization, also as matrices."""
  keys = jax.random.split(jax.random.key(0), 2)
  networks = Networks(jax.vmap(normalized.init)(keys), jnp.zeros(2, jnp.int32))
  one = network(networks).weights
  entries = 3 * 6 + 6 * 6 + 6 * 4
  assert kernels.count(normalized.spec, one) == entries
  run = pruning.pruner(normalized, batch_size=16)
  _, data = problem()
  data = data[0][:, :3], data[1]
  method = pruning.PruneMethod(
    pruning.once(0), importance.magnitude(normalized)
  )
  weights = run(method, networks, 1.0, {}, KEY, data)
  balanced = gauge.balance_networks(normalized)(networks).weights
  for name, after, _ in leaves(normalized.spec, weights):
    if name.rpartition("/")[2] in ("in", "inner", "kernel"):
      assert not after.any(), name
    else:
      assert after.all(), name
  jax.tree.map(
    np.testing.assert_array_equal,
    weights["batch_stats"],
    balanced["batch_stats"],
  )


def test_ascent_keeps_running_statistics(normalized):
  one = Network(normalized.init(jax.random.key(0)), jnp.array(0))

  def value(params, weights, activation):
    return -sum(jnp.square(w + 1).sum() for w in jax.tree.leaves(weights))

  climb = jax.jit(pruning.ascent(normalized, value, steps=2))
  after = climb((), one, 0.1, 0.0)
  balanced = gauge.balance(normalized.spec, one.weights)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
    after["batch_stats"],
    balanced["batch_stats"],
  )
  assert distance(after["params"], balanced["params"]) > 0.01
