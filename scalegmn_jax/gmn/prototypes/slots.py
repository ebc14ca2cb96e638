"""Slots: positions in a layer that its neurons fill in a canonical order.

Messages tell every edge about its surroundings, but they do not tell the
neurons of one layer apart. An operator that writes by messages alone can hardly
coordinate them, so that this neuron detects one thing and that neuron another.
With slots, neuron i of a layer fills one slot r of n, A_ir ∈ {0, 1}, and
learned weights B_rs between slots become weights between neurons,

  W_ji = (σ_i s_i) / (σ_j s_j) Σ_rs A_ir B_sr A_js,

with the sizes s of `graph.sizes` and signs σ where they act. A permutation of
the neurons permutes the rows of A, and s and σ carry the multipliers: W → g W.
Neurons with several multipliers have a size and a sign for each of their
stages, those at the ends of the weight.

Slots are assigned by rank, in an order that depends on the network alone and
is not learned: canonicalization rather than averaging or constraints (Kaba et
al. 2023, "Equivariance with Learned Canonicalization Functions",
arXiv:2211.06489; entries 5 and 6 of the notebook, `experiments/NOTES.md`, say
why it is not learned here). The functions below take weights in the fixed
gauge, (W_ji s_j / s_i), on which no positive multiplier acts.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.graph.parts import Stage
from scalegmn_jax.graph.sizes import carriers
from scalegmn_jax.graph.topology import Topology
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.symmetry import spec as specs


def assign_slots(spec: SymmetrySpec, fixed: Weights) -> dict[str, jax.Array]:
  """Assigns neurons to slots.

  Neurons are ranked by the L1 norm of their outgoing weights, Σ_k |W_ik|; ties
  are broken by their incoming weights and scales, |b_i| + Σ_j |W_ji|.

  Args:
    spec: the symmetry.
    fixed: weights in the fixed gauge.

  Returns:
    {space that is permuted: A [n, n]}, permutation matrices over (neuron, slot)
    with A → πA under permutations of the neurons. Signs and the order of inputs
    and outputs do not change them. The order of neurons of equal rank is
    arbitrary.
  """
  leaves = specs.leaves(spec, fixed)
  dtype = leaves[0][1].dtype
  totals = {
    name: {sends: jnp.zeros(space.size, dtype) for sends in (False, True)}
    for name, space in spec.spaces.items()
    if space.permuted and not space.fixed
  }
  for _, weight, axes in leaves:
    for part, entries in gauge.parts(spec, weight, axes.axes):
      for position, axis in enumerate(entries):
        if axis is not None and axis.space in totals:
          total, sends = totals[axis.space], axis.kind == "sends"
          total[sends] = total[sends] + _sum(jnp.abs(part), (position,))
  return {
    name: jax.nn.one_hot(
      jnp.lexsort((total[False], total[True])),
      len(total[True]),
      dtype=dtype,
      axis=0,
    )
    for name, total in totals.items()
  }


def canonical_signs(
  topology: Topology, fixed: Weights, signed: Mapping[Stage, jax.Array]
) -> dict[Stage, jax.Array]:
  """Signs σ of vertices that flip with their multipliers.

  A walk forward through the stages takes the sign of b_i + Σ_j σ_j W_ji, with
  σ = 1 where no sign acts. Where this is zero, a walk backward takes the sign
  of Σ_k σ_k W_ik. Stages that depend on others have products of their signs,
  see `graph.sizes.carriers`.

  Args:
    topology: the graph.
    fixed: weights in the fixed gauge.
    signed: {hidden stage: [n] bool}, the vertices that signs act on.

  Returns:
    {stage that signs act on: σ [n] → q σ}; 0 for vertices whose sign is
    undetermined.
  """
  leaves = jax.tree.leaves(fixed)
  dtype = leaves[0].dtype
  found = carriers(topology, "sign")
  signs = {s: jnp.ones(s.size, dtype) for s in topology.stages}
  independent = [s for s, carrier in found.items() if s in carrier.terms]
  dependent = [s for s in found if s not in independent]
  # One sign for all vertices with the same multiplier.
  shared = {}
  for stage, carrier in found.items():
    signs[stage] = 1 - signed[stage].astype(dtype)
    shared[stage] = carrier.pooled(stage, signs[stage], lambda x: x[..., 0])

  def total(stage, forward):
    """Σ_j σ_j W_ji of the weights that a stage receives, or sends, [n]."""
    t = jnp.zeros_like(signs[stage])
    for part in topology.parts:
      end, other = (
        (part.receiver, part.receivers),
        (part.sender, part.senders),
      )[:: 1 if forward else -1]
      if end[0] != stage:
        continue
      block = part.take(leaves[part.leaf])
      if other[0] is not None:
        block = block * part.along(signs[other[0]], other[1])
      t = t + _sum(block, end[1])
    return t

  for forward, walk in (
    (True, list(found)),
    (False, independent[::-1]),
    (True, dependent),
  ):
    for stage in walk:
      carrier = found[stage]
      if stage in dependent:
        shared[stage] = carrier.product(shared)
      else:
        t = carrier.pooled(stage, total(stage, forward), lambda x: x.sum(-1))
        old = shared[stage]
        shared[stage] = jnp.where(old == 0, jnp.sign(t), old)
      signs[stage] = carrier.at_vertices(stage, shared[stage])
  return {stage: signs[stage] for stage in found}


def _sum(block: jax.Array, axes: Sequence[int]) -> jax.Array:
  """The sum over all axes but some, a number for each index along these."""
  total = block.sum([i for i in range(block.ndim) if i not in axes])
  order = sorted(axes)
  return total.transpose([order.index(i) for i in axes]).reshape(-1)


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
    return actions.transform_axes(spec, weight, axes, along)

  def along(weight, position, axis):
    if axis.space not in assigned:
      return weight
    weight = jnp.tensordot(assigned[axis.space], weight, ((1,), (position,)))
    return jnp.moveaxis(weight, 0, position)

  return jax.tree.map(place_leaf, weights, spec.axes)
