"""Initial parameters of an operator from data.

An operator with classes first learns what the outputs of a network mean, and
which of its prototypes to write. It reads both from the outputs of the network
on probes. On noise these outputs say little; on images they say much before
anything has been learned. See entries 18, 19 and 25 of the notebook,
`experiments/NOTES.md`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import InputError, Networks, Operator, TargetNetwork
from scalegmn_jax.gmn import probes as probing
from scalegmn_jax.gmn.features import featurize
from scalegmn_jax.gmn.inputs import computed
from scalegmn_jax.gmn.modules import begin_with
from scalegmn_jax.gmn.prototypes import slots, writer
from scalegmn_jax.gmn.prototypes.label_reader import confidence
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import spec as specs

SHARPNESS = 10.0
"""Logits per unit of half the mean squared distance (over the probes) between
the confidence of a network and the center of a cluster."""

CONTRAST = 3.2
"""Logits of a class at an output that has all of the probability of its probes;
at an output that has none of it, 0."""


def init_from_data(
  operator: Operator, networks: Networks, images: np.ndarray, seed: int
) -> Operator:
  """The same operator with another `init`: part of φ is computed from data.

  With classes, probes begin as images, drawn at random. Each class begins as a
  cluster of probes (spectral, by how often networks put two of them at the same
  output), so that no two classes begin alike. If there are several prototypes,
  each begins as a cluster of networks (k-means of their
  `label_reader.confidence`), so that networks with different labels do not
  share one. No labels are used.

  With a basis, its probes begin as in `probes.init_from_inputs`. Without
  classes, each prototype begins as a training network, drawn at random.

  Args:
    operator: from `metanetworks.operator`. Without prototypes, or without
      classes and basis, it is returned unchanged.
    networks: training networks [B].
    images: training images [N, ...], or other inputs of the networks.
    seed: of the random draws.

  Raises:
    InputError: an operator that another function made; fewer images than
      probes, probes than classes, or networks than prototypes.
  """
  target, model = operator.target, operator.model
  if target is None or model is None:
    raise InputError("operator: expected one of metanetworks.operator")
  prototypes, classes, probes = (
    model[name] for name in ("prototypes", "classes", "probes")
  )
  initial = {}
  if prototypes and model.get("basis"):
    initial[probing.NAME] = probing.generator_from(images, seed, probes)
    if not classes:
      initial |= _as_networks(target, networks, seed, prototypes)
      return begin_with(operator, {"prototypes": initial})
  if not (prototypes and classes):
    return operator
  for name, count, of, available in (
    ("probes", probes, "training images", len(images)),
    ("classes", classes, "probes", probes),
    ("prototypes", prototypes, "training networks", networks.size),
  ):
    if count > available:
      raise InputError(
        f"{name} is {count}, expected at most the number of {of}, {available}"
      )
  random = np.random.RandomState(seed)
  inputs = images[random.choice(len(images), probes, replace=False)]
  confidences, same_output = _outputs(target, networks, inputs)
  if prototypes > 1:
    initial["mixture"] = _nearest_center(confidences, prototypes, random)
  keys = _class_keys(same_output, classes, random)
  initial["classes"] = {"probes": inputs, "keys": keys}
  return begin_with(operator, {"prototypes": initial})


def _as_networks(
  target: TargetNetwork, networks: Networks, seed: int, count: int
) -> dict[str, np.ndarray]:
  """Prototypes that are training networks: {parameter: its value}."""
  topology = topology_of(target)
  connectivity = NetworkConnectivity(topology)

  @jax.jit
  def between_slots(network):
    weights = computed(network.weights)
    features = featurize(connectivity, weights, network.activation)
    fixed = writer.fix_gauge(topology, features, weights)
    signs = writer.find_signs(topology, features, fixed.weights)
    assigned = slots.assign_slots(target.spec, fixed.weights)
    return fixed.between_slots(topology, signs, assigned)

  random = np.random.RandomState(seed)
  activation = np.asarray(networks.activation)
  chosen = {}
  for number in range(len(target.activations)):
    rows = np.flatnonzero(activation == number)
    if len(rows) < count:
      raise InputError(
        f"prototypes is {count}, expected at most the number of training "
        f"networks with {target.activations[number]}, {len(rows)}"
      )
    rows = random.choice(rows, count, replace=False)
    read = [between_slots(networks.take(int(row))) for row in rows]
    chosen[number] = jax.tree.map(lambda *leaves: np.stack(leaves), *read)
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen.values())
  leaves = specs.leaves(target.spec, stacked)
  # Running statistics are not learned.
  return {
    f"prototypes_{i}": leaf
    for i, (_, leaf, axes) in enumerate(leaves)
    if not axes.statistic
  }


def _nearest_center(
  confidences: np.ndarray, prototypes: int, random: np.random.RandomState
) -> dict[str, np.ndarray]:
  """A linear map [B, P] -> logits of the cluster that each network is in."""
  from sklearn.cluster import KMeans

  clusters = KMeans(
    prototypes,
    n_init=10,  # pyright: ignore[reportArgumentType] (of the default, "auto")
    random_state=random,
  )
  centers = clusters.fit(confidences).cluster_centers_
  # A softmax of negative squared distances is linear in the confidence.
  scale = SHARPNESS / confidences.shape[1]
  return {
    "kernel": scale * centers.T,
    "bias": -scale / 2 * (centers**2).sum(1),
  }


def _class_keys(
  same_output: np.ndarray, classes: int, random: np.random.RandomState
) -> np.ndarray:
  """Keys [P, C] that assign every probe to one class."""
  from sklearn.cluster import SpectralClustering

  spectral = SpectralClustering(
    classes, affinity="precomputed", random_state=random
  )
  members = np.eye(classes)[spectral.fit(same_output).labels_]
  return CONTRAST * members / members.sum(0).clip(1)


def _outputs(
  target: TargetNetwork, networks: Networks, inputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(confidence of each network [B, P], mean over networks of the probability
  that two inputs are at the same output [P, P])."""
  dtype = jax.tree.leaves(networks.weights)[0].dtype

  def add(same_output, network):
    probs = jax.nn.softmax(
      target.apply(network.weights, inputs, network.activation)
    )
    # A network whose outputs overflow has the same confidence on all probes,
    # which is zero.
    probs = jnp.nan_to_num(probs)
    return same_output + probs @ probs.T, confidence(probs)

  zero = jnp.zeros((len(inputs), len(inputs)), dtype)
  same_output, confidences = jax.device_get(
    jax.jit(lambda networks: jax.lax.scan(add, zero, networks))(networks)
  )
  return confidences, same_output / len(confidences)
