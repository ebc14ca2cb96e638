"""Pruning: what is zero stays zero, and whose choice depends on the gauge."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Networks
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.targets.mlp import mlp

pytestmark = pytest.mark.usefixtures("x64")

TARGET = mlp((4, 12, 11, 3))
RUN = pruning.pruner(TARGET, batch_size=16)
KEY = jax.random.key(2)
MAGNITUDE = importance.magnitude(TARGET)
SNIP = importance.snip(TARGET, images=32)
STORED = importance.magnitude_as_stored
KEEP = jax.jit(importance.keep_highest)
SCORE = jax.jit(MAGNITUDE)
SETTINGS = {"rate": 0.01, "l1": 0.01}


def problem():
  """Three networks, images and labels."""
  keys = jax.random.split(jax.random.key(0), 3)
  zoo = Networks(jax.vmap(TARGET.init)(keys), jnp.zeros(3, jnp.int32))
  x = jax.random.normal(jax.random.key(1), (48, 4))
  return zoo, (x, x[:, :3].argmax(1).astype(jnp.int32))


def entries(weights):
  """(kernel entries, biases) of one network, in a row each."""
  leaves = jax.tree.leaves(weights)
  return tuple(
    np.concatenate([w.ravel() for w in leaves if (w.ndim > 1) == kernels])
    for kernels in (True, False)
  )


def network(zoo, i=0):
  return jax.tree.map(lambda a: a[i], zoo)


def element():
  return actions.sample(jax.random.key(5), TARGET.spec, decades=1.5)


def moved(zoo):
  """The same functions, elsewhere on their orbits."""
  g = element()
  act = jax.vmap(lambda w: actions.act(g, TARGET.spec, w))
  return zoo._replace(weights=act(zoo.weights))


def distance(a, b):
  a, b = (jax.flatten_util.ravel_pytree(t)[0] for t in (a, b))
  assert jnp.abs(b).max() > 0
  return jnp.abs(a - b).max() / jnp.abs(b).max()


SCORES = {
  "magnitude": MAGNITUDE,
  "L1": importance.magnitude(TARGET, power=1),
  "snip": SNIP,
  "stored": STORED,
}


@pytest.mark.parametrize("name", SCORES)
def test_which_scores_depend_on_the_gauge(name):
  """|w| does; |w| in a gauge of its own and |w ∂L/∂w| do not."""
  score = SCORES[name]
  zoo, data = problem()
  here = jax.jit(score)(network(zoo), *data)
  there = jax.jit(score)(network(moved(zoo)), *data)
  permutation = {
    name: actions.Element(e.permutation, jnp.ones_like(e.multiplier))
    for name, e in element().items()
  }
  error = distance(there, actions.act(permutation, TARGET.spec, here))
  assert error > 0.5 if name == "stored" else error < 1e-6


@pytest.mark.parametrize("power", (1, 2))
def test_magnitudes_are_those_of_the_gauge_of_least_norm(power):
  """Where each neuron's sides have the same sum of |w|^p. On the orbit: the
  first layer's rows are multiplied by one number each."""
  zoo, data = problem()
  one = network(zoo)
  score = importance.magnitude(TARGET, power=power)
  scores = jax.tree.map(np.asarray, jax.jit(score)(one, *data))
  for before, after in zip(scores[:-1], scores[1:], strict=True):
    incoming = before["kernel"].sum(0) + before["bias"]
    np.testing.assert_allclose(incoming, after["kernel"].sum(1), 1e-5)
  stored = np.abs(one.weights[0]["kernel"]) ** power
  ratio = scores[0]["kernel"] / stored
  np.testing.assert_allclose(ratio, ratio[:1].repeat(4, 0), 1e-9)
  assert np.ptp(ratio) > 0.1


def test_snip_is_the_loss_of_shrinking_a_weight_to_first_order():
  zoo, (x, y) = problem()
  one = network(zoo)
  scores = jax.jit(SNIP)(one, x, y)
  i = jnp.unravel_index(scores[1]["kernel"].argmax(), (12, 11))

  @jax.jit
  def loss(factor):
    first, second, last = one.weights
    kernel = second["kernel"].at[i].multiply(factor)
    shrunk = Networks(
      (first, {**second, "kernel": kernel}, last), one.activation
    )
    # The images beyond the first 32 are not looked at.
    return fits.evaluate_network(TARGET.apply, shrunk, x[:32], y[:32])[0]

  slope = float(abs(loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4)
  assert float(scores[1]["kernel"][i]) == pytest.approx(slope, rel=1e-4)


def test_the_mask_keeps_the_highest_kernel_entries():
  zoo, data = problem()
  scores = SCORE(network(zoo), *data)
  ones = jax.tree.map(jnp.ones_like, scores)
  total = importance.kernels(scores)
  assert total == 4 * 12 + 12 * 11 + 11 * 3
  values, _ = entries(scores)
  for count in (0, 1, 100, total):
    kept, biases = entries(KEEP(scores, ones, count))
    assert biases.all() and (kept == 0).sum() == count
    if 0 < count < total:
      assert values[kept == 0].max() < values[kept == 1].min()


def test_what_was_pruned_before_goes_first():
  """Whatever its score is now; and among equals exactly as many as asked."""
  zoo, data = problem()
  scores = SCORE(network(zoo), *data)
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
  zoo, data = problem()
  method, steps = METHODS[name], []
  results = {
    share: RUN(
      method, zoo, share, SETTINGS, KEY, data,
      lambda count: steps.append(count),
    )
    for share in (0.0, 0.55)
  }  # fmt: skip
  assert sum(steps) == 2 * 3 * method.epochs
  balance = jax.jit(jax.vmap(lambda w: gauge.balance(TARGET.spec, w)))
  balanced = balance(zoo.weights)
  for share, weights in results.items():
    for i in range(3):
      found, biases = entries(network(weights, i))
      start, start_biases = entries(network(balanced, i))
      zero = found == 0
      assert zero.sum() == round(share * found.size)
      if method.epochs:
        # The others are trained, unless their neuron has died.
        assert (found[~zero] != start[~zero]).mean() > 0.5
        assert (biases != start_biases).mean() > 0.5
      else:
        np.testing.assert_array_equal(found[~zero], start[~zero])


@pytest.mark.parametrize("name", ("once", "gradually", "stored"))
def test_what_comes_out_is_the_same_function_in_every_gauge(name):
  """But for scores that are not invariant."""
  zoo, (x, y) = problem()
  there = moved(zoo)
  outputs = []
  for z in (zoo, there):
    weights = RUN(METHODS[name], z, 0.6, SETTINGS, KEY, (x, y))
    outputs.append(jax.vmap(lambda w: TARGET.apply(w, x))(weights))
  error = distance(*outputs)
  assert error > 0.05 if name == "stored" else error < 1e-5


def test_fine_tuning_helps_and_the_penalty_makes_networks_small():
  zoo, data = problem()
  measure = jax.jit(
    lambda z: fits.evaluate_networks(TARGET.apply, z, *data)[0].mean()
  )

  def after(phases, l1=0.0):
    method = pruning.PruneMethod(phases, MAGNITUDE)
    settings = {"rate": 0.02, "l1": l1}
    weights = RUN(method, zoo, 0.7, settings, KEY, data)
    return zoo._replace(weights=weights)

  assert measure(after(pruning.once(4))) < 0.9 * measure(after(pruning.once(0)))
  first = (pruning.Phase(0, 4, penalized=True), pruning.Phase(1, 0))
  norms = [gauge.l1(after(first, l1).weights) for l1 in (0.0, 0.1)]
  assert norms[1] < 0.8 * norms[0]


def test_networks_in_chunks_are_those_side_by_side():
  zoo, data = problem()
  results = [
    run(METHODS["gradually"], zoo, 0.6, SETTINGS, KEY, data)
    for run in (RUN, pruning.pruner(TARGET, batch_size=16, chunk=1))
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
  # Each round keeps the same share of what the round before kept.
  kept = [0.1**phase.cut for phase in pruning.gradually(10, 4)]
  np.testing.assert_allclose(np.divide(kept, [1, *kept[:-1]]), 0.1**0.25)
  assert [p.epochs for p in pruning.gradually(10, 4)] == [2, 3, 2, 3]


def likelihood(scale, weights, activation):
  """An invariant value of a network: minus its cross-entropy."""
  _, data = problem()
  return (
    -scale
    * fits.evaluate_network(TARGET.apply, Networks(weights, activation), *data)[
      0
    ]
  )


def test_ascent():
  """Reaches higher values and lower norms, the same from everywhere on an
  orbit, and stays finite."""
  zoo, _ = problem()
  climb = pruning.ascent(TARGET, likelihood, steps=20)
  one, there = network(zoo), network(moved(zoo))
  up = climb(1.0, one, 0.02, 0.0)
  assert likelihood(1.0, up, 0) > 0.8 * likelihood(1.0, one.weights, 0)
  small = climb(1.0, one, 0.02, 0.1)
  assert gauge.l1(small) < 0.8 * gauge.l1(up)
  x = problem()[1][0]
  error = distance(
    TARGET.apply(climb(1.0, there, 0.02, 0.1), x), TARGET.apply(small, x)
  )
  assert error < 1e-5
  # A gradient that is no number leaves the balanced network as it is.
  stuck = climb(jnp.nan, one, 0.02, 0.1)
  assert distance(stuck, gauge.balance(TARGET.spec, one.weights, 0)) == 0
