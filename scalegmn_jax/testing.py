"""Assertions for tests of one's own layers and metanetworks."""

import math
from collections.abc import Callable

import jax

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry.measure import (
  InvarianceError,
  equivariance_error,
  invariance_error,
)

__all__ = [
  "InvarianceError",
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
  activation: int = 0,
  decades: float = 1.0,
  tolerance: float = 1e-4,
  samples: int = 1,
) -> None:
  """Asserts f(gθ) = g·f(θ) for random g.

  Args:
    f: weights -> updates, a pytree like the weights; not θ' = θ + Δ, in which
      θ hides a wrong Δ.
    spec: the symmetry.
    weights: of one network.
    key: consumed.
    activation: index of the network's activation (a Python integer).
    decades: positive multipliers are log-uniform in 10**±decades.
    tolerance: the greatest ‖g⁻¹·f(gθ) − f(θ)‖ / ‖f(θ)‖ of a tensor.
    samples: number of group elements.

  Raises:
    AssertionError: a tensor is beyond the tolerance, or its update is zero or
      not finite.
  """

  @jax.jit
  def measure(weights, key):
    return equivariance_error(
      f,
      spec,
      weights,
      key,
      activation=activation,
      decades=decades,
      samples=samples,
    )

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
  activation: int = 0,
  decades: float = 1.0,
  tolerance: float = 1e-4,
  samples: int = 1,
  spread: float = 1e-3,
) -> None:
  """Asserts f(gθ) = f(θ) for random g, on a population of networks.

  Args:
    f: the weights of one network -> array.
    spec: the symmetry.
    weights: of several networks; leaves are [B, ...].
    key: consumed.
    activation: index of the networks' activation (a Python integer).
    decades: positive multipliers are log-uniform in 10**±decades.
    tolerance: the greatest |f(gθ) − f(θ)|, in units of the standard deviation
      of that output over networks.
    samples: number of group elements per network.
    spread: the least standard deviation of each output; an f that is the same
      for all networks shows nothing.

  Raises:
    AssertionError: an output is beyond the tolerance, or does not spread.
  """

  @jax.jit
  def measure(weights, key):
    return invariance_error(
      f,
      spec,
      weights,
      key,
      activation=activation,
      decades=decades,
      samples=samples,
    )

  measured = measure(weights, key)
  least = float(measured.spread.min())
  if not (math.isfinite(least) and least > spread):
    raise AssertionError(
      f"an output has standard deviation {least:.3g} over networks, expected "
      f"more than {spread:g}: it shows nothing"
    )
  error = float(measured.error.max())
  if not error <= tolerance:
    raise AssertionError(
      f"not invariant: an output changes by {error:.3g} of its standard "
      f"deviation over networks > {tolerance:g}"
    )
