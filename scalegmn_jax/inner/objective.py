"""Supervision of target networks: labels, or the outputs of a teacher.

Each network may have its own labelling of the classes of the image set, and its
own teacher (see `base.Network`).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special

from scalegmn_jax import batched
from scalegmn_jax.base import Network, Networks, TargetNetwork, Weights


def output_labels(network: Network, labels: jax.Array) -> jax.Array:
  """The output [N] that stands for each label [N]; -1 for absent classes."""
  return (
    labels
    if network.class_to_output is None
    else network.class_to_output[labels]
  )


def target_probs(
  apply: Callable[..., jax.Array],
  network: Network,
  images: jax.Array,
  labels: jax.Array,
  outputs: int,
) -> jax.Array:
  """Target probabilities of one network, [N, outputs].

  They are the softmax of the teacher's outputs if the network has a teacher,
  and one-hot labels otherwise. Rows of images whose class the network does not
  have are zero.

  Args:
    apply: see `TargetNetwork.apply`.
    network: the network; its weights are not used.
    images: [N, ...].
    labels: [N], classes of the image set.
    outputs: number of outputs of the network.
  """
  one_hot = jax.nn.one_hot(output_labels(network, labels), outputs)
  if network.teacher is None:
    return one_hot
  logits = apply(network.teacher, images, network.activation)
  return one_hot.sum(-1, keepdims=True) * jax.nn.softmax(logits)


def kl_divergence(logits: jax.Array, probs: jax.Array) -> jax.Array:
  """Mean KL(probs ‖ softmax(logits)) in nats; for labels, the cross-entropy.

  Args:
    logits: [N, K].
    probs: [N, K], see `target_probs`; rows of zeros are not counted.
  """
  terms = jax.scipy.special.xlogy(probs, probs)
  terms = terms - probs * jax.nn.log_softmax(logits)
  return terms.sum() / jnp.maximum(probs.sum(), 1)


def training_divergence(
  target: TargetNetwork,
  network: Network,
  images: jax.Array,
  labels: jax.Array,
  dropout: Any = None,
) -> tuple[jax.Array, Weights]:
  """(`kl_divergence`, weights) of one network in training.

  Args:
    target: the architecture.
    network: the network.
    images: [N, ...].
    labels: [N], classes of the image set.
    dropout: see `TargetNetwork.apply`.

  Returns:
    The divergence, and the weights, see `TargetNetwork.train`.
  """
  logits, moved = target.in_training(
    network.weights, images, network.activation, dropout=dropout
  )
  probs = target_probs(target.apply, network, images, labels, logits.shape[-1])
  return kl_divergence(logits, probs), moved


def accuracy(logits: jax.Array, probs: jax.Array) -> jax.Array:
  """Share of images whose most likely output is the most likely target.

  Args:
    logits: [N, K].
    probs: [N, K], see `target_probs`; rows of zeros are not counted.
  """
  counted = probs.sum(-1)
  same = logits.argmax(-1) == probs.argmax(-1)
  return jnp.where(same, counted, 0).sum() / jnp.maximum(counted.sum(), 1)


def evaluate_network(
  apply: Callable[..., jax.Array],
  network: Network,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Evaluates one network on its target probabilities.

  Args:
    apply: see `TargetNetwork.apply`.
    network: the network.
    images: [N, ...].
    labels: [N], classes of the image set.

  Returns:
    (`kl_divergence`, `accuracy`, predictions [N] int32). Predictions are -1
    for images whose class the network does not have.
  """
  logits = apply(network.weights, images, network.activation)
  probs = target_probs(apply, network, images, labels, logits.shape[-1])
  predictions = jnp.where(probs.sum(-1) > 0, logits.argmax(-1), -1)
  return (
    kl_divergence(logits, probs),
    accuracy(logits, probs),
    predictions.astype(jnp.int32),
  )


def evaluate_networks(
  apply: Callable[..., jax.Array],
  networks: Networks,
  images: jax.Array,
  labels: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`evaluate_network` of B networks, one after another, inside `jax.jit`.

  Returns:
    (divergences [B], accuracies [B], predictions [B, N]).
  """
  return batched.map_networks(
    functools.partial(evaluate_network, apply),
    networks,
    shared=(images, labels),
  )
