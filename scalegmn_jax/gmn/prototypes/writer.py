"""Writing learned networks in the slots of another network's neurons.

A network is replaced by a mixture of prototypes: learned weights between slots,
see `slots`. The functions here are pure; `Prototypes` owns their parameters and
composes them:

  network -> summary, class pairs -> mixture and gates -> weights between slots
          -> weights between neurons, in the gauge of the network.

Letters: K outputs, C classes, N prototypes, d the width.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Params,
  SymmetrySpec,
  Weights,
)
from scalegmn_jax.gmn import layers
from scalegmn_jax.gmn.features import GraphFeatures
from scalegmn_jax.gmn.modules import Module
from scalegmn_jax.gmn.probes import Ask, Prober
from scalegmn_jax.gmn.prototypes import slots
from scalegmn_jax.gmn.prototypes.label_reader import ClassReader
from scalegmn_jax.graph import convert
from scalegmn_jax.graph.connectivity import NetworkConnectivity
from scalegmn_jax.graph.interface import Connectivity
from scalegmn_jax.graph.parts import Stage
from scalegmn_jax.graph.sizes import element_sizes
from scalegmn_jax.graph.topology import Topology
from scalegmn_jax.symmetry import canonical
from scalegmn_jax.symmetry import spec as specs


def summarize(
  u: jax.Array, connectivity: Connectivity, shares: jax.Array | None
) -> jax.Array:
  """An invariant summary [S] of a network.

  Args:
    u: [V, d], invariant features of the vertices.
    connectivity: of the graph.
    shares: [K, C + 1] of outputs and classes, or None.
  """
  parts = [
    connectivity.mean_hidden(u[connectivity.hidden]),
    connectivity.by_position(u),
  ]
  if shares is not None:
    parts.append(shares.sum(0))
  return jnp.concatenate(parts)


def class_pairs(shares: jax.Array) -> jax.Array:
  """Which classes there are and which share an output, [C (C + 1) / 2].

  Args:
    shares: [K, C + 1] of outputs and classes; the last column marks outputs
      without a class.

  Returns:
    A number per pair of classes a <= b: 1 where a < b are at one output and 0
    where not; ½ for a = b where the class is present and -½ where not.
  """
  # Minus ½: the prototypes hold what all networks have in common. Training
  # goes better that way (notebook, entry 27).
  pairs = shares[:, :-1].T @ shares[:, :-1]
  pairs -= jnp.eye(pairs.shape[0]) / 2
  return pairs[jnp.triu_indices(pairs.shape[0])]


def mixture_params(d_in: int, count: int) -> Params:
  """Parameters of `mixture`: of [d_in] to N prototypes."""
  return layers.linear_params(d_in, count, bias=True)


def mixture(params: Params, evidence: jax.Array) -> jax.Array:
  """Shares of the prototypes, [N] with sum one."""
  return jax.nn.softmax(layers.linear(params, evidence))


def gates_params(d_in: int, d: int, weights: int) -> Params:
  """Parameters of `gates`: of [d_in] to one gate per weight tensor."""
  # Gates begin at nearly one: half of one network and half of another is worse
  # than either, and training does not cross that.
  return layers.mlp_params(d_in, d, weights, offset=5.0)


def gates(params: Params, summary: jax.Array) -> jax.Array:
  """The share of each weight tensor that is replaced, in (0, 1)."""
  return jax.nn.sigmoid(layers.mlp(params, summary))


def coefficients_params(features: int, count: int) -> Params:
  """Parameters of `coefficients`: of [F] to M changes."""
  return layers.mlp_params(features, features, count)


def coefficients(params: Params, answers: jax.Array) -> jax.Array:
  """Factors [M] of the changes in a basis, from features of answers [F]."""
  return layers.mlp(params, answers)


class FixedGauge(NamedTuple):
  """A network in the gauge on which no positive multiplier acts.

  Attributes:
    weights: W_ji s_j / s_i.
    sizes: {hidden stage: s [n]}.
    inverse: {hidden stage: 1/s [n]}, 0 where s is 0.
  """

  weights: Weights
  sizes: dict[Stage, jax.Array]
  inverse: dict[Stage, jax.Array]

  def restore(
    self,
    topology: Topology,
    weights: Weights,
    signs: Mapping[Stage, jax.Array],
  ) -> Weights:
    """Moves other weights from the fixed gauge to the gauge of the network.

    Args:
      topology: of the network.
      weights: other weights of this gauge.
      signs: {stage: σ [n]}, where signs act.
    """
    receiving, sending = (
      {s: x * signs[s] if s in signs else x for s, x in factors.items()}
      for factors in (self.sizes, self.inverse)
    )
    return convert.scale(topology, weights, receiving, sending)

  def between_slots(
    self,
    topology: Topology,
    signs: Mapping[Stage, jax.Array],
    assigned: Mapping[str, jax.Array],
  ) -> Weights:
    """The weights of the network between slots: what `restore` and
    `slots.place` turn into the network.

    Args:
      topology: of the network.
      signs: {stage: σ [n]}, where signs act.
      assigned: {space: A [neurons, slots]}, see `slots.assign_slots`.
    """
    weights = convert.scale(topology, self.weights, signs, signs)
    neurons = {space: a.T for space, a in assigned.items()}
    return slots.place(topology.spec, weights, neurons)


def hidden_stages(topology: Topology) -> dict[Stage, slice]:
  """The vertices of every stage that a group acts on."""
  return {
    stage: rows
    for stage, rows in topology.stages.items()
    if topology.is_hidden(rows)
  }


def fix_gauge(
  topology: Topology, features: GraphFeatures, weights: Weights
) -> FixedGauge:
  """Divides out the positive multipliers of a network."""
  # Where signs alone act the sizes are not a gauge but part of the function:
  # with them a prototype would be another function in each network.
  sizes = {
    stage: jnp.where(features.scaled, features.sizes, 1)[rows, 0]
    for stage, rows in hidden_stages(topology).items()
  }
  sizes = element_sizes(topology, sizes)
  inverse = {stage: canonical.inverse(size) for stage, size in sizes.items()}
  fixed = convert.scale(topology, weights, inverse, sizes)
  return FixedGauge(fixed, sizes, inverse)


def find_signs(
  topology: Topology, features: GraphFeatures, fixed: Weights
) -> dict[Stage, jax.Array]:
  """Signs of the vertices that signs act on, see `slots.canonical_signs`.

  Args:
    topology: of the network.
    features: of the network.
    fixed: its weights in the fixed gauge.
  """
  if not topology.acted_on("sign").any():
    return {}
  signed = {
    stage: features.groups[1][rows, 0]
    for stage, rows in hidden_stages(topology).items()
  }
  return slots.canonical_signs(topology, fixed, signed)


def check_outputs(topology: Topology) -> None:
  """Checks that the outputs of prototypes can be one per class.

  Args:
    topology: of the network.

  Raises:
    InputError: no kernel ends at the last space, a group acts on it, a weight
      reads it, or it is a part of an axis only.
  """
  spec, output = topology.spec, specs.output_name(topology.spec)
  ends = {block.part.receiver.spaces for block in topology.blocks}
  if not spec.spaces[output].fixed or (output,) not in ends:
    raise InputError(
      f"classes: no kernel ends at the last space {output!r}, expected outputs"
    )
  for name, _, axes in specs.leaves(spec, topology.shapes):
    for axis in axes.acting():
      if axis.space == output and (
        axis.kind != "receives" or axis not in axes.axes
      ):
        raise InputError(
          f"classes: weight {name} reads the outputs {output!r} or has them on "
          "a part of an axis, expected weights that end at outputs"
        )


def slot_shape(
  shape: Sequence[int], axes: Axes, slot_counts: Mapping[str, int]
) -> tuple[int, ...]:
  """The shape of a weight between slots.

  Args:
    shape: of the weight between neurons.
    axes: its axes.
    slot_counts: {space: number of slots}, where it differs from the neurons.
  """
  return tuple(
    slot_counts.get(axis.space, n) if isinstance(axis, Axis) else n
    for n, axis in zip(shape, axes.axes, strict=True)
  )


def incoming(spec: SymmetrySpec, shape: Sequence[int], axes: Axes) -> int:
  """How many numbers of one weight tensor each receiving neuron has.

  Args:
    spec: the symmetry.
    shape: of the weight.
    axes: of the weight.
  """

  def positions(sends, hidden):
    return [
      i
      for i, axis in enumerate(axes.axes)
      if any(
        (a.kind == "sends") == sends
        and (not hidden or not spec.spaces[a.space].fixed)
        for a in Axes((axis,)).acting()
      )
    ]

  # Positions, on which nothing acts, do not receive if neurons do.
  receiving = positions(False, True) or positions(False, False)
  sending = positions(True, False)
  if receiving:
    sending = [i for i in range(len(shape)) if i not in receiving]
  elif not sending:
    sending = range(len(shape) - 1)
  return math.prod(shape[i] for i in sending)


def prototype_params(
  spec: SymmetrySpec,
  shape: Sequence[int],
  axes: Axes,
  activations: int,
  count: int,
) -> layers.Normal:
  """Initial prototypes of one weight: [A, N, *shape].

  Args:
    spec: the symmetry.
    shape: of the weight between slots.
    axes: of the weight.
    activations: A, the number of activations of the target.
    count: N.
  """
  shape_of_all = (activations, count, *shape)
  entries = list(axes.acting())
  # A vector of which nothing is known may be a scale as well: no zeros.
  if any(axis.kind == "scales" for axis in entries) or (
    not entries and len(shape) < 2
  ):
    return layers.Normal(shape_of_all, mean=1.0)
  # The mean of the prototypes begins with rows of norm one, like a network in
  # the fixed gauge. Smaller rows vanish under the penalty.
  fan_in = incoming(spec, shape, axes)
  std = (count / fan_in) ** 0.5 if fan_in > 1 else 0.0
  return layers.Normal(shape_of_all, std=std)


_SMALL = 0.01
"""The size of the changes in a basis, of that of the weights, at the begin."""


def basis_params(
  spec: SymmetrySpec,
  shape: Sequence[int],
  axes: Axes,
  activations: int,
  count: int,
) -> layers.Normal:
  """Initial changes in a basis, for one weight: [A, M, *shape].

  Args:
    spec: the symmetry.
    shape: of the weight between slots.
    axes: of the weight.
    activations: A, the number of activations of the target.
    count: M.
  """
  fan_in = incoming(spec, shape, axes)
  std = _SMALL * (count * max(fan_in, 1)) ** -0.5
  return layers.Normal((activations, count, *shape), std=std)


def mix(
  prototypes: jax.Array,
  shares: jax.Array,
  changes: Sequence[tuple[jax.Array, jax.Array]] = (),
) -> jax.Array:
  """One weight between slots: Σ_n m_n P_n + Σ_c p_c C_c.

  Args:
    prototypes: P [N, ...].
    shares: m [N], see `mixture`.
    changes: (p [M], C [M, ...]) of each kind: of pairs of classes, see
      `class_pairs`, and of a basis, see `coefficients`.
  """
  result = jnp.tensordot(shares, prototypes, 1)
  for factors, terms in changes:
    result += jnp.tensordot(factors, terms, 1)
  return result


class Prototypes(Module):
  """Learned networks, written in the slots of another network's neurons.

  The prototypes of the network's activation are mixed according to the
  confidence of the network on probes where there are classes, otherwise
  according to its features. Gates that say how much of each weight is replaced
  depend on its features. With class combinations, changes of the prototypes are
  learned as well, one per class and one per pair of classes at one output: a
  network of few classes needs few weights. With a basis, changes are learned
  whose factors depend on what the network answers to probes. Running statistics
  are not learned: they are those of a network before training.

  Attributes:
    count: N, the number of prototypes.
    classes: reads the class of each output; None where output k is class k.
      With it, the outputs of the prototypes are slots too, one per class and
      one for outputs without a class.
    basis: M, the number of changes in the basis; 0 for none.
    prober: reads answers, for the basis.
  """

  count: int
  classes: ClassReader | None
  basis: int = 0
  prober: Prober | None = None

  @nn.compact
  def __call__(
    self,
    connectivity: NetworkConnectivity,
    features: GraphFeatures,
    x: jax.Array,
    weights: Weights,
    activation: jax.Array | int,
    ask: Ask,
  ) -> tuple[Weights, Any]:
    """(weights W → gW, their gates in (0, 1), one per weight tensor)."""
    topology, d = connectivity.topology, x.shape[-1]
    spec = topology.spec
    leaves = specs.leaves(spec, topology.shapes)
    structure = jax.tree.structure(topology.shapes)

    read = self.make("read", layers.invariant_readout_params(d))
    u = layers.invariant_readout(read, x, connectivity, features)
    shares = confidence = pairs = None
    if self.classes is not None:
      shares, confidence = self.classes(weights, activation)
      if self.classes.class_combinations:
        pairs = class_pairs(shares)
    summary = summarize(u, connectivity, shares)
    factors = None
    if self.prober is not None:
      answers = self.prober(ask)
      params = coefficients_params(answers.shape[0], self.basis)
      factors = coefficients(self.make("coefficients", params), answers)
      summary = jnp.concatenate([summary, answers])
    evidence = summary if confidence is None else confidence
    params = mixture_params(evidence.shape[0], self.count)
    mixed = mixture(self.make("mixture", params), evidence)
    params = gates_params(summary.shape[0], d, len(leaves))
    replaced = gates(self.make("gates", params), summary)

    fixed = fix_gauge(topology, features, weights)
    assigned = slots.assign_slots(spec, fixed.weights)
    signs = find_signs(topology, features, fixed.weights)
    slot_counts = {}
    if shares is not None:
      output = specs.output_name(spec)
      assigned[output], slot_counts[output] = shares, shares.shape[1]
    written = []
    activations = len(topology.groups)
    for i, (name, leaf, axes) in enumerate(leaves):
      shape = slot_shape(leaf.shape, axes, slot_counts)
      if axes.statistic:
        start = specs.untrained_statistic(spec, name, axes)
        written.append(jnp.full(shape, start, x.dtype))
        continue
      params = prototype_params(spec, shape, axes, activations, self.count)
      prototypes = self.make(f"prototypes_{i}", params)
      changes = []
      if pairs is not None:
        params = layers.Normal((activations, *pairs.shape, *shape))
        terms = self.make(f"changes_{i}", params)
        changes.append((pairs, terms[activation]))
      if factors is not None:
        params = basis_params(spec, shape, axes, activations, self.basis)
        terms = self.make(f"basis_{i}", params)
        changes.append((factors, terms[activation]))
      written.append(mix(prototypes[activation], mixed, changes))
    placed = slots.place(spec, jax.tree.unflatten(structure, written), assigned)
    return (
      fixed.restore(topology, placed, signs),
      jax.tree.unflatten(structure, list(replaced)),
    )
