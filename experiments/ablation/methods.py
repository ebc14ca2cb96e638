"""Metanetworks of the ablation, from most symmetry to least."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from scalegmn_jax.base import MetaNetwork, Networks, TargetNetwork
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.symmetry import gauge

METHODS = ("target", "balanced", *symmetry_levels.SYMMETRIES[1:])
"""The values of `config.models`: "balanced" and `symmetry_levels.SYMMETRIES`.

"balanced" is the permutation-only metanetwork on balanced networks. It does not
see the gauge, and differs from "permutation" in nothing else.
"""


def applicable_methods(config: ConfigDict, target: TargetNetwork) -> list[str]:
  """Methods of the config; "balanced" only where a scale group acts."""
  has_scale = gauge.scaled_spaces(target.spec)
  return [m for m in config.models if has_scale or m != "balanced"]


def build_metanetwork(
  make: Callable[..., MetaNetwork],
  method: str,
  config: ConfigDict,
  target: TargetNetwork,
  networks: Networks,
) -> MetaNetwork:
  """The metanetwork of a method.

  Args:
    make: `functional_with_symmetry` or `operator_with_symmetry` of
      `symmetry_levels`.
    method: one of `METHODS`.
    config: of the experiment.
    target: the architecture.
    networks: training networks, for the normalization of inputs.
  """
  model = config.model.to_dict()
  if method != "balanced":
    return make(method, model, target, networks.weights)
  balanced = gauge.balance_networks(target)(networks)
  inner: Any = make("permutation", model, target, balanced.weights)

  def apply(params, weights, activation: jax.Array | int = 0):
    balanced = gauge.balance(target.spec, weights, activation)
    return inner.apply(params, balanced, activation)

  return inner._replace(apply=apply)
