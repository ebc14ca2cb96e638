"""Where the training of an operator begins: at what the data say.

What an operator with classes learns first is what a network's outputs mean, and
which of its prototypes to write. Both are read from what the network answers to
probes. Of noise these answers say little; of images much, before anything has
been learned. See entries 18 and 19 of the notebook, `experiments/NOTES.md`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from scalegmn_jax.base import InputError, MetaNetwork, TargetNetwork, Zoo
from scalegmn_jax.gmn import modules

SHARPNESS = 10.0
"""Logits per unit of half the mean squared distance (over the probes) between
what a network is sure of and the center of a cluster."""


def from_data(
  operator: MetaNetwork,
  target: TargetNetwork,
  zoo: Zoo,
  images: np.ndarray,
  seed: int,
) -> MetaNetwork:
  """The same operator with another `init`: some of φ begins from data.

  Probes begin as images, drawn at random. With several prototypes each begins
  as that of a cluster of networks (k-means of what they are sure of, see
  `modules.sureness`), so that networks of different tasks do not share one.
  Labels are not used. An operator without classes is returned as it is.

  Args:
    operator: see `metanetworks.operator`.
    target: the architecture of the networks.
    zoo: training networks [B].
    images: training images [N, ...].
    seed: of what is drawn.

  Raises:
    InputError: fewer images than probes, or networks than prototypes.
  """
  shapes = jax.eval_shape(operator.init, jax.random.key(0))
  if "classes" not in shapes.get("prototypes", {}):
    return operator
  count = shapes["prototypes"]["classes"]["probes"].shape[0]
  prototypes = shapes["prototypes"]["mixture"]["bias"].shape[0]
  networks = zoo.activation.shape[0]
  for name, needed, of, given in (
    ("probes", count, "training images", len(images)),
    ("prototypes", prototypes, "training networks", networks),
  ):
    if needed > given:
      raise InputError(
        f"model.{name} is {needed}, expected at most the number of {of}, "
        f"{given}"
      )
  random = np.random.RandomState(seed)
  probes = images[random.choice(len(images), count, replace=False)]
  mixture = None
  if prototypes > 1:
    sure = jax.jit(
      lambda zoo: jax.lax.map(
        lambda n: modules.sureness(
          jax.nn.softmax(target.apply(n.weights, probes, n.activation))
        ),
        zoo,
      )
    )(zoo)
    clusters = KMeans(
      prototypes,
      n_init=10,  # pyright: ignore[reportArgumentType] (of the default, "auto")
      random_state=random,
    )
    # Where outputs overflow a network is as sure of all probes, which is zero.
    centers = clusters.fit(np.nan_to_num(sure)).cluster_centers_
    # A softmax of the negative squared distances is linear in what is sure.
    scale = SHARPNESS / count
    mixture = {
      "kernel": scale * centers.T,
      "bias": -scale / 2 * (centers**2).sum(1),
    }

  def init(key):
    params = operator.init(key)
    head = dict(params["prototypes"])
    dtype = head["classes"]["probes"].dtype
    head["classes"] = head["classes"] | {"probes": jnp.asarray(probes, dtype)}
    if mixture is not None:
      head["mixture"] = jax.tree.map(lambda a: jnp.asarray(a, dtype), mixture)
    return params | {"prototypes": head}

  return operator._replace(init=init)
