"""The range of the weights of a zoo, and how far a network is outside."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Network,
  Networks,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry import spec as specs

FAR = 3.0
"""The factor by which a network leaves the range of a zoo before it counts as
far outside. Networks of the zoos of digits with another seed leave it by less
than 1.1, and so do networks of the same images at another scaling (1.3): the
weights of a network do not show how its images are scaled."""


def sizes(
  spec: SymmetrySpec, weights: Weights, activation: jax.Array | int = 0
) -> dict[str, jax.Array]:
  """{weight: root mean square in the balanced gauge} of one network.

  Invariant under the whole group of the activation: `gauge.balance` fixes
  positive multipliers, and squares know neither signs nor the order of neurons.

  Args:
    spec: the symmetry.
    weights: of one network.
    activation: index of its activation.
  """
  balanced = gauge.balance(spec, weights, activation)
  return {
    name: jnp.sqrt(jnp.square(leaf).mean())
    for name, leaf, _ in specs.leaves(spec, balanced)
  }


def measure(target: TargetNetwork, networks: Networks) -> dict[str, Any]:
  """The range of `sizes` over a zoo, as JSON values.

  Args:
    target: the architecture.
    networks: B networks.

  Returns:
    {"networks": B, "range": {weight: [least, largest]}}. The least size of
    biases is 0, where training begins.
  """

  def one(_, network: Network):
    return sizes(target.spec, network.weights, network.activation)

  values = batched.apply_batched(one)(
    None, Networks(networks.weights, networks.activation)
  )
  ends = {}
  for name, _, axes in specs.leaves(target.spec, networks.weights):
    low, high = float(values[name].min()), float(values[name].max())
    reads = any(axis.kind == "sends" for axis in axes.acting())
    low = low if reads else 0.0
    ends[name] = [float(f"{end:.3g}") for end in (low, high)]
  return {"networks": networks.size, "range": ends}


def farthest(
  measured: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[str, float] | None:
  """The weight of a network that is farthest outside the range of a zoo.

  Args:
    measured: of the zoo, see `measure`.
    found: `sizes` of the network.

  Returns:
    (name, its root mean square), or None where no weight is outside by more
    than the factor `FAR`.
  """

  def distance(name):
    low, high = measured["range"][name]
    value = float(found[name])
    if low <= value <= high:
      return 1.0
    if not 0 < value < math.inf:
      return math.inf
    outside = (value, high) if value > high else (low, value)
    return outside[0] / outside[1] if outside[1] else math.inf

  worst = max(measured["range"], key=distance)
  if distance(worst) <= FAR:
    return None
  return worst, float(found[worst])
