"""Selection between two versions of a network on images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import Network, Networks
from scalegmn_jax.inner.losses import Losses

SLACK = 0.1
"""How much less than its confidence a network may agree with its edit."""

BetterFn = Callable[[Network, Network, jax.Array, jax.Array | None], jax.Array]
"""(before, after, images [N, ...], labels [N] or None) -> bool, for one
network: whether to take `after`."""


def lower_objective(
  losses: Callable[[Network, jax.Array, jax.Array], Losses],
) -> BetterFn:
  """Whether the objective on labelled images falls.

  Args:
    losses: see `inner.losses.finetune_losses`.
  """

  def better(before, after, images, labels):
    old, new = (losses(n, images, labels).objective for n in (before, after))
    return new < old  # False for NaN

  return better


def consistent_predictions(apply: Callable[..., jax.Array]) -> BetterFn:
  """Whether an edit contradicts a network no more than the network's doubts.

  Without labels the network before the edit is the only witness. If it is
  calibrated, the share of images on which it is right is its confidence, the
  mean of its largest probability. An edit that is right on nearly all images
  then agrees with it on as many. An edit with less agreement, by more than
  `SLACK`, is taken for damage. A network that is more confident than it is
  accurate is therefore kept more often than it should be.

  Args:
    apply: see `base.TargetNetwork.apply`.
  """

  def better(before, after, images, labels):
    del labels
    old, new = (apply(n.weights, images, n.activation) for n in (before, after))
    confidence = jax.nn.softmax(old).max(-1).mean()
    agreement = (old.argmax(-1) == new.argmax(-1)).mean(dtype=old.dtype)
    return jnp.isfinite(new).all() & (agreement >= confidence - SLACK)

  return better


def choose(better: BetterFn) -> Callable[..., Network]:
  """(before, after, images, labels) -> one of two versions of a network."""

  def choose_one(before, after, images, labels):
    taken = better(before, after, images, labels)
    weights = jax.tree.map(
      lambda old, new: jnp.where(taken, new, old), before.weights, after.weights
    )
    return before._replace(weights=weights)

  return choose_one


def keep_better(
  losses: Callable[[Network, jax.Array, jax.Array], Losses],
) -> Callable[[Networks, Networks, jax.Array, jax.Array], Networks]:
  """Makes a function that keeps the better of two versions of each network.

  It takes two forward passes over the images and no gradient. If the objective
  is invariant, the choice is too, and an equivariant edit stays equivariant.

  Args:
    losses: see `inner.losses.finetune_losses`.

  Returns:
    (before, after, images, labels) -> networks: for each network, the version
    with the lower objective on the images; `before` if the objective of `after`
    is not finite.
  """
  choose_one = choose(lower_objective(losses))

  apply = batched.apply_batched(
    lambda data, versions: choose_one(*versions, *data).weights, in_turn=True
  )

  def choose_all(before, after, images, labels):
    weights = apply((images, labels), (before, after))
    return before._replace(weights=weights)

  return choose_all
