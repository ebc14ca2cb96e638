"""Metanetworks trained with the floating-point operations of another."""

from collections.abc import Callable
from typing import Any

import jax

from scalegmn_jax.base import MetaNetwork
from scalegmn_jax.training.step import Task, gradient


def equal_steps(
  steps: int,
  metanetwork: MetaNetwork,
  rival: MetaNetwork,
  task: Callable[[MetaNetwork], Task],
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
    cost: Any = compute.lower(params, key, data).cost_analysis()
    return cost["flops"]

  return max(round(steps * flops(metanetwork) / flops(rival)), 1)
