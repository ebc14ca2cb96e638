"""The objective of amortized fine-tuning.

L(θ') = CE(u_θ'(x), y) + λ P(θ'), with a penalty P on the edited weights
(Kuipers et al., "Symmetry-Aware Fully-Amortized Optimization with Scale
Equivariant Graph Metanetworks", 2025, arXiv:2510.08300).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from scalegmn_jax.base import InputError, SymmetrySpec, TargetNetwork, Weights
from scalegmn_jax.symmetry import gauge

Penalty = Callable[[SymmetrySpec, Weights, jax.Array | int], jax.Array]

PENALTIES: dict[str, Penalty] = {
  # min over the gauge of the L1 norm: invariant under the whole group.
  "balanced": gauge.balanced_l1,
  # The L1 norm in the gauge in which the network is stored, as in the papers:
  # not invariant under positive scaling.
  "plain": lambda spec, weights, activation: gauge.l1(weights),
}


class Losses(NamedTuple):
  """Terms of the objective, scalars.

  Attributes:
    objective: cross-entropy + λ·penalty; invariant with the balanced penalty.
    cross_entropy: mean over images, nats; invariant.
    penalty: P(θ').
    accuracy: share of images; invariant.
  """

  objective: jax.Array
  cross_entropy: jax.Array
  penalty: jax.Array
  accuracy: jax.Array


def task_losses(
  target: TargetNetwork, *, l1: float, penalty: str = "balanced"
) -> Callable[..., Losses]:
  """(weights, activation, images, labels) -> `Losses` of one network.

  Args:
    target: the architecture.
    l1: λ.
    penalty: a key of `PENALTIES`.

  Raises:
    InputError: no such penalty, or λ < 0.
  """
  if penalty not in PENALTIES:
    raise InputError(
      f"loss.penalty is {penalty!r}, expected one of {', '.join(PENALTIES)}"
    )
  if not l1 >= 0:
    raise InputError(f"loss.l1 is {l1}, expected a number >= 0")

  def losses(weights, activation, images, labels):
    logits = target.apply(weights, images, activation)
    ce = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    p = PENALTIES[penalty](target.spec, weights, activation)
    accuracy = (logits.argmax(-1) == labels).mean()
    return Losses(ce + l1 * p, ce, p, accuracy)

  return losses
