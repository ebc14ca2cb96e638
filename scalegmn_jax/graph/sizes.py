"""The sizes of vertices, which carry their multipliers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.graph.parts import Part, Powers, Stage
from scalegmn_jax.graph.topology import Topology
from scalegmn_jax.symmetry import canonical


def vertex_sizes(
  topology: Topology, weights: Weights, *, isolated: float = 1.0
) -> jax.Array:
  """s [V] with s > 0 that carries q:  s → |q| s.

  A pass along the stages computes s_i = ‖[b_i, (W_ji s_j)_j]‖, with s = 1 on
  input and output vertices. W_ji s_j / s_i and b_i / s_i are then exactly
  invariant under positive scaling. A stage with several writers (a skip) takes
  s from the first writer that is not zero. A vertex without incoming weights
  takes s = 1/‖(W_ik / s_k)_k‖ from its outgoing side, which carries q as well.
  A vertex whose only inputs come from such vertices gets its s in a second
  pass. A stage to which no weight writes, such as the product of a gate and
  what it gates, takes the product of the sizes of other stages of its neurons,
  where this carries q.

  Args:
    topology: the graph.
    weights: of one network.
    isolated: s of hidden vertices without any weight, on which q does not act.
  """
  leaves = jax.tree.leaves(weights)
  dtype = leaves[0].dtype
  # Zero marks an unknown size: to its neighbours such a vertex counts as a
  # weight of zero.
  sizes = {
    stage: jnp.full(stage.size, float(not topology.is_hidden(rows)), dtype)
    for stage, rows in topology.stages.items()
  }
  order, writers, products = _order_of(topology)
  readers: dict[Stage, list[Part]] = {}
  for part in topology.parts:
    if part.sender is not None and part.sender != part.receiver:
      readers.setdefault(part.sender, []).append(part)

  def incoming(stage):
    """The weights into a stage as rows, one array per writing part. Biases join
    the first one: both are computed before the activation."""
    biases, kernels = [], []
    for part in writers[stage]:
      block = part.take(leaves[part.leaf])
      if part.sender is None:
        biases.append(part.rows(block, part.receivers))
      else:
        scaled = block * part.along(sizes[part.sender], part.senders)
        kernels.append(part.rows(scaled, part.receivers))
    groups = [[k] for k in kernels] or [[]]
    groups[0] += biases
    return [jnp.concatenate(g, axis=1) for g in groups if g]

  def forward():
    for stage in order:
      if stage in products:
        factors = [
          sizes[other] if power > 0 else canonical.inverse(sizes[other])
          for other, power in products[stage]
        ]
        size = math.prod(factors[1:], start=factors[0])
        known = canonical.positive(sizes[stage])
        sizes[stage] = jnp.where(known, sizes[stage], size)
      for rows in incoming(stage):
        known = canonical.positive(sizes[stage])
        sizes[stage] = jnp.where(known, sizes[stage], canonical.norm(rows))

  def backward():
    for stage in reversed(order):
      rows = []
      for part in readers.get(stage, ()):
        factor = canonical.inverse(sizes[part.receiver])
        block = part.take(leaves[part.leaf])
        scaled = block * part.along(factor, part.receivers)
        rows.append(part.rows(scaled, part.senders))
      if rows:
        size = canonical.norm(jnp.concatenate(rows, axis=1))
        known = canonical.positive(sizes[stage])
        sizes[stage] = jnp.where(known, sizes[stage], canonical.inverse(size))

  forward()
  backward()
  forward()
  return jnp.concatenate(
    [
      jnp.where(canonical.positive(size), size, isolated)
      for size in sizes.values()
    ]
  )


Product = Sequence[tuple[Stage, int]]
"""(stage, 1 or -1): sizes and inverse sizes to multiply."""


def _order_of(
  topology: Topology,
) -> tuple[list[Stage], dict[Stage, list[Part]], dict[Stage, Product]]:
  """Hidden stages in an order of computation, and what their sizes are from.

  The next stage is the first one that a computed stage writes to. Among the
  writers of a stage, kernels of stages that are computed later come last.

  Returns:
    (the stages, {stage: what writes to it}, {stage without writers: product}).
  """
  stages = topology.stages.items()
  hidden = [stage for stage, rows in stages if topology.is_hidden(rows)]
  writers: dict[Stage, list[Part]] = {stage: [] for stage in hidden}
  for part in topology.parts:
    if part.receiver in writers and part.sender != part.receiver:
      writers[part.receiver].append(part)
  order: list[Stage] = []
  products: dict[Stage, Product] = {}
  left = dict.fromkeys(hidden)

  def known(part):
    return part.sender is not None and part.sender not in left

  while left:
    ready = (s for s in left if any(map(known, writers[s])))
    stage = next(ready, None)
    if stage is None:
      for stage_without_writers in (s for s in left if not writers[s]):
        product = _product(topology.spec, stage_without_writers, order)
        if product is not None:
          stage = stage_without_writers
          products[stage] = product
          break
    biased = (s for s in left if any(p.sender is None for p in writers[s]))
    stage = stage or next(biased, None) or next(iter(left))
    writers[stage].sort(key=lambda p: p.sender is not None and not known(p))
    del left[stage]
    order.append(stage)
  return order, writers, products


def _product(
  spec: SymmetrySpec, stage: Stage, others: Sequence[Stage]
) -> Product | None:
  """One or two stages of the same neurons, whose sizes carry those of a stage.

  Only positive multipliers count: a size carries |q|.
  """

  def powers(s: Stage) -> list[int | Fraction]:
    return [
      power
      for name, powers in zip(s.spaces, s.powers, strict=True)
      for power, group in zip(
        powers, spec.spaces[name].multipliers or ("scale",), strict=False
      )
      if group == "scale"
    ]

  expected = powers(stage)
  if not any(expected):
    return None
  signed = [(s, n) for s in others if s.spaces == stage.spaces for n in (1, -1)]
  for count in (1, 2):
    for product in itertools.combinations(signed, count):
      terms = ([n * p for p in powers(s)] for s, n in product)
      if [sum(column) for column in zip(*terms, strict=True)] == expected:
        return product
  return None


def _exponents(spec: SymmetrySpec, stage: Stage, group: str) -> list[Powers]:
  """The exponents of the multipliers of one group, for each space of a stage.

  Those of signs are 0 or 1.
  """
  found = []
  for name, powers in zip(stage.spaces, stage.powers, strict=True):
    space = spec.spaces[name]
    groups = space.multipliers or (group,) * (group in space.groups)
    pairs = zip(powers, groups, strict=False)
    powers = (power for power, g in pairs if g == group)
    found.append(tuple(p % 2 if group == "sign" else p for p in powers))
  return found


class Carrier(NamedTuple):
  """How the vertices of a stage carry the multipliers of a group.

  Attributes:
    axes: positions among the spaces of the stage: those on whose multipliers
      its vertices depend. Vertices that differ in other spaces only have the
      same multiplier.
    terms: {stage: exponent}; the multipliers are products of powers of those
      of these stages, whose `axes` are of the same spaces. The stage itself for
      one that is independent of the stages before it.
  """

  axes: tuple[int, ...]
  terms: Mapping[Stage, int | Fraction]

  def pooled(
    self,
    stage: Stage,
    x: jax.Array,
    pool: Callable[[jax.Array], jax.Array],
  ) -> jax.Array:
    """Numbers of the vertices [n] -> an axis for each of `axes`.

    Args:
      stage: whose vertices they are.
      x: [n].
      pool: [..., m] -> [...], of vertices that have the same multiplier.
    """
    x = x.reshape(stage.shape)
    if len(self.axes) == len(stage.shape):
      return x
    x = jnp.moveaxis(x, self.axes, tuple(range(len(self.axes))))
    return pool(x.reshape(*x.shape[: len(self.axes)], -1))

  def product(self, values: Mapping[Stage, jax.Array]) -> jax.Array:
    """The product of powers of values, `pooled`, of the stages of `terms`."""
    factors = [_power(values[stage], p) for stage, p in self.terms.items()]
    return math.prod(factors[1:], start=factors[0])

  def at_vertices(self, stage: Stage, x: jax.Array) -> jax.Array:
    """The inverse of `pooled`, [n]: one number for several vertices."""
    x = x.reshape(
      [n if i in self.axes else 1 for i, n in enumerate(stage.shape)]
    )
    return jnp.broadcast_to(x, stage.shape).reshape(-1)


def carriers(topology: Topology, group: str) -> dict[Stage, Carrier]:
  """{stage: how it carries multipliers}, in order of computation.

  The multipliers of stages depend on each other: those of the keys of attention
  are the inverse of those of the queries, a gated unit has the product of those
  of its branches. Sizes and signs that are chosen for each stage by itself
  would be no element of the group.

  Args:
    topology: the graph.
    group: "scale" or "sign".

  Returns:
    An entry for every stage on which such multipliers act.
  """

  def number(x):
    return Fraction(x) % 2 if group == "sign" else Fraction(x)

  found: dict[Stage, Carrier] = {}
  bases: dict[tuple[str, ...], list[_Row]] = {}
  for stage in _order_of(topology)[0]:
    exponents = _exponents(topology.spec, stage, group)
    axes = tuple(i for i, powers in enumerate(exponents) if any(powers))
    if not axes:
      continue
    basis = bases.setdefault(tuple(stage.spaces[i] for i in axes), [])
    left = [number(p) for i in axes for p in exponents[i]]
    terms: dict[Stage, Any] = {}
    for row in basis:
      factor = left[row.pivot]
      left = [
        number(x - factor * y) for x, y in zip(left, row.vector, strict=True)
      ]
      for s, c in row.terms.items():
        terms[s] = number(terms.get(s, 0) + factor * c)
    if any(left):
      pivot = next(i for i, x in enumerate(left) if x)
      scale = left[pivot]
      negative = {s: number(-c / scale) for s, c in terms.items()}
      basis.append(
        _Row(pivot, [x / scale for x in left], {**negative, stage: 1 / scale})
      )
      terms = {stage: 1}
    found[stage] = Carrier(axes, {s: c for s, c in terms.items() if c})
  return found


class _Row(NamedTuple):
  """A combination of the exponents of stages, 1 at the pivot.

  Attributes:
    pivot: position of the first exponent that is not 0.
    vector: the exponents.
    terms: {stage: coefficient}.
  """

  pivot: int
  vector: Sequence[Any]
  terms: Mapping[Stage, Any]


def element_sizes(
  topology: Topology, sizes: Mapping[Stage, jax.Array]
) -> dict[Stage, jax.Array]:
  """The sizes of stages as those of one element of the group: s → |q| s.

  A network is scaled by them without a change of its function. A stage of two
  spaces, as heads and their dimensions, has a size for each pair: activations
  that can be multiplied along both spaces are multiplied one by one.

  Args:
    topology: the graph.
    sizes: {stage: [n]}, of each stage by itself, see `vertex_sizes`; 0 for
      those that are not known.

  Returns:
    {stage: [n]}. The sizes of stages that depend on others are products of the
    sizes of these, and vertices with the same multiplier have the same size.
  """
  result, shared = dict(sizes), {}
  for stage, carrier in carriers(topology, "scale").items():
    if stage in carrier.terms:
      shared[stage] = carrier.pooled(stage, sizes[stage], canonical.norm)
    else:
      shared[stage] = carrier.product(shared)
    result[stage] = carrier.at_vertices(stage, shared[stage])
  return result


def _power(s: jax.Array, exponent: int | Fraction) -> jax.Array:
  """s**exponent, 0 where s is 0."""
  if exponent < 0:
    s, exponent = canonical.inverse(s), -exponent
  if exponent == 1:
    return s
  known = canonical.positive(s)
  return jnp.where(known, jnp.where(known, s, 1) ** float(exponent), 0)
