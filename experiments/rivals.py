"""Other metanetworks, trained with the operator's floating-point operations."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from scalegmn_jax.base import MetaNetwork, TargetNetwork, Zoo
from scalegmn_jax.baselines import unscaled
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.training.step import Task, gradient

LABELS = {
  "permutation": "one shot, permutation-only GMN",
  "mlp": "one shot, flat MLP",
}


def build(
  name: str,
  config: ConfigDict,
  target: TargetNetwork,
  zoo: Zoo,
  operator: MetaNetwork,
  task: Callable[[MetaNetwork], Task],
  data: Any,
) -> tuple[MetaNetwork, int]:
  """(a rival, the steps for which it costs what the operator's training does).

  Args:
    name: a key of `LABELS`.
    config: of the run.
    target: the architecture.
    zoo: the training networks.
    operator: the metanetwork that the rival is to equal in cost.
    task: what a metanetwork is trained to do.
    data: of the task.
  """
  if name == "permutation":
    arguments = config.model.to_dict() | {"symmetry": "permutation"}
    rival = metanetworks.operator(target, **arguments)
    rival = unscaled.standardized(rival, zoo.weights, per="tensor")
  else:
    rival = unscaled.flat_mlp(target, width=8 * config.model.width)
    rival = unscaled.standardized(rival, zoo.weights, per="entry")

  def flops(metanetwork):
    key = jax.random.key(0)
    params = jax.eval_shape(metanetwork.init, key)
    # All networks at once: of a loop the cost analysis sees one turn.
    compute = jax.jit(gradient(task(metanetwork)))
    cost = compute.lower(params, key, data).compile().cost_analysis()
    return cost["flops"]

  steps = config.train.steps * flops(operator) / flops(rival)
  return rival, max(round(steps), config.train.warmup + 1)
