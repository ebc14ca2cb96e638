"""Keeping what was better already."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Networks
from scalegmn_jax.inner.losses import Losses


def keep_better(
  losses: Callable[..., Losses],
) -> Callable[[Networks, Networks, jax.Array, jax.Array], Networks]:
  """(before, after, images, labels) -> of each network the better version.

  That of the lesser objective on the images, and the one before where the one
  after has none that is finite. It takes two forward passes over the images and
  no gradient. With an objective that is invariant the choice is, too, so that
  an equivariant `after` stays one.

  Args:
    losses: see `training.losses.task_losses`.
  """

  @jax.jit
  def choose(before, after, images, labels):
    def one(pair):
      old, new = (losses(n, images, labels).objective for n in pair)
      return new < old

    improved = jax.lax.map(one, (before, after))

    def pick(new, old):
      return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    weights = jax.tree.map(pick, after.weights, before.weights)
    return before._replace(weights=weights)

  return choose
