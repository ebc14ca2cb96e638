"""Slots: positions in a layer that its neurons fill in a canonical order.

Messages tell every edge about its surroundings, but they do not tell the
neurons of one layer apart. An operator that writes by messages alone can hardly
coordinate them, so that this neuron detects one thing and that neuron another.
With slots, neuron i of a layer fills one slot r of n, A_ir ∈ {0, 1}, and
learned weights B_rs between slots become weights between neurons,

  W_ji = (s_i / s_j) Σ_rs A_ir B_sr A_js,

with the sizes s of `graph.sizes`. A permutation of the neurons permutes
the rows of A, and s carries the multipliers: W → g W.

Slots are assigned by rank, in an order that depends on the network alone and
is not learned: canonicalization rather than averaging or constraints (Kaba et
al. 2023, "Equivariance with Learned Canonicalization Functions",
arXiv:2211.06489; entries 5 and 6 of the notebook, `experiments/NOTES.md`, say
why it is not learned here). The functions below take weights in the fixed
gauge, (W_ji s_j / s_i), on which no positive multiplier acts.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry import spec as specs


def assign_slots(spec: SymmetrySpec, fixed: Weights) -> dict[str, jax.Array]:
  """Assigns neurons to slots.

  Neurons are ranked by the L1 norm of their outgoing weights, Σ_k |W_ik|; ties
  are broken by their incoming weights, |b_i| + Σ_j |W_ji|.

  Args:
    spec: the symmetry.
    fixed: weights in the fixed gauge.

  Returns:
    {hidden space: A [n, n]}, permutation matrices over (neuron, slot) with
    A → πA under permutations of the neurons. Signs and the order of inputs and
    outputs do not change them. The order of neurons of equal rank is arbitrary.
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
  """Signs σ of neurons that flip with their multipliers.

  A walk forward through the layers takes the sign of b_i + Σ_j σ_j W_ji, with
  σ = 1 where no sign acts. Where this is zero, a walk backward takes the sign
  of Σ_k σ_k W_ik.

  Args:
    spec: the symmetry.
    fixed: weights in the fixed gauge.
    signed: {hidden space: [n] bool}, the neurons that signs act on.

  Returns:
    {space: σ [n] → q σ}; 0 for neurons whose sign is undetermined.
  """
  leaves = specs.leaves(spec, fixed)
  dtype = leaves[0][1].dtype
  signs = {n: jnp.ones(space.size, dtype) for n, space in spec.spaces.items()}
  signs |= {name: 1 - mask.astype(dtype) for name, mask in signed.items()}
  names = list(signed)
  for power, walk in ((1, names), (-1, names[::-1])):
    for name in walk:
      t = jnp.zeros_like(signs[name])
      for _, weight, axes in leaves:
        end, other = axes.find(power), axes.find(-power)
        if end is None or end[1] != name:
          continue
        if other is not None:
          shape = [1] * weight.ndim
          shape[other[0]] = -1
          weight = weight * signs[other[1]].reshape(shape)
        t = t + _sum(weight, end[0])
      signs[name] = jnp.where(signs[name] == 0, jnp.sign(t), signs[name])
  return {name: signs[name] for name in names}


def _sum(weight: jax.Array, position: int) -> jax.Array:
  """The sum over all axes but one."""
  return weight.sum([i for i in range(weight.ndim) if i != position])


def place(
  spec: SymmetrySpec, weights: Weights, assigned: Mapping[str, jax.Array]
) -> Weights:
  """Turns weights between slots into weights between neurons.

  Args:
    spec: the symmetry of the weights.
    weights: between slots.
    assigned: {space: A [neurons, slots]}; other spaces stay unchanged.
  """

  def place_leaf(weight, axes):
    for position, axis in enumerate(axes.axes):
      if axis is not None and axis.space in assigned:
        weight = jnp.tensordot(
          assigned[axis.space], weight, ((1,), (position,))
        )
        weight = jnp.moveaxis(weight, 0, position)
    return weight

  return jax.tree.map(place_leaf, weights, spec.axes)
