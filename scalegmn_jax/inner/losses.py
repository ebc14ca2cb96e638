"""The objective of amortized fine-tuning.

L(θ') = CE(u_θ'(x), y) + λ P(θ'), with a penalty P on the edited weights
(Kuipers et al., "Symmetry-Aware Fully-Amortized Optimization with Scale
Equivariant Graph Metanetworks", 2025, arXiv:2510.08300). What y is may be each
network's own: a task, or the outputs of a teacher (see `base.Zoo`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from scalegmn_jax.base import InputError, SymmetrySpec, TargetNetwork, Weights
from scalegmn_jax.inner import fit as fits
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
    cross_entropy: mean over images, nats; invariant. Of networks with a
      teacher the divergence from its outputs.
    penalty: P(θ').
    accuracy: share of images; invariant. With a teacher, its answers are the
      right ones.
  """

  objective: jax.Array
  cross_entropy: jax.Array
  penalty: jax.Array
  accuracy: jax.Array


def finetune_losses(
  target: TargetNetwork, *, l1: float, penalty: str = "balanced"
) -> Callable[..., Losses]:
  """(network, images, labels) -> `Losses` of one network.

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

  def losses(network, images, labels):
    ce, accuracy, _ = fits.evaluate_network(
      target.apply, network, images, labels
    )
    p = PENALTIES[penalty](target.spec, network.weights, network.activation)
    return Losses(ce + l1 * p, ce, p, accuracy)

  return losses
