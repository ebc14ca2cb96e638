"""The inner trainer: many networks at once, each with its own settings.

Zoo generation and the iterative baselines are both made of it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax.base import Networks, Weights
from scalegmn_jax.inner import objective

Hyper = Any
"""A pytree of settings; leaves have a leading axis over networks [B]."""


class FitState(NamedTuple):
  """Networks in training, stacked: every leaf is [B, ...]."""

  weights: Weights
  optimizer: optax.OptState


class Fit(NamedTuple):
  """Attributes:
  init: (weights [B, ...], hyper) -> FitState.
  epoch: (state, hyper, networks, keys [B], images [N, ...], labels [N]) ->
    FitState after one pass over the images in an order that the keys decide.
    `networks` is a `Zoo` that says what each of them is; its weights do not
    matter. Images and labels are those of all networks. Of tasks that do not
    have all of the images the largest says how many steps an epoch has.
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
    loss: (network, images, labels, hyper, key) -> scalar, for one network.
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

  def epoch(state, hyper, networks, keys, images, labels):
    count = images.shape[0]
    if networks.class_to_output is not None:
      classes = np.asarray(networks.class_to_output)
      images_of = np.bincount(np.asarray(labels), minlength=classes.shape[1])
      count = int(((classes >= 0) @ images_of).max())
    networks = networks._replace(weights=None)
    return passed(state, hyper, networks, keys, images, labels, count)

  @functools.partial(jax.jit, static_argnums=6)
  def passed(state, hyper, networks, keys, images, labels, n):
    steps = max(n // batch_size, 1)

    def one(given):
      state, hyper, network, key = given
      k_order, k_loss = jax.random.split(key)
      batches = None
      # The order within a batch of all images is of no account.
      if (
        batch_size < n
        or fraction is not None
        or network.class_to_output is not None
      ):
        order = jax.random.permutation(k_order, n)[: steps * batch_size]
        share = 1.0 if fraction is None else fraction(hyper)
        if network.class_to_output is not None:
          # Those of its task first.
          inside = objective.output_labels(network, labels) >= 0
          own = jnp.argsort(~inside, stable=True)
          seen = jnp.floor(share * inside.sum()).astype(int)
          order = own[order % jnp.maximum(seen, 1)]
        elif fraction is not None:
          seen = jnp.floor(share * n).astype(int)
          order = order % jnp.maximum(seen, 1)
        batches = order.reshape(steps, -1)

      def step(state, inputs):
        rows, i = inputs
        gradient = jax.grad(
          lambda weights: loss(
            network._replace(weights=weights),
            images if rows is None else images[rows],
            labels if rows is None else labels[rows],
            hyper,
            jax.random.fold_in(k_loss, i),
          )
        )(state.weights)
        updates, inner = optimizer(hyper).update(
          gradient, state.optimizer, state.weights
        )
        new = FitState(optax.apply_updates(state.weights, updates), inner)
        finite = jnp.isfinite(optax.tree.norm(new.weights))
        return jax.tree.map(
          lambda a, b: jnp.where(finite, a, b), new, state
        ), None

      return jax.lax.scan(step, state, (batches, jnp.arange(steps)))[0]

    given = (state, hyper, networks, keys)
    if chunk is None:
      return jax.vmap(one)(given)
    # One network has no axis to be mapped over.
    return jax.lax.map(one, given, batch_size=chunk if chunk > 1 else None)

  return Fit(init, epoch)


def evaluate_networks(
  apply: Callable[..., jax.Array],
  zoo: Networks,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(cross-entropy [B], accuracy [B], predictions [B, N]) of networks.

  Of what each is to answer, see `answers`; what it predicts for images that
  are not in its task is -1. One network after another, so that memory does
  not grow with B.
  """
  return jax.lax.map(
    lambda network: evaluate_network(apply, network, images, labels), zoo
  )


def evaluate_network(
  apply: Callable[..., jax.Array],
  network: Networks,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`measure` of one network, whose leaves have no axis [B]."""
  logits = apply(network.weights, images, network.activation)
  wanted = objective.target_probs(
    apply, network, images, labels, logits.shape[-1]
  )
  predictions = jnp.where(wanted.sum(-1) > 0, logits.argmax(-1), -1)
  return (
    objective.kl_divergence(logits, wanted),
    objective.accuracy(logits, wanted),
    predictions.astype(jnp.int32),
  )
