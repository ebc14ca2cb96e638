"""The inner trainer: many networks at once, each with its own settings.

Zoo generation and the iterative baselines are both made of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import Weights, Zoo

Hyper = Any
"""A pytree of settings; leaves have a leading axis over networks [B]."""


class FitState(NamedTuple):
  """Networks in training, stacked: every leaf is [B, ...]."""

  weights: Weights
  optimizer: optax.OptState


class Fit(NamedTuple):
  """Attributes:
  init: (weights [B, ...], hyper) -> FitState.
  epoch: (state, hyper, activation [B], keys [B], images [N, ...],
    labels [N]) -> FitState after one pass over the images in an order that
    the keys decide. Jitted.
  """

  init: Callable[..., FitState]
  epoch: Callable[..., FitState]


def fit(
  loss: Callable[..., jax.Array],
  optimizer: Callable[[Hyper], optax.GradientTransformation],
  *,
  batch_size: int,
  fraction: Callable[[Hyper], jax.Array] = lambda hyper: jnp.ones(()),
) -> Fit:
  """A trainer of a population of networks.

  An update that is not finite leaves that network as it was, so that a run
  that diverged stays at its last finite weights.

  Args:
    loss: (weights, activation, images, labels, hyper, key) -> scalar, for one
      network.
    optimizer: the settings of one network -> its optimizer. Per-network
      settings may be traced; their effect must not change shapes.
    batch_size: images per step; the last images of an order that do not fill a
      batch are left out of that epoch.
    fraction: the settings of one network -> share of the images it sees, the
      first ones. An epoch has the same number of steps for all.
  """

  def init(weights, hyper):
    def one(w, h):
      return FitState(w, optimizer(h).init(w))

    return jax.vmap(one)(weights, hyper)

  @jax.jit
  def epoch(state, hyper, activation, keys, images, labels):
    n = images.shape[0]
    steps = max(n // batch_size, 1)

    def one(state, hyper, activation, key):
      k_order, k_loss = jax.random.split(key)
      seen = jnp.maximum(jnp.floor(fraction(hyper) * n).astype(int), 1)
      order = jax.random.permutation(k_order, n)[: steps * batch_size] % seen

      def step(state, inputs):
        rows, i = inputs
        gradient = jax.grad(loss)(
          state.weights,
          activation,
          images[rows],
          labels[rows],
          hyper,
          jax.random.fold_in(k_loss, i),
        )
        updates, inner = optimizer(hyper).update(
          gradient, state.optimizer, state.weights
        )
        new = FitState(optax.apply_updates(state.weights, updates), inner)
        finite = jnp.isfinite(optax.tree.norm(new.weights))
        return jax.tree.map(
          lambda a, b: jnp.where(finite, a, b), new, state
        ), None

      batches = order.reshape(steps, -1)
      return jax.lax.scan(step, state, (batches, jnp.arange(steps)))[0]

    return jax.vmap(one)(state, hyper, activation, keys)

  return Fit(init, epoch)


def measure(
  apply: Callable[..., jax.Array],
  zoo: Zoo,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(cross-entropy [B], accuracy [B], predictions [B, N]) of networks.

  One network after another, so that memory does not grow with B.
  """
  return jax.lax.map(
    lambda network: measure_one(apply, network, images, labels), zoo
  )


def measure_one(
  apply: Callable[..., jax.Array],
  network: Zoo,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`measure` of one network, whose leaves have no axis [B]."""
  logits = apply(network.weights, images, network.activation)
  predictions = logits.argmax(-1).astype(jnp.int32)
  return (
    optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(),
    (predictions == labels).mean(),
    predictions,
  )
