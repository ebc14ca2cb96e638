"""Phases of sine layers: a symmetry, and its canonical form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Functional, InputError
from scalegmn_jax.symmetry import actions, phase
from scalegmn_jax.targets.mlp import mlp

pytestmark = pytest.mark.usefixtures("x64")

OMEGA = 5.0
SIREN = mlp((3, 8, 9, 2), "sine", omega=OMEGA)
HIDDEN = ("hidden_1", "hidden_2")


@pytest.fixture
def weights(random_weights, x64):
  """Biases of both signs that span several turns."""
  weights = random_weights(SIREN, 0, dead=False)
  turns = np.ptp(weights[0]["bias"]) * OMEGA / np.pi
  assert turns > 3
  return weights


def close(a, b):
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.allclose(x, y, 1e-10, 1e-10) for x, y in pairs)


def fold(weights):
  return phase.fold(SIREN.spec, weights, OMEGA)


def test_shifting_and_folding_keep_the_function(weights, images):
  x = images(SIREN, 20)
  expected = SIREN.apply(weights, x)
  turns = phase.sample(jax.random.key(0), SIREN.spec)
  assert list(turns) == list(HIDDEN)
  shifted = phase.shift(SIREN.spec, weights, turns, OMEGA)
  assert not close(shifted, weights)
  np.testing.assert_allclose(SIREN.apply(shifted, x), expected, 1e-10, 1e-11)
  np.testing.assert_allclose(
    SIREN.apply(fold(weights), x), expected, 1e-10, 1e-11
  )
  # Shifted biases alone are another function: the signs matter.
  wrong = tuple(
    layer | {"bias": new["bias"]}
    for layer, new in zip(weights, shifted, strict=True)
  )
  assert not np.allclose(SIREN.apply(wrong, x), expected, 0.01, 0.01)


def test_all_shifted_copies_fold_to_the_same_weights(weights):
  folded = jax.jit(fold)(weights)
  assert not close(folded, weights)
  for layer in folded[:-1]:
    assert (jnp.abs(layer["bias"]) <= np.pi / (2 * OMEGA)).all()
  np.testing.assert_array_equal(folded[-1]["bias"], weights[-1]["bias"])
  for seed in range(3):
    turns = phase.sample(jax.random.key(seed), SIREN.spec)
    for k in turns.values():
      assert len(np.unique(k % 2)) == 2  # some signs flip, some do not
    shifted = phase.shift(SIREN.spec, weights, turns, OMEGA)
    assert not close(shifted, weights)
    assert close(fold(shifted), folded)
  # A network of another function folds to other weights.
  other = jax.tree.map(lambda w: w * 1.01, weights)
  assert not close(fold(other), folded)


def test_folding_commutes_with_permutations_and_signs(weights):
  g = actions.sample(jax.random.key(1), SIREN.spec)

  def act(w):
    return actions.act(g, SIREN.spec, w)

  assert close(fold(act(weights)), act(fold(weights)))

  def one_sided(w):
    """Folds into [0, π/ω), which a sign flip does not map to itself."""
    turns = {
      name: -jnp.floor(layer["bias"] * OMEGA / np.pi).astype(int)
      for name, layer in zip(HIDDEN, w, strict=False)
    }
    return phase.shift(SIREN.spec, w, turns, OMEGA)

  assert not close(one_sided(act(weights)), act(one_sided(weights)))


def test_phases_of_sums_of_layers_are_refused(residual_mlp, random_weights):
  weights = random_weights(residual_mlp, 0)
  with pytest.raises(InputError, match="'stream' is written to by a/bias"):
    phase.fold(residual_mlp.spec, weights, 1.0)


def test_only_hidden_neurons_have_a_phase(weights):
  with pytest.raises(InputError, match="'output' has no phase"):
    phase.shift(SIREN.spec, weights, {"output": jnp.ones(2, int)}, OMEGA)


def test_a_folded_functional_is_invariant_to_phases(weights):

  def total(params, weights, activation):
    del activation
    return params * sum(w.sum() for w in jax.tree.leaves(weights))

  summed = Functional(lambda key: jnp.ones(()), total)
  invariant = phase.fold_before(summed, SIREN.spec, OMEGA)
  params = jax.jit(invariant.init)(jax.random.key(0))
  turns = phase.sample(jax.random.key(2), SIREN.spec)
  shifted = phase.shift(SIREN.spec, weights, turns, OMEGA)
  values = [summed.apply(params, w, 0) for w in (weights, shifted)]
  assert abs(values[0] - values[1]) > 0.1
  values = [invariant.apply(params, w, 0) for w in (weights, shifted)]
  np.testing.assert_allclose(values[0], values[1], 1e-9)
