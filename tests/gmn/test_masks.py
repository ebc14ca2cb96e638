"""Masks and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special

from scalegmn_jax.gmn import masks
from scalegmn_jax.symmetry import kernels
from scalegmn_jax.targets.mlp import mlp

TARGET = mlp((2, 4, 3))
ENTRIES = 20


@jax.jit
def mask_of(scores, count):
  return masks.mask_highest(TARGET.spec, scores, count)


def draw():
  """(scores, coefficients): random kernel entries of `TARGET`, biases of 0."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(TARGET.init, jax.random.key(0))
  return (
    jax.tree.map(
      lambda s: jax.device_put(rng.normal(size=s.shape) * (len(s.shape) > 1)),
      shapes,
    )
    for _ in range(2)
  )


def flat(tree):
  """[20] kernel entries."""
  return np.concatenate([np.ravel(layer["kernel"]) for layer in tree])


def gradient(scores, coefficients, count):
  """Of the sum of the coefficients of kept entries."""

  @jax.jit
  @jax.grad
  def grad(scores, count):
    mask = mask_of(scores, count)
    return sum(
      (m["kernel"] * c["kernel"]).sum()
      for m, c in zip(mask, coefficients, strict=True)
    )

  return flat(grad(scores, count))


def test_the_gradient_is_that_of_sigmoids_with_a_constant_sum(x64):
  scores, coefficients = draw()
  count = 12

  def soft(values):
    """The same by other means: a root in place of a bisection."""

    def at(threshold):
      return scipy.special.expit((values - threshold) / masks.TEMPERATURE)

    def too_many(threshold):
      return at(threshold).sum() - (ENTRIES - count)

    threshold = scipy.optimize.brentq(too_many, -20, 20, xtol=1e-14)
    return (flat(coefficients) * at(threshold)).sum()

  found = gradient(scores, coefficients, count)
  expected = scipy.optimize.approx_fprime(flat(scores), soft, 1e-6)
  np.testing.assert_allclose(found, expected, 1e-4, 1e-6)
  assert abs(found).max() > 1e-2 and abs(found.sum()) < 1e-6


def test_the_lowest_are_removed_and_entries_without_effect():
  scores, coefficients = draw()
  for count in (1, 12, ENTRIES - 1):
    mask = mask_of(scores, count)
    removed = np.argsort(flat(scores))[:count]
    assert sorted(np.flatnonzero(flat(mask) == 0)) == sorted(removed)
    assert all((layer["bias"] == 1).all() for layer in mask)
    assert np.isfinite(gradient(scores, coefficients, count)).all()
  dead = tuple(
    layer | {"kernel": layer["kernel"].at[0].set(-jnp.inf)} for layer in scores
  )
  none = np.isneginf(flat(dead))
  assert 3 < none.sum() < 12 and kernels.count(TARGET.spec, dead) == ENTRIES
  for count in (3, 12):  # fewer and more than have no effect
    kept = flat(mask_of(dead, count))
    assert not kept[none].any() and kept.sum() == ENTRIES - max(count, 7)
    found = gradient(dead, coefficients, count)
    assert np.isfinite(found).all() and not found[none].any()
