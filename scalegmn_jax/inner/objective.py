"""What a network is to answer: the labels of its task, or what another says."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.special

from scalegmn_jax.base import Networks


def output_labels(network: Networks, labels: jax.Array) -> jax.Array:
  """The outputs [N] at which labels [N] are in the task of one network."""
  return (
    labels
    if network.class_to_output is None
    else network.class_to_output[labels]
  )


def target_probs(
  apply: Callable[..., jax.Array],
  network: Networks,
  images: jax.Array,
  labels: jax.Array,
  outputs: int,
) -> jax.Array:
  """What one network is to answer: probabilities [N, outputs].

  The label, or what the teacher says where there is one. Rows of images that
  are not in the network's task are zero.

  Args:
    apply: of the target.
    network: whose weights do not matter.
    images: [N, ...].
    labels: [N], classes of the image set.
    outputs: of the network.
  """
  own = jax.nn.one_hot(output_labels(network, labels), outputs)
  if network.teacher is None:
    return own
  logits = apply(network.teacher, images, network.activation)
  return own.sum(-1, keepdims=True) * jax.nn.softmax(logits)


def kl_divergence(logits: jax.Array, wanted: jax.Array) -> jax.Array:
  """Mean KL(wanted ‖ softmax(logits)) in nats; of labels, the cross-entropy.

  Args:
    logits: [N, K].
    wanted: [N, K], see `wanted`. Rows of zeros do not count.
  """
  terms = jax.scipy.special.xlogy(wanted, wanted)
  terms = terms - wanted * jax.nn.log_softmax(logits)
  return terms.sum() / jnp.maximum(wanted.sum(), 1)


def accuracy(logits: jax.Array, wanted: jax.Array) -> jax.Array:
  """Share of the images of the task on which the likeliest answer is as wanted.

  The arguments are those of `divergence`.
  """
  inside = wanted.sum(-1)
  same = logits.argmax(-1) == wanted.argmax(-1)
  return (same * inside).sum() / jnp.maximum(inside.sum(), 1)
