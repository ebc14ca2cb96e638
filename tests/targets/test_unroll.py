"""CNNs unrolled into MLPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp

CNNS = {
  "average-valid": cnn((9, 8, 2), (3, 4), 3, 2, "VALID", classes=3),
  "average-same": cnn((5, 6, 1), (3, 4), 3, 2, "SAME", classes=3),
  "flatten-same": cnn((5, 6, 2), (3, 2), [2, 3], [1, 3], "SAME", "flatten", 3),
  "dense": cnn((5, 6, 2), (3, 2), 3, (2, 1), (1, 0), classes=3, dense=(4, 5)),
  "mixed": cnn((5, 6, 2), (3,), 3, 2, activation=("relu", "tanh"), classes=3),
}


@pytest.fixture(params=CNNS)
def network(request):
  return CNNS[request.param]


def test_the_mlp_computes_the_same_function(
  x64, network, random_weights, images
):
  weights, x = random_weights(network, 0, dead=False), images(network, 6)
  dense = unroll.unrolled(network)
  last = len(network.activations) - 1

  @jax.jit
  def both(weights, x):
    return (
      network.apply(weights, x, last),
      dense.target.apply(dense.unroll(weights), x, last),
    )

  expected, result = both(weights, x)
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(result, expected, 1e-13, 1e-13)
  # Negative control: other weights.
  other, _ = both(random_weights(network, 1, dead=False), x)
  assert np.abs(other - expected).max() > 0.1


def test_untied_weights_exclude_structural_zeros(network):
  dense = unroll.unrolled(network)
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  ones = jax.tree.map(lambda s: jnp.ones(s.shape), shapes)
  connections = jax.tree.leaves(jax.jit(dense.unroll)(ones))
  assert sum(map(np.count_nonzero, connections)) == dense.untied
  expected = jax.eval_shape(dense.target.init, jax.random.key(0))
  assert [w.shape for w in connections] == [
    w.shape for w in jax.tree.leaves(expected)
  ]


def test_sizes_for_the_default_cnn():
  dense = unroll.unrolled(cnn())
  weights = jax.eval_shape(dense.target.init, jax.random.key(0))
  assert sum(w.size for w in jax.tree.leaves(weights)) == 6_627_674
  assert tangents.directions(dense.target.spec) == {
    "hidden_1": 15 * 15 * 16,
    "hidden_2": 7 * 7 * 16,
    "hidden_3": 3 * 3 * 16,
  }
  assert dense.untied == 172_010


def test_unroll_commutes_with_tangents(x64, random_weights):
  network = CNNS["average-same"]
  dense = unroll.unrolled(network)
  weights = random_weights(network, 2, dead=False)
  rng = np.random.default_rng(3)
  rates = {
    name: jax.device_put(rng.normal(size=n))
    for name, n in tangents.directions(network.spec).items()
  }
  # Features are flattened [H, W, C]: channels vary fastest.
  tiled = {
    name: jnp.tile(rates[name], n // len(rates[name]))
    for name, n in tangents.directions(dense.target.spec).items()
  }
  assert [len(r) for r in tiled.values()] == [3 * 3 * 3, 2 * 2 * 4]

  @jax.jit
  def both(weights):
    return (
      dense.unroll(tangents.tangent(network.spec, weights, rates)),
      tangents.tangent(dense.target.spec, dense.unroll(weights), tiled),
    )

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-13, 1e-15),
    *both(weights),
  )


def test_other_targets_are_refused():
  with pytest.raises(InputError, match="'mlp' cannot be unrolled"):
    unroll.unrolled(mlp((3, 2)))
  pooled = cnn((8, 8, 1), (2,), pool_size=2)
  with pytest.raises(InputError, match=r"pool_size is \[2\]: .* expected 1"):
    unroll.unrolled(pooled)
