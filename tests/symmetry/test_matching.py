"""Permutations and signs by linear assignment."""

import itertools

import numpy as np

from scalegmn_jax.symmetry import matching
from scalegmn_jax.targets.mlp import mlp


def test_best_signs_are_the_best_of_all():
  rng = np.random.default_rng(0)
  similarity = {
    odd: rng.normal(size=(5, 6)) for odd in ((), (0,), (0, 2), (1,), (2,))
  }
  value, signs = matching._best_signs(similarity, 4, (5, 6))
  every = [
    np.sum(
      [s * np.prod([v[m] for m in odd]) for odd, s in similarity.items()], 0
    )
    for v in itertools.product((1, -1), repeat=3)
  ]
  np.testing.assert_allclose(value, np.max(every, 0))
  assert (signs[3] == 1).all()  # nothing depends on it
  assert matching._coupled(similarity, 4) == [[0, 2], [1]]


def test_more_signs_than_are_tried_jointly():
  """A star of signs, as before and after the normalizations of a stream."""
  rng = np.random.default_rng(1)
  count = matching._JOINT + 3
  true = rng.choice((-1, 1), count)
  odds = [(m,) for m in range(count)] + [(0, m) for m in range(1, count)]
  similarity = {
    odd: np.asarray(rng.uniform(0.5, 1) * np.prod(true[list(odd)]))
    for odd in odds
  }
  value, signs = matching._best_signs(similarity, count, ())
  np.testing.assert_array_equal(signs, true)
  np.testing.assert_allclose(value, sum(map(abs, similarity.values())))


def test_sizes_are_sorted_over_axes_jointly():
  x = np.random.default_rng(2).normal(size=(2, 3, 4))
  found = matching._sorted_sizes(x, [0, 2])
  assert found.shape == x.shape
  for i in range(3):
    expected = np.sort(np.abs(x[:, i]).ravel())
    np.testing.assert_array_equal(found[:, i].ravel(), expected)


def test_features_tell_neurons_with_equal_weights_apart():
  target = mlp((3, 6, 2))
  ones = tuple(
    {"bias": np.ones(n), "kernel": np.ones((m, n))} for m, n in ((3, 6), (6, 2))
  )
  rng = np.random.default_rng(3)
  features, order = rng.normal(size=(6, 9)), rng.permutation(6)
  groups = {"hidden_1": ("scale",)}
  found = matching.match(
    target.spec,
    groups,
    ones,
    ones,
    ({"hidden_1": [features[order]]}, {"hidden_1": [features]}),
  )
  np.testing.assert_array_equal(found["hidden_1"].order, order)
