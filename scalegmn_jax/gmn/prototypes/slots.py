"""Roles: neurons of a layer as the players of parts that are learned.

Messages tell every edge something of its surroundings; they do not tell the
neurons of one layer apart, so what an operator writes by them can hardly be
coordinated: that one neuron shall detect this and another one that. Here each
neuron i of a layer plays one role r of n, A_ir ∈ {0, 1}, and learned weights
B_rs between roles become weights between neurons,

  W_ji = (s_i / s_j) Σ_rs A_ir B_sr A_js,

with the sizes s of `gauge.vertex_sizes`. A permutation of the neurons permutes
the rows of A, and s carries the multipliers: W → g W.

Roles are given out by rank, in an order that depends on the network alone and
that nothing learns: to canonicalize rather than to average or to constrain
(Kaba et al. 2023, "Equivariance with Learned Canonicalization Functions",
arXiv:2211.06489; here not learned, see entries 5 and 6 of the notebook,
`experiments/NOTES.md`, for why). The functions below take weights in the fixed
gauge, (W_ji s_j / s_i), on which no positive multiplier acts.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry import spec as specs


def assign_slots(spec: SymmetrySpec, fixed: Weights) -> dict[str, jax.Array]:
  """Which neuron plays which role.

  Neurons are ranked by how much is read of them, Σ_k |W_ik|, and those of which
  the same is read by how much they read, b and Σ_j |W_ji|.

  Args:
    spec: the symmetry.
    fixed: weights in the fixed gauge.

  Returns:
    {space: A [n, n]} of the hidden spaces, permutation matrices over (neuron,
    role) with A → πA under permutations of the neurons; signs and the order of
    inputs and outputs do not change them. Between neurons of the same rank the
    choice is arbitrary.
  """
  leaves = specs.leaves(spec, fixed)
  dtype = leaves[0][1].dtype

  def total(name, power):
    sides = [
      _sum(jnp.abs(weight), end[0])
      for _, weight, axes in leaves
      if (end := axes.find(power)) and end[1] == name
    ]
    return sum(sides, jnp.zeros(spec.spaces[name].size, dtype))

  return {
    name: jax.nn.one_hot(
      jnp.lexsort((total(name, 1), total(name, -1))),
      space.size,
      dtype=dtype,
      axis=0,
    )
    for name, space in spec.spaces.items()
    if not space.fixed
  }


def canonical_signs(
  spec: SymmetrySpec, fixed: Weights, signed: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """A sign of every neuron that its multiplier turns.

  A walk along the layers: the sign of b_i + Σ_j σ_j W_ji, with σ = 1 where no
  sign acts; of neurons for which that is zero, on the way back, the sign of
  Σ_k σ_k W_ik.

  Args:
    spec: the symmetry.
    fixed: weights in the fixed gauge.
    signed: {hidden space: [n] bool}, the neurons on which signs act.

  Returns:
    {space: σ [n] → q σ}; 0 for neurons that tell no sign.
  """
  leaves = specs.leaves(spec, fixed)
  dtype = leaves[0][1].dtype
  found = {n: jnp.ones(space.size, dtype) for n, space in spec.spaces.items()}
  found |= {name: 1 - mask.astype(dtype) for name, mask in signed.items()}
  names = list(signed)
  for power, walk in ((1, names), (-1, names[::-1])):
    for name in walk:
      t = jnp.zeros_like(found[name])
      for _, weight, axes in leaves:
        end, other = axes.find(power), axes.find(-power)
        if end is None or end[1] != name:
          continue
        if other is not None:
          shape = [1] * weight.ndim
          shape[other[0]] = -1
          weight = weight * found[other[1]].reshape(shape)
        t = t + _sum(weight, end[0])
      found[name] = jnp.where(found[name] == 0, jnp.sign(t), found[name])
  return {name: found[name] for name in names}


def _sum(weight: jax.Array, position: int) -> jax.Array:
  """Over all axes but one."""
  return weight.sum([i for i in range(weight.ndim) if i != position])


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
