"""The sizes of vertices, which carry their multipliers."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.graph.parts import Part, Stage
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
  parts = [b.part for b in (*topology.biases, *topology.blocks)]
  parts.sort(key=lambda part: part.leaf)
  order, writers, products = _order_of(
    topology.spec,
    [s for s, rows in topology.stages.items() if topology.is_hidden(rows)],
    parts,
  )
  readers: dict[Stage, list[Part]] = {}
  for part in parts:
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
  spec: SymmetrySpec, hidden: Sequence[Stage], parts: Sequence[Part]
) -> tuple[list[Stage], dict[Stage, list[Part]], dict[Stage, Product]]:
  """Hidden stages in an order of computation, and what their sizes are from.

  The next stage is the first one that a computed stage writes to. Among the
  writers of a stage, kernels of stages that are computed later come last.

  Returns:
    (the stages, {stage: what writes to it}, {stage without writers: product}).
  """
  writers: dict[Stage, list[Part]] = {stage: [] for stage in hidden}
  for part in parts:
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
        product = _product(spec, stage_without_writers, order)
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
