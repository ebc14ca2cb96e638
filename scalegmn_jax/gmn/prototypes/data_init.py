"""Where the training of an operator begins: at what the data say.

What an operator with classes learns first is what a network's outputs mean, and
which of its prototypes to write. Both are read from what the network answers to
probes. Of noise these answers say little; of images much, before anything has
been learned. See entries 18, 19 and 25 of the notebook, `experiments/NOTES.md`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans, SpectralClustering

from scalegmn_jax.base import InputError, Networks, Operator, TargetNetwork
from scalegmn_jax.gmn import modules

SHARPNESS = 10.0
"""Logits per unit of half the mean squared distance (over the probes) between
what a network is sure of and the center of a cluster."""

CONTRAST = 3.2
"""Logits of a class at an output that has all of the probability of its probes;
at one that has none, 0."""


def init_from_data(
  operator: Operator,
  target: TargetNetwork,
  zoo: Networks,
  images: np.ndarray,
  seed: int,
) -> Operator:
  """The same operator with another `init`: some of φ begins from data.

  Probes begin as images, drawn at random. Each class begins as a cluster of
  probes (spectral, by how often networks put two of them at the same output),
  so that no two begin as the same one. With several prototypes each begins as
  that of a cluster of networks (k-means of what they are sure of, see
  `modules.sureness`), so that networks of different tasks do not share one.
  Labels are not used. An operator without classes is returned as it is.

  Args:
    operator: see `metanetworks.operator`.
    target: the architecture of the networks.
    zoo: training networks [B].
    images: training images [N, ...].
    seed: of what is drawn.

  Raises:
    InputError: fewer images than probes, probes than classes, or networks than
      prototypes.
  """
  shapes = jax.eval_shape(operator.init, jax.random.key(0))
  if "classes" not in shapes.get("prototypes", {}):
    return operator
  count, classes = shapes["prototypes"]["classes"]["keys"].shape
  prototypes = shapes["prototypes"]["mixture"]["bias"].shape[0]
  networks = zoo.activation.shape[0]
  for name, needed, of, given in (
    ("probes", count, "training images", len(images)),
    ("classes", classes, "probes", count),
    ("prototypes", prototypes, "training networks", networks),
  ):
    if needed > given:
      raise InputError(
        f"model.{name} is {needed}, expected at most the number of {of}, "
        f"{given}"
      )
  random = np.random.RandomState(seed)
  probes = images[random.choice(len(images), count, replace=False)]
  sure, together = _answers(target, zoo, probes)
  begun = {"classes": {"probes": probes}}
  if prototypes > 1:
    clusters = KMeans(
      prototypes,
      n_init=10,  # pyright: ignore[reportArgumentType] (of the default, "auto")
      random_state=random,
    )
    centers = clusters.fit(sure).cluster_centers_
    # A softmax of the negative squared distances is linear in what is sure.
    scale = SHARPNESS / count
    begun["mixture"] = {
      "kernel": scale * centers.T,
      "bias": -scale / 2 * (centers**2).sum(1),
    }
  spectral = SpectralClustering(
    classes, affinity="precomputed", random_state=random
  )
  members = np.eye(classes)[spectral.fit(together).labels_]
  begun["classes"]["keys"] = CONTRAST * members / members.sum(0).clip(1)

  def init(key):
    params = operator.init(key)
    head = params["prototypes"]
    dtype = head["classes"]["probes"].dtype
    for part, values in begun.items():
      new = {name: jnp.asarray(value, dtype) for name, value in values.items()}
      head = head | {part: head[part] | new}
    return params | {"prototypes": head}

  return operator._replace(init=init)


def _answers(
  target: TargetNetwork, zoo: Networks, probes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(what each network is sure of [B, P], the mean over networks of the
  probability of two probes to be at the same output [P, P])."""
  dtype = jax.tree.leaves(zoo.weights)[0].dtype

  def add(together, network):
    answers = jax.nn.softmax(
      target.apply(network.weights, probes, network.activation)
    )
    # Where outputs overflow a network is as sure of all probes, which is zero.
    answers = jnp.nan_to_num(answers)
    return together + answers @ answers.T, modules.confidence(answers)

  zero = jnp.zeros((len(probes), len(probes)), dtype)
  together, sure = jax.device_get(
    jax.jit(lambda zoo: jax.lax.scan(add, zero, zoo))(zoo)
  )
  return sure, together / len(sure)
