"""Metanetworks with less symmetry, trained with the same number of operations.

The input normalization is the strongest one that the symmetry allows: none for
ScaleGMN, standardization per tensor for a permutation-only model,
standardization per entry for a flat MLP.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from scalegmn_jax import devices
from scalegmn_jax.base import (
  Functional,
  MetaNetwork,
  Operator,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.baselines import flat, standardized
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.training.step import Objective, gradient

SYMMETRIES = ("target", "permutation", "mlp")
"""From most to least symmetry: all groups, only permutations, none."""

AnyMetaNetwork = TypeVar("AnyMetaNetwork", bound=MetaNetwork)


def operator_with_symmetry(
  symmetry: str,
  model: Mapping[str, Any],
  target: TargetNetwork,
  weights: Weights,
) -> Operator:
  """An operator with one of the `SYMMETRIES`.

  Args:
    symmetry: one of `SYMMETRIES`.
    model: keyword arguments of `metanetworks.operator`. For the flat MLP only
      "width" is used, times eight.
    target: the architecture.
    weights: weights of the training networks, leaves [B, ...].
  """
  if symmetry == "target":
    return metanetworks.operator(target, **model)
  if symmetry == "mlp":
    per = "entry"
    baseline = flat.flat_operator(target, width=8 * model["width"])
  else:
    per = "tensor"
    arguments = {**model, "symmetry": symmetry}
    arguments.pop("backward", None)  # has no effect without multipliers
    baseline = metanetworks.operator(target, **arguments)
  return standardized.standardized_operator(baseline, target, weights, per=per)


def functional_with_symmetry(
  symmetry: str,
  model: Mapping[str, Any],
  target: TargetNetwork,
  weights: Weights,
) -> Functional:
  """A functional with one of the `SYMMETRIES`.

  Functionals with less symmetry have one head per activation of the target,
  see `standardized.select_head`.

  Args:
    symmetry: one of `SYMMETRIES`.
    model: keyword arguments of `metanetworks.functional`. For the flat MLP only
      "width", times eight, and "outputs" are used.
    target: the architecture.
    weights: weights of the training networks, leaves [B, ...].
  """
  if symmetry == "target":
    return metanetworks.functional(target, **model)
  activations = len(target.activations)
  outputs = activations * model.get("outputs", 1)
  if symmetry == "mlp":
    per = "entry"
    width = 8 * model["width"]
    baseline = flat.flat_functional(target, width=width, outputs=outputs)
  else:
    per = "tensor"
    arguments = {**model, "symmetry": symmetry, "outputs": outputs}
    arguments.pop("backward", None)  # has no effect without multipliers
    baseline = metanetworks.functional(target, **arguments)
  baseline = standardized.standardized_functional(baseline, weights, per=per)
  return standardized.select_head(baseline, activations)


def equal_steps(
  steps: int,
  metanetwork: AnyMetaNetwork,
  baseline: AnyMetaNetwork,
  objective: Callable[[AnyMetaNetwork], Objective],
  data: Any,
  *,
  at_least: int = 1,
) -> int:
  """The number of steps of a baseline that costs as much as a metanetwork's.

  Args:
    steps: steps of the metanetwork.
    metanetwork: the reference.
    baseline: another metanetwork with the same objective.
    objective: metanetwork -> its training objective.
    data: data of the objective.
    at_least: lower bound of the result.
  """

  def flops(metanetwork):
    key = jax.random.key(0)
    params = jax.eval_shape(metanetwork.init, key)
    # All networks at once: one iteration of a loop is counted.
    compute = gradient(objective(metanetwork))
    return devices.count_flops(compute, params, key, 0, data)

  return max(round(steps * flops(metanetwork) / flops(baseline)), at_least)
