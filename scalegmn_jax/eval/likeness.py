"""Whether a network is like those that an operator was trained on.

The weights of a network do not say which images it is for, and an operator that
writes learned networks writes them all the same. What the network answers does:
where it is for other images, it and what is written answer the same inputs
differently.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Network,
  Networks,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)

SHARE = 0.05
"""The share of the training networks that are less like them than the limit."""


def likeness(
  target: TargetNetwork,
  before: Network,
  after: Weights,
  inputs: jax.Array,
) -> jax.Array:
  """Cosine of the logits of a network and of its edit, from -1 to 1.

  Over all inputs; the logits of each input minus their mean. Invariant: it
  compares functions.

  Args:
    target: the architecture.
    before: the network.
    after: weights of the edited network.
    inputs: [N, ...].
  """

  def logits(weights):
    z = target.apply(weights, inputs, before.activation)
    return z - z.mean(-1, keepdims=True)

  old, new = logits(before.weights), logits(after)
  # In units of their largest: squares of logits can overflow.
  old, new = (z / jnp.maximum(jnp.abs(z).max(), 1e-30) for z in (old, new))
  product = (old * new).sum()
  return product / jnp.maximum(
    jnp.linalg.norm(old) * jnp.linalg.norm(new), 1e-30
  )


def measure(
  target: TargetNetwork,
  operator: Operator,
  params: Params,
  networks: Networks,
  inputs: jax.Array,
) -> dict[str, Any]:
  """The least likeness of most training networks, as JSON values.

  Args:
    target: the architecture.
    operator: what edits them.
    params: φ.
    networks: B networks that the operator was trained on.
    inputs: that it has learned.

  Returns:
    {"networks": B, "least": l}, where the share `SHARE` is below l.
  """

  def one(shared, network: Network):
    params, inputs = shared
    edited = operator.apply(params, network.weights, network.activation)
    return likeness(target, network, edited, inputs)

  found = batched.apply_batched(one)(
    (params, inputs), Networks(networks.weights, networks.activation)
  )
  least = float(np.quantile(np.asarray(found), SHARE))
  return {"networks": networks.size, "least": float(f"{least:.3g}")}
