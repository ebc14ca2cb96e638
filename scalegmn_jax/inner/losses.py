"""The objective of fine-tuning: supervision plus an L1 penalty.

L(θ) = CE(u_θ(x), y) + λ P(θ), with a penalty P on the weights (Kuipers et al.,
"Symmetry-Aware Fully-Amortized Optimization with Scale Equivariant Graph
Metanetworks", 2025, arXiv:2510.08300). The targets y are labels or the outputs
of a teacher, see `inner.objective`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from scalegmn_jax.base import (
  InputError,
  Network,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.symmetry import gauge

Penalty = Callable[[SymmetrySpec, Weights, jax.Array | int], jax.Array]
"""(spec, weights of one network, activation) -> scalar."""

PENALTIES: dict[str, Penalty] = {
  # The minimum of the L1 norm over the gauge: invariant under the whole group.
  "balanced": gauge.balanced_l1,
  # The L1 norm of the weights as stored, the penalty of the papers: not
  # invariant under positive scaling.
  "plain": lambda spec, weights, activation: gauge.l1(spec, weights),
}


class Losses(NamedTuple):
  """Terms of the objective of one network, scalars.

  Attributes:
    objective: cross-entropy + λ·penalty; invariant with the balanced penalty.
    cross_entropy: mean over images in nats; the KL divergence from the outputs
      of the teacher if there is one. Invariant.
    penalty: P(θ).
    accuracy: share of images predicted as the label or as the teacher predicts.
      Invariant.
  """

  objective: jax.Array
  cross_entropy: jax.Array
  penalty: jax.Array
  accuracy: jax.Array


def finetune_losses(
  target: TargetNetwork, *, l1: float, penalty: str = "balanced"
) -> Callable[[Network, jax.Array, jax.Array], Losses]:
  """Makes the fine-tuning objective of one network.

  Args:
    target: the architecture.
    l1: λ.
    penalty: a key of `PENALTIES`.

  Returns:
    (network, images [N, ...], labels [N]) -> `Losses`.

  Raises:
    InputError: unknown penalty, or λ < 0.
  """
  if penalty not in PENALTIES:
    raise InputError(
      f"penalty is {penalty!r}, expected one of {', '.join(PENALTIES)}"
    )
  if not l1 >= 0:
    raise InputError(f"l1 is {l1}, expected a number >= 0")

  def losses(network, images, labels):
    ce, accuracy, _ = evaluate_network(target.apply, network, images, labels)
    p = PENALTIES[penalty](target.spec, network.weights, network.activation)
    return Losses(ce + l1 * p, ce, p, accuracy)

  return losses
