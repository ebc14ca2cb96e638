"""Importance scores of weights, by which pruning selects, see
`symmetry.kernels`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Network, TargetNetwork, Weights
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.sizes import vertex_sizes
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.symmetry import kernels

Score = Callable[[Network, jax.Array, jax.Array], Weights]
"""(network, images, labels) -> the importance of each weight, at least 0."""


def magnitude(target: TargetNetwork, *, power: int = 2) -> Score:
  """|w|^p in the gauge that minimizes Σ|w|^p, see `kernels.balanced_powers`.

  The gauge decides how the kept weights are distributed over the layers. For
  p = 1, each neuron's incoming and outgoing weights have the same sum of |w|;
  the weights of a layer with many weights are then small, and all of them may
  be pruned (16-16 CNNs on digits, 90 % pruned: 0.7 % of the 2,304 weights of
  the middle layer are left, 3.5 % with p = 2). Training drives networks towards
  p = 2: gradient flow conserves the difference of the sums of squares, and
  weight decay removes it.

  Args:
    target: the architecture.
    power: p.
  """

  def score(network, images, labels):
    del images, labels
    return kernels.balanced_powers(
      target.spec, network.weights, network.activation, power=power
    )

  return score


def magnitude_of_unit_norm(target: TargetNetwork) -> Score:
  """|w| in the gauge in which the incoming weights of each neuron have norm 1.

  Invariant, see `graph.sizes.vertex_sizes`.
  """
  topology = topology_of(target)

  def score(network, images, labels):
    del images, labels
    sizes = vertex_sizes(topology, network.weights)
    stages = {name: sizes[rows] for name, rows in topology.stages.items()}
    inverse = {name: 1 / size for name, size in stages.items()}
    scaled = convert.scale(topology, network.weights, inverse, stages)
    return jax.tree.map(jnp.abs, scaled)

  return score


def magnitude_as_stored(
  network: Network, images: jax.Array, labels: jax.Array
) -> Weights:
  """|w| of the stored weights.

  Not invariant: multipliers can make any nonzero weight the largest.
  """
  del images, labels
  return jax.tree.map(jnp.abs, network.weights)


def snip(target: TargetNetwork, *, images: int) -> Score:
  """|w ∂L/∂w| of the cross-entropy on the first `images` training images.

  Invariant under positive scaling: w → q w gives ∂L/∂w → ∂L/∂w / q.

  Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection
  Sensitivity", ICLR 2019, arXiv:1810.02340, eq. 3 and 6 without the
  normalization, which does not change the order. The paper scores networks at
  initialization; here the networks are trained.

  Args:
    target: the architecture.
    images: number of images.
  """

  def score(network, x, y):
    x, y = x[:images], y[:images]

    def loss(weights):
      return evaluate_network(
        target.apply, network._replace(weights=weights), x, y
      )[0]

    gradient = jax.grad(loss)(network.weights)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), network.weights, gradient)

  return score


def synflow(target: TargetNetwork) -> Score:
  """θ ∂R/∂θ with R the sum of the outputs of |θ| on an input of ones.

  Of a relu network it is the sum of the products of |w| along the paths through
  a weight, without data; invariant under positive scaling. It is meant for many
  phases of pruning, see `pruning.in_rounds`: the scores of a layer depend on
  what is left of the others.

  Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by
  iteratively conserving synaptic flow", NeurIPS 2020, arXiv:2006.05467.
  """
  ones = jnp.ones((1, *target.input_shape))

  def score(network, images, labels):
    del images, labels

    def flow(weights):
      return target.apply(weights, ones, network.activation).sum()

    sizes = jax.tree.map(jnp.abs, network.weights)
    return jax.tree.map(jnp.multiply, sizes, jax.grad(flow)(sizes))

  return score


def obd(target: TargetNetwork, *, images: int) -> Score:
  """w² h / 2, with h the diagonal of the Hessian at the network's own outputs.

  To second order it is the divergence KL(own outputs ‖ outputs without w), so
  that it needs images without labels. h is exact but for second derivatives of
  the outputs (Gauss-Newton), which are zero in weights of a relu network.
  Invariant under positive scaling.

  LeCun, Denker, Solla, "Optimal Brain Damage", NeurIPS 1989.

  Args:
    target: the architecture.
    images: number of training images.
  """

  def score(network, x, y):
    del y

    def log_probs(weights, image):
      logits = target.apply(weights, image[None], network.activation)[0]
      return jax.nn.log_softmax(logits)

    def add(total, image):
      probs = jnp.exp(log_probs(network.weights, image))
      slopes = jax.jacrev(log_probs)(network.weights, image)
      return jax.tree.map(
        lambda t, s: t + jnp.tensordot(probs, s**2, 1), total, slopes
      ), None

    zero = jax.tree.map(jnp.zeros_like, network.weights)
    x = x[:images]
    total, _ = jax.lax.scan(add, zero, x)
    return jax.tree.map(
      lambda w, t: w**2 * t / (2 * len(x)), network.weights, total
    )

  return score
