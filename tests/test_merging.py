"""Aligning and averaging networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax.symmetry import actions
from tests.graph.traced import element, network, with_dead_neurons

TRACED = (
  "cnn", "siren", "activations", "gated", "resnet", "downsampled", "group_norm",
  "weight_standardization", "mobile", "grouped", "fused_attention", "rotary",
  "vit", "gpt", "scanned", "recurrent", "lstm", "unet",
)  # fmt: skip
"""Networks with ties, split axes, several multipliers and signs of a neuron,
heads, and spaces that send to themselves."""


def drawn(target, seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return jax.tree.map(lambda w: rng.normal(size=w.shape), shapes)


def distance(a, b):
  """The largest |a - b| of a weight, in units of its largest entry."""
  return max(
    np.abs(x - y).max() / max(np.abs(x).max(), 1e-9)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
  )


def of_shape(target, weights):
  return target._replace(init=lambda key: weights)


@pytest.mark.parametrize("name", TRACED)
def test_a_network_of_the_orbit_is_brought_back(name):
  target, weights = network(name)
  weights = jax.tree.map(np.float64, weights)
  target = of_shape(target, weights)
  for seed in range(2):
    g = element(target.spec, seed)
    moved = actions.act(g, target.spec, weights)
    assert distance(weights, moved) > 0.1
    found = sg.align(target, weights, moved)
    assert distance(weights, found.weights) < 1e-10
    assert found.similarity > 1 - 1e-10


CHAINS = {
  "cnn": sg.cnn(channels=(16, 16), input_shape=(8, 8, 1)),
  "tanh": sg.mlp((8, 32, 32, 3), "tanh"),
  "deep": sg.mlp((8, 16, 16, 16, 16, 16, 3)),
  "gelu": sg.mlp((8, 16, 3), "gelu"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_brought_back_and_others_closer(x64, name):
  target = CHAINS[name]
  a, b = drawn(target), drawn(target, 1)
  g = element(target.spec, 2)
  assert (
    distance(a, sg.align(target, a, actions.act(g, target.spec, a)).weights)
    < 1e-10
  )

  found = sg.align(target, a, b)
  x = np.random.default_rng(3).normal(size=(5, *target.input_shape))
  apply = jax.jit(target.apply)
  np.testing.assert_allclose(apply(found.weights, x), apply(b, x), 1e-10, 1e-10)
  same = actions.act(found.element, target.spec, b)
  assert distance(found.weights, same) < 1e-12
  # The gauge of b makes no difference, and it has come closer than it was.
  moved = sg.align(target, a, actions.act(g, target.spec, b))
  assert distance(found.weights, moved.weights) < 1e-10
  np.testing.assert_allclose(found.similarity, moved.similarity, 1e-10)
  as_it_is = sg.align(without_permutations(target), a, b).similarity
  assert found.similarity > as_it_is + 0.1


def without_permutations(target):
  spaces = {
    name: sg.Space(s.size, s.groups, permuted=False) if s.groups else s
    for name, s in target.spec.spaces.items()
  }
  return target._replace(spec=sg.SymmetrySpec(spaces, target.spec.axes))


def test_control_permutations_alone_do_not_bring_back():
  target = CHAINS["cnn"]
  weights = drawn(target)
  g = element(target.spec, 4)
  moved = actions.act(g, target.spec, weights)
  spaces = {
    name: sg.Space(s.size, ("permutation",) if s.groups else ())
    for name, s in target.spec.spaces.items()
  }
  fewer = target._replace(spec=sg.SymmetrySpec(spaces, target.spec.axes))
  assert distance(weights, sg.align(fewer, weights, moved).weights) > 0.1


def test_the_function_of_a_network_with_dead_neurons_stays(x64):
  target, weights = network("resnet")
  weights = with_dead_neurons(target, weights)
  target = of_shape(target, weights)
  other = jax.tree.map(lambda w: w[::-1].copy(), weights)
  x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
  for a, b in ((weights, other), (other, weights)):
    found = sg.align(target, a, b).weights
    assert all(np.isfinite(w).all() for w in jax.tree.leaves(found))
    with jax.numpy_rank_promotion("allow"):
      np.testing.assert_allclose(
        target.apply(found, x), target.apply(b, x), 1e-10, 1e-10
      )


def test_activations_have_their_own_group():
  target = sg.mlp((4, 8, 8, 2), ("relu", "tanh"))
  a = drawn(target)
  for activation in (0, 1):
    g = actions.sample(jax.random.key(5), target.spec, activation)
    g = jax.tree.map(np.asarray, g)
    moved = actions.act(g, target.spec, a)
    errors = [
      distance(a, sg.align(target, a, moved, activation=i).weights)
      for i in (0, 1)
    ]
    assert errors[activation] < 1e-5 < errors[1 - activation]


def test_with_images_too(x64):
  target = sg.mlp((4, 6, 3), "tanh")
  a = drawn(target)
  moved = actions.act(element(target.spec, 6), target.spec, a)
  x = np.random.default_rng(7).normal(size=(16, 4))
  assert distance(a, sg.align(target, a, moved, x).weights) < 1e-10


def test_merge_is_the_weighted_average():
  target = CHAINS["cnn"]
  a, b = drawn(target), drawn(target, 1)
  stacked = jax.tree.map(lambda *w: np.stack(w), a, b)
  expected = jax.tree.map(lambda x, y: 0.25 * x + 0.75 * y, a, b)
  networks = sg.Networks(stacked, jnp.zeros(2, int))
  for several in ([a, b], stacked, networks):
    merged = sg.merge(several, (0.25, 0.75))
    assert distance(expected, merged) < 1e-12
  equal = sg.merge([a, b])
  assert distance(jax.tree.map(lambda x, y: (x + y) / 2, a, b), equal) < 1e-12


def test_copies_of_a_network_merge_to_it():
  target = CHAINS["cnn"]
  a = drawn(target)
  copies = [
    actions.act(element(target.spec, i), target.spec, a) for i in (1, 2)
  ]
  assert distance(a, sg.merge([a, *copies], target=target)) < 1e-10
  assert distance(a, sg.merge([a, *copies])) > 0.1


def test_types_are_those_of_the_networks():
  target = sg.mlp((3, 4, 2))
  a, b = (target.init(jax.random.key(i)) for i in (0, 1))
  for weights in (sg.align(target, a, b).weights, sg.merge([a, b])):
    leaves = jax.tree.leaves(weights)
    assert all(isinstance(w, jax.Array) for w in leaves)
    assert {w.dtype for w in leaves} == {np.dtype(np.float32)}


SMALL = sg.mlp((3, 4, 2))
ONE = jax.tree.map(np.asarray, drawn(SMALL))
OTHER = drawn(sg.mlp((3, 5, 2)))
BAD = ({**ONE[0], "bias": np.full(4, np.nan)}, ONE[1])

TWO = sg.Networks(jax.tree.map(lambda w: np.stack([w, w]), ONE), jnp.arange(2))

MISTAKES = [
  (lambda: sg.align(SMALL, ONE, OTHER), "b: weight 0/bias has shape [5], exp"),
  (lambda: sg.align(SMALL, BAD, ONE), "align: a: weight 0/bias holds 4 NaN"),
  (lambda: sg.align(SMALL, ONE, ONE[:1]), "b: weight 1/bias is missing"),
  (lambda: sg.align(SMALL, ONE, list(ONE)), "b: the weights are PyTreeDef([{"),
  (lambda: sg.align(SMALL, ONE, ONE, activation=1), "activation is 1, expe"),
  (jax.jit(lambda: sg.align(SMALL, *traced())), "the weights are traced"),
  (lambda: sg.merge([]), "merge: no networks, expected at least one"),
  (lambda: sg.merge([ONE, OTHER]), "network 1: weight 0/bias has shape [5]"),
  (lambda: sg.merge([ONE, BAD]), "network 1: weight 0/bias holds 4 NaN"),
  (lambda: sg.merge([ONE, ONE], (0.5,)), "1 weights for 2 networks"),
  (lambda: sg.merge([ONE, ONE], (0.5, 0.7)), "the sum of the weights is 1.2"),
  (lambda: sg.merge([ONE, ONE], (0.5, np.nan)), "the weights is nan, exp"),
  (lambda: sg.merge(ONE), "of the weights have the sizes [2, 3, 4], expected"),
  (lambda: sg.merge(TWO), "networks with the activations [0, 1], expected"),
]


def traced():
  weights = SMALL.init(jax.random.key(0))
  return [jax.tree.map(jnp.sin, weights)] * 2


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_mistakes_are_one_line(call, message):
  with pytest.raises(sg.InputError) as error:
    call()
  assert message in str(error.value) and "\n" not in str(error.value)
