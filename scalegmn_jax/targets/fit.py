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
    the keys decide. Jitted. Images and labels are those of all networks; what
    is a network's own is one of its settings.
  """

  init: Callable[..., FitState]
  epoch: Callable[..., FitState]


def fit(
  loss: Callable[..., jax.Array],
  optimizer: Callable[[Hyper], optax.GradientTransformation],
  *,
  batch_size: int,
  fraction: Callable[[Hyper], jax.Array] | None = None,
  chunk: int | None = None,
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
      first ones; None for all. An epoch has the same number of steps for all.
    chunk: networks trained side by side, None for all. On a CPU one at a time
      is twice as fast where a step has many images: its features stay in the
      cache.
  """

  def init(weights, hyper):
    def one(w, h):
      return FitState(w, optimizer(h).init(w))

    return jax.vmap(one)(weights, hyper)

  @jax.jit
  def epoch(state, hyper, activation, keys, images, labels):
    n = images.shape[0]
    steps = max(n // batch_size, 1)

    def one(network):
      state, hyper, activation, key = network
      k_order, k_loss = jax.random.split(key)
      batches = None
      # The order within a batch of all images is of no account.
      if batch_size < n or fraction is not None:
        order = jax.random.permutation(k_order, n)[: steps * batch_size]
        if fraction is not None:
          seen = jnp.floor(fraction(hyper) * n).astype(int)
          order = order % jnp.maximum(seen, 1)
        batches = order.reshape(steps, -1)

      def step(state, inputs):
        rows, i = inputs
        gradient = jax.grad(loss)(
          state.weights,
          activation,
          images if rows is None else images[rows],
          labels if rows is None else labels[rows],
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

      return jax.lax.scan(step, state, (batches, jnp.arange(steps)))[0]

    networks = (state, hyper, activation, keys)
    if chunk is None:
      return jax.vmap(one)(networks)
    # One network has no axis to be mapped over.
    return jax.lax.map(one, networks, batch_size=chunk if chunk > 1 else None)

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
