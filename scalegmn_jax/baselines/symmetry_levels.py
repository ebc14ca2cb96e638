"""Metanetworks with less symmetry, trained with as many operations.

Each reads weights with the input normalization that its symmetry allows:
ScaleGMN the weights as they are, a permutation-only model weights standardized
per tensor, a flat MLP weights standardized per entry.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from scalegmn_jax.base import (
  Functional,
  MetaNetwork,
  Operator,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.baselines import unconstrained
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.training.step import Objective, gradient

SYMMETRIES = ("target", "permutation", "mlp")
"""From most to least: the target's own group, permutations alone, none."""


def operator_with_symmetry(
  symmetry: str,
  model: Mapping[str, Any],
  target: TargetNetwork,
  weights: Weights,
) -> Operator:
  """An operator with that symmetry.

  Args:
    symmetry: one of `SYMMETRIES`.
    model: keyword arguments of `metanetworks.operator`; the flat MLP has eight
      times its width.
    target: the architecture.
    weights: of the training networks, leaves [B, ...].
  """
  if symmetry == "target":
    return metanetworks.operator(target, **model)
  if symmetry == "mlp":
    per = "entry"
    rival = unconstrained.flat_operator(target, width=8 * model["width"])
  else:
    per = "tensor"
    arguments = {**model, "symmetry": symmetry}
    arguments.pop("backward", None)  # has no effect there
    rival = metanetworks.operator(target, **arguments)
  return unconstrained.standardized_operator(rival, weights, per=per)


def functional_with_symmetry(
  symmetry: str,
  model: Mapping[str, Any],
  target: TargetNetwork,
  weights: Weights,
) -> Functional:
  """A functional with that symmetry.

  The arguments are those of `operator`, but `model` is for
  `metanetworks.functional`. A rival has a head for each activation of the
  target, since it would not know of it otherwise.
  """
  if symmetry == "target":
    return metanetworks.functional(target, **model)
  kinds = len(target.activations)
  outputs = kinds * model.get("outputs", 1)
  if symmetry == "mlp":
    per = "entry"
    width = 8 * model["width"]
    rival = unconstrained.flat_functional(target, width=width, outputs=outputs)
  else:
    per = "tensor"
    arguments = {**model, "symmetry": symmetry, "outputs": outputs}
    arguments.pop("backward", None)  # has no effect there
    rival = metanetworks.functional(target, **arguments)
  rival = unconstrained.standardized_functional(rival, weights, per=per)
  return unconstrained.select_head(rival, kinds)


def equal_steps(
  steps: int,
  metanetwork: MetaNetwork,
  rival: MetaNetwork,
  task: Callable[[MetaNetwork], Objective],
  data: Any,
) -> int:
  """Steps of the rival that cost what `steps` of the metanetwork do.

  Args:
    steps: of the metanetwork.
    metanetwork: the one to be equalled.
    rival: another one for the same task.
    task: what a metanetwork is trained to do.
    data: of the task.
  """

  def flops(metanetwork):
    key = jax.random.key(0)
    params = jax.eval_shape(metanetwork.init, key)
    # All networks at once: of a loop the cost analysis sees one turn. And of
    # the program as it is written, which need not be compiled.
    compute = jax.jit(gradient(task(metanetwork)))
    cost: Any = compute.lower(params, key, 0, data).cost_analysis()
    return cost["flops"]

  return max(round(steps * flops(metanetwork) / flops(rival)), 1)
