"""Roles: neurons of a layer as the players of parts that are learned.

Messages tell every edge something of its surroundings; they do not tell the
neurons of one layer apart, so what an operator writes by them can hardly be
coordinated: that one neuron shall detect this and another one that. Here each
neuron i of a layer is assigned one role r of n, A_ir ∈ {0, 1}, and learned
weights B_rs between roles become weights between neurons,

  W_ji = (s_i / s_j) Σ_rs A_ir B_sr A_js,

with the sizes s of `gauge.vertex_sizes`. A permutation of the neurons permutes
the rows of A, and s carries the multipliers: W → g W. Assignments to learned
prototypes are known from matching sets (Adams and Zemel 2011, "Ranking via
Sinkhorn propagation", arXiv:1106.1925) and from merging networks (Ainsworth et
al. 2023, "Git Re-Basin", arXiv:2209.04836).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights

ITERATIONS = 20
"""Of `sinkhorn` within `assignment`."""


def sinkhorn(scores: jax.Array, iterations: int = ITERATIONS) -> jax.Array:
  """exp(scores) [n, n] scaled until rows and columns add up to one."""

  def scale(z, _):
    z = z - jax.nn.logsumexp(z, axis=0, keepdims=True)
    return z - jax.nn.logsumexp(z, axis=1, keepdims=True), None

  return jnp.exp(jax.lax.scan(scale, scores, None, length=iterations)[0])


def greedy(shares: jax.Array) -> jax.Array:
  """A permutation matrix [n, n]: the greatest of the shares first, then the
  greatest of the rows and columns that are left."""

  def take(carry, _):
    left, chosen = carry
    i, j = jnp.unravel_index(jnp.argmax(left), left.shape)
    left = left.at[i].set(-jnp.inf).at[:, j].set(-jnp.inf)
    return (left, chosen.at[i, j].set(1)), None

  start = (shares, jnp.zeros_like(shares))
  return jax.lax.scan(take, start, None, length=shares.shape[0])[0][1]


def assignment(features: jax.Array, keys: jax.Array) -> jax.Array:
  """Which neuron plays which role.

  Args:
    features: [n, d] of the neurons of a layer, invariant.
    keys: [d, n] of its roles.

  Returns:
    A permutation matrix [n, n] over (neuron, role): features → πfeatures gives
    A → πA. Its gradient is that of the doubly stochastic matrix it is rounded
    from. Between neurons with the same features the choice is arbitrary.
  """
  # What neurons have in common cannot tell them apart.
  own = features - features.mean(0, keepdims=True)
  spread = jnp.sqrt((own * own).mean(0, keepdims=True) + 1e-6)
  soft = sinkhorn((own / spread) @ keys)
  return _rounded(greedy(soft), soft)


def signs(z: jax.Array) -> jax.Array:
  """sign(z), with the gradient of tanh(z).  z → -z gives -signs(z)."""
  return _rounded(jnp.sign(z), jnp.tanh(z))


def _rounded(hard: jax.Array, soft: jax.Array) -> jax.Array:
  """`hard`, with the gradient of `soft`."""
  return soft + jax.lax.stop_gradient(hard - soft)


def place(
  spec: SymmetrySpec, weights: Weights, assigned: Mapping[str, jax.Array]
) -> Weights:
  """Weights between roles as weights between neurons.

  Args:
    spec: the symmetry of the weights.
    weights: of a network whose neurons are roles.
    assigned: {space: A [n, n]}, of neurons to roles; other spaces stay as they
      are.
  """

  def one(weight, axes):
    for position, axis in enumerate(axes.axes):
      if axis is not None and axis.space in assigned:
        weight = jnp.tensordot(
          assigned[axis.space], weight, ((1,), (position,))
        )
        weight = jnp.moveaxis(weight, 0, position)
    return weight

  return jax.tree.map(one, weights, spec.axes)
