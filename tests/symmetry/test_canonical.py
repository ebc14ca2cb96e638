"""Canonical forms: invariance at all magnitudes, and behaviour at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.symmetry import canonical

Z = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

GRADIENT = jax.jit(jax.grad(lambda z: canonical.norm(z).sum()))
JACOBIAN = jax.jit(jax.jacobian(canonical.unit))


def representatives(form):
  """z [..., d] -> [R, ..., d]: a canonical map with the identity."""
  return lambda z: jnp.stack(form(z, lambda z: z))


MIXED = canonical.mixed(jnp.arange(5)[:, None] < 2, jnp.arange(5)[:, None] == 2)
CANONICAL = {
  "permutation": canonical.permutation,
  "scale": canonical.scale,
  "sign": canonical.sign,
  "mixed": MIXED,
}
FORMS = {"unit": canonical.unit, "norm": canonical.norm} | {
  name: representatives(form) for name, form in CANONICAL.items()
}


@pytest.mark.parametrize("q", [1e-35, 1e-25, 1e-3, 7.0, 1e18, 1e35])
def test_scale_is_invariant_to_positive_multipliers_of_any_size(q):
  scale = FORMS["scale"]
  np.testing.assert_allclose(scale(np.float32(q) * Z), scale(Z), 1e-6)


@pytest.mark.parametrize("name", CANONICAL)
def test_canonical_maps_apply_a_linear_map(name):
  matrix = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
  for z, product in zip(
    FORMS[name](Z), CANONICAL[name](Z, lambda z: z @ matrix), strict=True
  ):
    np.testing.assert_allclose(product, z @ matrix, 1e-5, 1e-6)


def test_scale_keeps_direction_and_has_norm_one():
  (z,) = np.asarray(FORMS["scale"](Z))
  np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, 1e-6)
  np.testing.assert_allclose(
    z, Z / np.linalg.norm(Z, axis=-1, keepdims=True), 1e-5
  )


def test_vectors_of_very_different_sizes_do_not_affect_each_other():
  q = np.float32([1e-25, 1, 1e25, 1e-30, 3])[:, None]
  np.testing.assert_allclose(canonical.unit(q * Z), canonical.unit(Z), 1e-6)


def test_sums_over_representatives_of_signs_are_invariant():
  def summed(z):
    return sum(jnp.sin(y + 1) for y in canonical.sign(z, lambda z: z @ Z.T))

  np.testing.assert_allclose(summed(-Z), summed(Z), 1e-5, 1e-6)
  flipped = Z * np.float32([1, -1, 1, 1])
  assert np.abs(summed(flipped) - summed(Z)).max() > 0.1


def test_permutation_is_the_vector_itself():
  np.testing.assert_array_equal(FORMS["permutation"](Z), Z[None])


def test_mixed_applies_the_form_of_each_vector():
  mixed = np.asarray(FORMS["mixed"](Z))
  assert mixed.shape == (2, 5, 4)
  np.testing.assert_array_equal(mixed[:, :2], [canonical.unit(Z[:2])] * 2)
  np.testing.assert_array_equal(mixed[:, 2:3], FORMS["sign"](Z[2:3]))
  np.testing.assert_array_equal(mixed[:, 3:], [Z[3:]] * 2)


@pytest.mark.parametrize("q", [1e-30, 1e-25, 1.0, 1e25])
def test_norm_is_homogeneous(q):
  q = np.float32(q)
  np.testing.assert_allclose(
    canonical.norm(-q * Z), q * np.linalg.norm(Z, axis=-1), 1e-5
  )


def test_norm_takes_any_axis():
  np.testing.assert_allclose(
    canonical.norm(Z, axis=0), np.linalg.norm(Z, axis=0), 1e-5
  )


@pytest.mark.parametrize("q", [1e-25, 1.0, 1e25])
def test_gradient_of_norm_is_the_direction(q):
  z = np.float32(q) * Z
  gradient = GRADIENT(z)
  np.testing.assert_allclose(gradient, canonical.unit(Z), 1e-5)


@pytest.mark.parametrize("q", [1e-25, 1.0, 1e25])
def test_gradient_of_unit_is_a_projection(q):
  q = np.float32(q)
  jacobian = np.asarray(JACOBIAN(q * Z[0]))
  u = np.asarray(canonical.unit(Z[0]))
  expected = (np.eye(4) - np.outer(u, u)) / np.linalg.norm(Z[0])
  np.testing.assert_allclose(jacobian * q, expected, 1e-5, 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_zero_becomes_zero_with_a_finite_gradient(form):
  z = np.float32([0, 1, 0, 1, 0])[:, None] * Z

  @jax.jit
  def value_and_gradient(z):
    return jax.value_and_grad(
      lambda z: (FORMS[form](z) ** 2).sum() + FORMS[form](z).sum(),
    )(z), FORMS[form](z)

  for x in (jnp.zeros((5, 4)), -jnp.zeros((5, 4)), z):
    (_, gradient), value = value_and_gradient(x)
    zero = np.asarray(x == 0).all(-1)
    value = value if value.ndim == 3 else value[None]
    assert (np.asarray(value)[:, zero] == 0).all()
    assert np.isfinite(gradient).all()
    if form in ("unit", "scale", "norm"):
      assert (np.asarray(gradient)[zero] == 0).all()
      assert (np.asarray(gradient)[~zero] != 0).all()
