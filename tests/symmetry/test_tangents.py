"""Gauge directions: their number, and the invariance of the function."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Axes, Axis, Space, SymmetrySpec
from scalegmn_jax.symmetry import actions, tangents
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import network

RELU, TANH, GELU = 0, 2, 3
"""Indices among the activations of the fixture `kind`."""

MLP = mlp((3, 8, 9, 2))


def rows(spec, weights, rates):
  """The tangents [G, D]."""
  one = jax.jit(
    lambda r: jax.flatten_util.ravel_pytree(tangents.tangent(spec, weights, r))[
      0
    ]
  )
  count = jax.tree.leaves(rates)[0].shape[0]
  return np.stack(
    [one({n: r[i] for n, r in rates.items()}) for i in range(count)]
  )


def test_one_direction_per_channel_of_the_zoos_cnn():
  counts = tangents.directions(cnn().spec)
  assert counts == {"hidden_1": 16, "hidden_2": 16, "hidden_3": 16}


def test_only_the_scale_group_has_directions(kind):
  hidden = [n for n, s in kind.spec.spaces.items() if not s.fixed]
  for activation, scaled in ((RELU, 1), (TANH, 0), (GELU, 0)):
    counts = tangents.directions(kind.spec, activation)
    rates = tangents.generators(kind.spec, activation)
    assert list(counts) == hidden
    for name, count in counts.items():
      assert count == scaled * kind.spec.spaces[name].size
      assert (name in rates) == bool(scaled)
      if scaled:
        assert rates[name].shape == (sum(counts.values()), count)
    if scaled:
      all_rates = np.concatenate(list(rates.values()), axis=1)
      np.testing.assert_array_equal(all_rates, np.eye(len(all_rates)))
      some = tangents.generators(kind.spec, activation, np.asarray([9, 2]))
      some = np.concatenate(list(some.values()), axis=1)
      np.testing.assert_array_equal(some, all_rates[[9, 2]])


def test_tangent_is_the_derivative_along_the_orbit(x64, kind, random_weights):
  spec, weights = kind.spec, random_weights(kind, 0)
  key = jax.random.key(1)
  rates = {
    name: jax.random.normal(jax.random.fold_in(key, i), (space.size,))
    for i, (name, space) in enumerate(spec.spaces.items())
    if not space.fixed
  }

  @jax.jit
  def both(h):
    def regauged(h):
      g = {
        name: actions.Element(jnp.arange(len(r)), jnp.exp(h * r))
        for name, r in rates.items()
      }
      return actions.act(g, spec, weights)

    difference = jax.tree.map(
      lambda a, b: (a - b) / (2 * h), regauged(h), regauged(-h)
    )
    return difference, tangents.tangent(spec, weights, rates)

  difference, t = both(1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-8, 1e-9), t, difference
  )


def test_outputs_do_not_change_along_a_tangent_of_the_scale_group(
  x64, kind, random_weights, images
):
  spec, weights = kind.spec, random_weights(kind, 2)
  x = images(kind, 4)
  rates = tangents.generators(spec, RELU)

  @jax.jit
  def change(rate, activation):
    t = tangents.tangent(spec, weights, rate)
    _, change = jax.jvp(
      lambda w: kind.apply(w, x, activation), (weights,), (t,)
    )
    return jnp.abs(change).max()

  def largest(activation):
    count = jax.tree.leaves(rates)[0].shape[0]
    return max(
      change({n: r[i] for n, r in rates.items()}, activation)
      for i in range(count)
    )

  assert largest(RELU) < 1e-13
  # The same directions for an activation with the sign group.
  assert largest(TANH) > 1e-2


def without_ground(weights):
  """Connects the neurons 4 of both layers of the MLP only with each other."""
  first, second, last = jax.tree.map(np.array, weights)
  first["kernel"][:, 4] = first["bias"][4] = 0
  second["kernel"][:, 4] = second["kernel"][4] = second["bias"][4] = 0
  last["kernel"][4] = 0
  second["kernel"][4, 4] = 1.5
  return jax.tree.map(jnp.asarray, (first, second, last))


def test_rank_is_the_matrix_rank_of_the_tangents(x64, kind, random_weights):
  rates = tangents.generators(kind.spec, RELU)
  neurons = jax.tree.leaves(rates)[0].shape[0]
  ranks = {}
  for dead in (False, True):
    weights = random_weights(kind, 3, dead)
    ranks[dead] = tangents.rank(kind.spec, weights, RELU)
    expected = np.linalg.matrix_rank(rows(kind.spec, weights, rates))
    assert ranks[dead] == expected
  assert ranks[False] == neurons
  # In each space only neuron 3 has neither incoming nor outgoing weights.
  assert ranks[True] == neurons - len(rates)
  assert tangents.rank(kind.spec, random_weights(kind, 3), TANH) == 0


def test_an_isolated_pair_of_neurons_has_one_direction_less(
  x64, random_weights
):
  weights = without_ground(random_weights(MLP, 4, dead=False))
  rates = tangents.generators(MLP.spec)
  expected = np.linalg.matrix_rank(rows(MLP.spec, weights, rates))
  assert tangents.rank(MLP.spec, weights) == expected == 16


def test_neurons_without_the_scale_group_fix_their_neighbours():
  """Sizes 1-1-1 without biases; the last space has the sign group."""
  weights = {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1))}
  spec = SymmetrySpec(
    {
      "input": Space(1),
      "first": Space(1, ("scale",)),
      "second": Space(1, ("sign",)),
    },
    {
      "a": Axes((Axis("input", -1), Axis("first", 1))),
      "b": Axes((Axis("first", -1), Axis("second", 1))),
    },
  )
  assert tangents.directions(spec) == {"first": 1, "second": 0}
  assert tangents.rank(spec, weights) == 1
  alone = {"a": jnp.zeros((1, 1)), "b": jnp.ones((1, 1))}
  assert tangents.rank(spec, alone) == 1
  both = jax.tree.map(jnp.zeros_like, weights)
  assert tangents.rank(spec, both) == 0


@pytest.mark.parametrize(
  ("name", "directions", "dependent", "accounts"),
  [
    ("mlp", [4], 0, (0, 0, 0)),
    # A kernel and a scale write to each stream.
    ("preactivation", [8], 0, (4, 4, 4)),
    ("scanned", [4, 5], 0, (0, 0, 4)),
    # Before three normalizations of 4 channels and after them. The streams of
    # 4 and of 6 channels have two writers.
    ("resnet", [8, 8, 8, 6], 0, (12, 12, 10)),
    # After two normalizations: of a stream that nothing scales before. To scale
    # all heads is to scale all their dimensions, of queries and of values.
    ("vit", [8, 4, 3, 0, 3], 2, (0, 8, 0)),
  ],
)
def test_what_normalizations_add_and_sums_take(
  x64, name, directions, dependent, accounts
):
  target, weights = network(name)
  assert list(tangents.directions(target.spec).values()) == directions
  assert tangents.accounts(target.spec) == accounts
  rates = tangents.generators(target.spec)
  rank = np.linalg.matrix_rank(rows(target.spec, weights, rates))
  assert tangents.rank(target.spec, weights) == rank
  assert rank == sum(directions) - dependent


def test_a_network_without_ties_has_the_directions_that_sums_take(
  residual_mlp, kind
):
  """8-9-8 with a skip from the first to the last; and as a chain."""
  chain = tangents.directions(mlp((3, 8, 9, 8, 2)).spec)
  tied = tangents.directions(residual_mlp.spec)
  taken = tangents.accounts(residual_mlp.spec).summed
  assert sum(chain.values()) == sum(tied.values()) + taken == 25


def test_tangents_move_running_statistics(x64, normalized):
  """Before a normalization, the mean with the kernel; outputs stay."""
  spec, weights = normalized.spec, normalized.init(jax.random.key(1))
  assert tangents.accounts(spec) == (12, 6, 6)
  x = jax.random.normal(jax.random.key(2), (20, 3))
  rates = tangents.generators(spec)

  @jax.jit
  def along(rate):
    t = tangents.tangent(spec, weights, rate)
    change = jax.jvp(lambda w: normalized.apply(w, x), (weights,), (t,))[1]
    return t["batch_stats"], jnp.abs(change).max()

  means = 0
  for i in range(18):
    stats, change = along({n: r[i] for n, r in rates.items()})
    assert change < 1e-13
    assert not any(s["var"].any() for s in stats)
    means += any(s["mean"].any() for s in stats)
  assert means == 12
