"""Selection between two versions of each network on validation images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import Network, Networks
from scalegmn_jax.inner.losses import Losses


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

  @jax.jit
  def choose(before, after, images, labels):
    def is_better(old, new):
      old, new = (losses(n, images, labels).objective for n in (old, new))
      return new < old

    improved = batched.map_networks(is_better, before, after)

    def pick(new, old):
      return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    weights = jax.tree.map(pick, after.weights, before.weights)
    return before._replace(weights=weights)

  return choose
