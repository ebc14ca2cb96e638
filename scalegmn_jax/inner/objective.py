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
from scalegmn_jax.symmetry.spec import keep_statistics


def output_labels(network: Network, labels: jax.Array) -> jax.Array:
  """The output [N] that stands for each label [N]; -1 for absent classes."""
  return (
    labels
    if network.class_to_output is None
    else network.class_to_output[labels]
  )


_BLOCK = 256
"""Images that `outputs_on_own` computes on at a time."""


def outputs_on_own(
  apply: Callable[..., jax.Array],
  network: Network,
  images: jax.Array,
  labels: jax.Array,
) -> jax.Array:
  """Outputs of one network on the images whose class it has, [N, outputs].

  Rows of other images are any finite numbers. With classes of several image
  sets, blocks of images without a class of the network are not computed, unless
  networks are mapped side by side.

  Args:
    apply: see `TargetNetwork.apply`.
    network: the network.
    images: [N, ...].
    labels: [N], classes of the image set.
  """
  count = images.shape[0]

  def compute(x):
    return apply(network.weights, x, network.activation)

  classes = network.class_to_output
  if classes is None or count <= _BLOCK:
    return compute(images)
  outputs = jax.eval_shape(compute, images)
  if classes.size <= outputs.shape[-1]:  # of one image set
    return compute(images)
  own = output_labels(network, labels) >= 0

  def fill(i, found):
    start = jnp.minimum(i * _BLOCK, count - _BLOCK)
    x, counted = (
      jax.lax.dynamic_slice_in_dim(a, start, _BLOCK) for a in (images, own)
    )
    block = jax.lax.cond(
      counted.any(),
      lambda: compute(x),
      lambda: jnp.zeros((_BLOCK, *outputs.shape[1:]), outputs.dtype),
    )
    return jax.lax.dynamic_update_slice_in_dim(found, block, start, 0)

  zeros = jnp.zeros(outputs.shape, outputs.dtype)
  return jax.lax.fori_loop(0, -(-count // _BLOCK), fill, zeros)


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
  teacher = network._replace(weights=network.teacher)
  logits = outputs_on_own(apply, teacher, images, labels)
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

  Running statistics have no gradient, also where `train` does not move them.

  Args:
    target: the architecture.
    network: the network.
    images: [N, ...].
    labels: [N], classes of the image set.
    dropout: see `TargetNetwork.apply`.

  Returns:
    The divergence, and the weights, see `TargetNetwork.train`.
  """
  weights = keep_statistics(
    target.spec, jax.lax.stop_gradient(network.weights), network.weights
  )
  logits, moved = target.in_training(
    weights, images, network.activation, dropout=dropout
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
  logits = outputs_on_own(apply, network, images, labels)
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
