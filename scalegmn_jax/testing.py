"""Assertions for tests of custom targets, layers and metanetworks."""

import math
from collections.abc import Callable
from typing import Unpack

import jax
import numpy as np

from scalegmn_jax import compilation
from scalegmn_jax.base import SymmetrySpec, TargetNetwork, Weights, random_array
from scalegmn_jax.symmetry import actions, diagnosis
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.symmetry.measure import (
  InvarianceError,
  SampleOptions,
  equivariance_error,
  invariance_error,
  with_noise,
)

__all__ = [
  "InvarianceError",
  "SampleOptions",
  "assert_equivariant",
  "assert_invariant",
  "assert_symmetric",
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


def assert_symmetric(
  target: TargetNetwork,
  key: jax.Array,
  *,
  weights: Weights | None = None,
  inputs: jax.Array | None = None,
  tolerance: float = 1e-3,
  decades: float = 1.0,
  samples: int = 2,
) -> None:
  """Asserts that the declared symmetry of a target is one of its outputs.

  apply(gθ, x) = apply(θ, x) for random g of the group of each activation. If it
  does not hold, other declarations of each axis are tried, and the error names
  the weight whose axis is to blame, and the entry that fits.

  Args:
    target: the architecture.
    key: consumed.
    weights: θ of one network; None: `target.init`, and noise, since zeros do
      not show how a weight transforms.
    inputs: x [N, *target.input_shape]; None: 16 normal inputs.
    tolerance: the largest ‖f(gθ) − f(θ)‖, in units of the norm of f(θ) minus
      its mean over inputs.
    decades: positive multipliers are log-uniform in 10**±decades.
    samples: number of group elements per activation.

  Raises:
    AssertionError: outputs change, or are the same for all inputs or not
      finite.
    InputError: the spec does not fit the weights.
  """
  specs.check(target)
  k_weights, k_noise, k_inputs, k_elements = jax.random.split(key, 4)
  if weights is None:

    @compilation.run_once
    def draw(k_weights, k_noise):
      return with_noise(target.init(k_weights), k_noise)

    weights = draw(k_weights, k_noise)
  if inputs is None:
    inputs = random_array(
      jax.random.normal, k_inputs, (16, *target.input_shape)
    )
  weights = jax.device_get(weights)
  apply = jax.jit(target.apply)
  seed = np.asarray(jax.random.key_data(k_elements))
  rng = np.random.default_rng(seed.tolist())
  for index, name in enumerate(target.activations):
    elements = [
      actions.sample_on_host(rng, target.spec, index, decades=decades)
      for _ in range(samples)
    ]
    probe = diagnosis.Probe(
      lambda w, index=index: np.asarray(apply(w, inputs, index)),
      weights,
      elements,
    )
    error = probe.error(target.spec)
    if math.isnan(error):
      raise AssertionError(
        f"activation {name!r}: the outputs are the same for all inputs or not "
        "finite: they show nothing"
      )
    if error > tolerance:
      reason = diagnosis.explain(probe, target.spec, tolerance)
      raise AssertionError(
        f"activation {name!r}: the declared symmetry changes outputs by "
        f"{error:.3g} of their variation over inputs > {tolerance:g}: {reason}"
      )
