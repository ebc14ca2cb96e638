"""Products in bfloat16: what is rounded, and in which direction."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from scalegmn_jax import testing
from scalegmn_jax.gmn import metanetworks, products
from scalegmn_jax.targets.mlp import mlp
from tests.gmn.parameters import random_params

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 40, 30)).astype(np.float32)
KERNEL = RANDOM.normal(size=(30, 5)).astype(np.float32)
G = RANDOM.normal(size=(2, 40, 5)).astype(np.float32)

TARGET = mlp((3, 8, 8, 2), ("relu", "tanh"))


def rounded(a):
  """The nearest numbers with 8 significant bits, as float64."""
  mantissa, exponent = np.frexp(np.float64(a))
  return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def in_bfloat16(x, kernel):
  return products.product(x, products.Bfloat16(kernel))


def test_only_factors_are_rounded():
  np.testing.assert_allclose(
    in_bfloat16(X, KERNEL), rounded(X) @ rounded(KERNEL), 1e-5, 1e-5
  )


def test_only_factors_of_gradients_are_rounded():
  _, vjp = jax.vjp(in_bfloat16, X, KERNEL)
  of_x, of_kernel = vjp(G)
  x, kernel, g = rounded(X), rounded(KERNEL), rounded(G)
  np.testing.assert_allclose(of_x, g @ kernel.T, 1e-5, 1e-5)
  np.testing.assert_allclose(
    of_kernel, np.einsum("bnd,bnh->dh", x, g), 1e-5, 1e-5
  )


def test_results_have_the_type_of_the_features(x64):
  assert in_bfloat16(X.astype(np.float64), KERNEL).dtype == jnp.float64
  assert in_bfloat16(X, KERNEL).dtype == jnp.float32


def test_kernels_alone_are_prepared():
  params = {"in": {"kernel": KERNEL, "bias": G}, "codes": X}
  prepared = products.prepare(params, "bfloat16")
  assert isinstance(prepared["in"]["kernel"], products.Bfloat16)
  assert prepared["in"]["bias"] is G and prepared["codes"] is X
  assert products.prepare(params, "float32") is params


def factors(jaxpr):
  """Types of the factors of all products in a jaxpr, of their sums, and the
  precisions that are asked for."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      yield (
        tuple(v.aval.dtype.name for v in equation.invars),
        tuple(v.aval.dtype.name for v in equation.outvars),
        equation.params["precision"],
      )
    for inner in core.jaxprs_in_params(equation.params):
      yield from factors(inner)


@pytest.mark.parametrize("dtype", products.DTYPES)
def test_all_products_of_a_functional_and_its_gradient(dtype):
  functional = metanetworks.functional(TARGET, dtype=dtype, width=8, depth=2)
  params = jax.eval_shape(functional.init, jax.random.key(0))
  weights = jax.eval_shape(TARGET.init, jax.random.key(0))

  def loss(params, weights):
    return functional.apply(params, weights).sum()

  def found(f):
    return list(factors(jax.make_jaxpr(f)(params, weights).jaxpr))

  forward, both = found(loss), found(jax.grad(loss, (0, 1)))
  assert {f[:2] for f in both} == {((dtype, dtype), ("float32",))}
  if dtype == "float32":  # GPUs and TPUs round it by default
    highest = jax.lax.Precision.HIGHEST
    assert {f[2] for f in both} == {(highest, highest)}
  assert len(both) > 2.5 * len(forward)


@pytest.mark.parametrize(("activation", "tolerance"), [(0, 0.1), (1, 1e-6)])
def test_symmetry(activation, tolerance):
  """Positive multipliers change what is rounded; signs and orders do not."""
  small: Any = {"dtype": "bfloat16", "width": 8, "depth": 1}
  functional = metanetworks.functional(TARGET, **small)
  operator = metanetworks.operator(TARGET, **small)
  keys = jax.random.split(jax.random.key(0), 3)
  networks = jax.tree.map(
    lambda *w: np.stack(w), *(random_params(TARGET, seed) for seed in range(8))
  )
  read, edit = random_params(functional), random_params(operator)

  def update(weights):
    edited = operator.apply(edit, weights, activation)
    return jax.tree.map(jnp.subtract, edited, weights)

  testing.assert_invariant(
    lambda weights: functional.apply(read, weights, activation),
    TARGET.spec, networks, keys[1], tolerance=tolerance, activation=activation,
  )  # fmt: skip
  testing.assert_equivariant(
    update, TARGET.spec, jax.tree.map(lambda w: w[0], networks), keys[2],
    tolerance=tolerance, activation=activation,
  )  # fmt: skip


@pytest.mark.parametrize("width", (8, 10, 11))
def test_factors_in_bfloat16_may_be_transposed(width):
  """The transposes of a gradient are not merged into its products."""
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (width, 16))
  kernel = jax.random.normal(keys[1], (5, width))

  def loss(x, kernel):
    return jnp.sin(products.product(x.T, kernel.T)).sum()

  def loss_in_bfloat16(x, kernel):
    return jnp.sin(in_bfloat16(x.T, kernel.T)).sum()

  expected = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
  result = jax.jit(jax.grad(loss_in_bfloat16, (0, 1)))(x, kernel)
  for a, b in zip(expected, result, strict=True):
    np.testing.assert_allclose(a, b, atol=0.05 * jnp.abs(a).max())
