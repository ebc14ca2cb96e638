"""Assertions for tests of custom layers and metanetworks."""

import math
from collections.abc import Callable
from typing import Unpack

import jax

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry.measure import (
  InvarianceError,
  SampleOptions,
  equivariance_error,
  invariance_error,
)

__all__ = [
  "InvarianceError",
  "SampleOptions",
  "assert_equivariant",
  "assert_invariant",
  "equivariance_error",
  "invariance_error",
]


def assert_equivariant(
  f: Callable[[Weights], Weights],
  spec: SymmetrySpec,
  weights: Weights,
  key: jax.Array,
  *,
  tolerance: float = 1e-4,
  **options: Unpack[SampleOptions],
) -> None:
  """Asserts f(gθ) = g·f(θ) for random g.

  Args:
    f: weights -> updates, a pytree like the weights; not θ' = θ + Δ, in which
      θ hides a wrong Δ.
    spec: the symmetry.
    weights: of one network.
    key: consumed.
    tolerance: the largest ‖g⁻¹·f(gθ) − f(θ)‖ / ‖f(θ)‖ of a tensor.
    **options: activation, decades and samples, see `SampleOptions`.

  Raises:
    AssertionError: a tensor exceeds the tolerance, or its update is zero or not
      finite.
  """

  @jax.jit
  def measure(weights, key):
    return equivariance_error(f, spec, weights, key, **options)

  errors = measure(weights, key)
  errors = {name: float(error) for name, error in errors.items()}
  for name, error in errors.items():
    if math.isnan(error):
      raise AssertionError(
        f"the update of {name} is zero or not finite: it shows nothing"
      )
  worst = max(errors, key=lambda name: errors[name])
  if errors[worst] > tolerance:
    raise AssertionError(
      f"not equivariant: the update of {worst} has relative error "
      f"{errors[worst]:.3g} > {tolerance:g}"
    )


def assert_invariant(
  f: Callable[[Weights], jax.Array],
  spec: SymmetrySpec,
  weights: Weights,
  key: jax.Array,
  *,
  tolerance: float = 1e-4,
  spread: float = 1e-3,
  **options: Unpack[SampleOptions],
) -> None:
  """Asserts f(gθ) = f(θ) for random g and several networks.

  Args:
    f: the weights of one network -> array.
    spec: the symmetry.
    weights: of several networks; leaves are [B, ...].
    key: consumed.
    tolerance: the largest |f(gθ) − f(θ)|, in units of the standard deviation
      of the output over networks.
    spread: the least standard deviation of each output; a function with the
      same value for all networks shows nothing.
    **options: activation, decades and samples, see `SampleOptions`.

  Raises:
    AssertionError: an output exceeds the tolerance, or does not spread.
  """

  @jax.jit
  def measure(weights, key):
    return invariance_error(f, spec, weights, key, **options)

  result = measure(weights, key)
  least = float(result.spread.min())
  if not (math.isfinite(least) and least > spread):
    raise AssertionError(
      f"an output has standard deviation {least:.3g} over networks, expected "
      f"more than {spread:g}: it shows nothing"
    )
  error = float(result.error.max())
  if not error <= tolerance:
    raise AssertionError(
      f"not invariant: an output changes by {error:.3g} of its standard "
      f"deviation over networks > {tolerance:g}"
    )
