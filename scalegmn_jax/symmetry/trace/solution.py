"""The spec of a traced function: equations solved, spaces named."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax

from scalegmn_jax.base import Axes, Axis, Space, Split, SymmetrySpec
from scalegmn_jax.symmetry.trace import factors
from scalegmn_jax.symmetry.trace.equations import Equations
from scalegmn_jax.symmetry.trace.factors import (
  POSITIVE,
  SIGN,
  Factor,
  Ledger,
  Node,
)
from scalegmn_jax.symmetry.trace.interpreter import Interpreter


@dataclasses.dataclass(frozen=True)
class Parameter:
  """A parameter of the function.

  Attributes:
    name: its path.
    axes: how its axes transform, with one unknown for each axis.
    unknowns: the unknown of each axis.
  """

  name: str
  axes: tuple[factors.Axis, ...]
  unknowns: tuple[int, ...]

  def axis_name(self, position: int) -> str:
    """Such as "Dense_0/kernel[1]"."""
    return f"{self.name}[{position}]"


_ROLES = ("receives", "sends", "scales", "indexed", "stacked", "window")
"""Roles of axes, in the order in which their exponents are chosen as those of
the multipliers."""


class _Solution:
  """The multipliers of all nodes.

  Attributes:
    rank: unknown -> its order as the exponent of a multiplier.
  """

  def __init__(
    self,
    ledger: Ledger,
    interpreter: Interpreter,
    parameters: Sequence[Parameter],
  ):
    self._ledger = ledger
    self._roles = _all_roles(interpreter, parameters)
    self._marked = {u: i for i, u in enumerate(interpreter.roles)}
    axes = {u: len(p.axes) for p in parameters for u in p.unknowns}

    def rank(unknown):
      original = self._original(unknown)
      if original not in axes:
        return len(_ROLES), 0, unknown
      # Kernels, which have more axes, come before biases.
      return _ROLES.index(self.role(unknown)), -axes[original], unknown

    self.rank = rank
    self._systems: dict[Node, tuple[Equations, Equations]] = {}
    for node, power, kinds in ledger.equations:
      for leaf, placed in ledger.placed(node, power):
        positive, sign = self._system(leaf)
        if kinds & POSITIVE:
          positive.add(placed)
        if kinds & SIGN:
          sign.add(placed)

  def _original(self, unknown: int) -> int:
    while unknown in self._ledger.originals:
      unknown = self._ledger.originals[unknown]
    return unknown

  def role(self, unknown: int) -> str:
    """The role of an axis of a parameter, or of a segment of it."""
    while unknown not in self._roles:
      unknown = self._ledger.originals[unknown]
    return self._roles[unknown]

  def order(self, unknown: int) -> int:
    """When the axis is used, in the order of the computation."""
    while unknown not in self._marked:
      if unknown not in self._ledger.originals:
        return len(self._marked)
      unknown = self._ledger.originals[unknown]
    return self._marked[unknown]

  def _system(self, root: Node) -> tuple[Equations, Equations]:
    if root not in self._systems:
      self._systems[root] = (
        Equations(self.rank),
        Equations(self.rank, modulo_2=True),
      )
    return self._systems[root]

  def multipliers(
    self, root: Node, unknowns: set[int]
  ) -> tuple[list[str], dict[int, tuple[Fraction, ...]]]:
    """(group of each multiplier, {unknown: exponent of each}) of a node."""
    groups: list[str] = []
    powers: dict[int, tuple[Fraction, ...]] = dict.fromkeys(unknowns, ())
    for group, system in zip(
      ("scale", "sign"), self._system(root), strict=True
    ):
      solved = {u: system.solution({u: 1}) for u in unknowns}
      free = sorted({f for s in solved.values() for f in s}, key=self.rank)
      groups += [group] * len(free)
      for unknown, s in solved.items():
        powers[unknown] += tuple(
          self._direction(f, group) * s.get(f, 0) for f in free
        )
    return groups, powers

  def _direction(self, unknown: int, group: str) -> int:
    """A multiplier that is first seen where it sends has exponent -1 there."""
    sends = self.role(unknown) == "sends" and group == "scale"
    return -1 if sends else 1


def _all_roles(
  interpreter: Interpreter, parameters: Sequence[Parameter]
) -> dict[int, str]:
  """The role of each axis of a parameter; "receives" if no rule says one."""
  roles = dict(interpreter.roles)
  # The first factor of a product of two parameters sends if the second one
  # receives, and the other way around.
  for one, other, rest_one, rest_other in interpreter.chained:
    first_reads = any(roles.get(u) == "sends" for u in rest_one)
    second_reads = any(roles.get(u) == "sends" for u in rest_other)
    if first_reads != second_reads:
      for unknown in other if first_reads else one:
        roles.setdefault(unknown, "sends")
  every = {u for p in parameters for u in p.unknowns}
  return roles | {u: roles.get(u, "receives") for u in every}


@dataclasses.dataclass(frozen=True)
class _Found:
  """What was found for one node.

  Attributes:
    name: of its space, the axis of a parameter that is computed first.
    space: the space; one without groups if nothing acts.
    axes: {unknown: entry of the spec}.
    order: of the computation.
  """

  name: str
  space: Space
  axes: Mapping[int, Axis]
  order: float


def spec_of(
  ledger: Ledger,
  interpreter: Interpreter,
  parameters: Sequence[Parameter],
  structure: Any,
) -> SymmetrySpec:
  """The symmetry that an interpreted function has.

  Args:
    ledger: equations of the function.
    interpreter: that has interpreted it.
    parameters: of the function.
    structure: the pytree of the parameters.
  """
  resolved = [tuple(map(ledger.resolve, p.axes)) for p in parameters]
  solution = _Solution(ledger, interpreter, parameters)
  uses: dict[Node, dict[int, str]] = {}
  for p, axes in zip(parameters, resolved, strict=True):
    for i, axis in enumerate(axes):
      found = [f for segment in axis for f in segment]
      nodes_of_axis = dict.fromkeys(f.node for f in found if f.node)
      numbers = {node: k for k, node in enumerate(nodes_of_axis)}
      for factor in found:
        if factor.node is None:
          continue
        part = f".{numbers[factor.node]}" if len(numbers) > 1 else ""
        names = uses.setdefault(factor.node, {})
        names[_unknown(factor)] = p.axis_name(i) + part
  nodes = {node: _found(solution, node, names) for node, names in uses.items()}
  builder = _Builder(solution, interpreter, nodes)
  entries = [
    builder.axes(p, axes) for p, axes in zip(parameters, resolved, strict=True)
  ]
  return SymmetrySpec(
    builder.spaces(), jax.tree.unflatten(structure, entries), builder.fixed
  )


def _unknown(factor: Factor) -> int:
  """The unknown exponent of a factor of an axis of a parameter."""
  (unknown,) = factor.power
  return unknown


def _found(solution: _Solution, node: Node, names: Mapping[int, str]) -> _Found:
  groups, powers = solution.multipliers(node, {*names})
  roles = {unknown: solution.role(unknown) for unknown in names}
  first = min(names, key=solution.rank)
  sends = [solution.order(u) for u, r in roles.items() if r == "sends"]
  order = min(sends, default=float("inf"))
  if node.fixed and not groups:
    space, axes = Space(node.size), {}
  elif node.fixed or not _is_single(groups, powers, roles):
    space = Space(
      node.size, ("permutation",), tuple(groups), permuted=not node.fixed
    )
    axes = {
      u: Axis(names[first], tuple(map(_number, powers[u])), roles[u])
      for u in names
    }
  else:
    space = Space(node.size, (*groups, "permutation")[:1])
    axes = {
      u: Axis(
        names[first],
        0 if powers[u] == (0,) else _direction(roles[u]),
        "" if _is_said(powers[u], roles[u]) else roles[u],
      )
      for u in names
    }
  return _Found(names[first], space, axes, order)


def _is_said(powers: tuple[Fraction, ...], role: str) -> bool:
  """Whether the power of an axis says its role."""
  return powers != (0,) and role in ("receives", "sends")


def _direction(role: str) -> int:
  return -1 if role == "sends" else 1


def _is_single(
  groups: Sequence[str],
  powers: Mapping[int, tuple[Fraction, ...]],
  roles: Mapping[int, str],
) -> bool:
  """Whether one multiplier, or none, acts as the roles of all axes say."""
  if groups == ["scale"]:
    return all(
      power in (0, _direction(roles[u])) for u, (power,) in powers.items()
    )
  return len(groups) < 2


def _number(value: Fraction | int) -> Fraction | int:
  return int(value) if value == int(value) else value


class _Builder:
  """Makes the entries of a spec.

  Attributes:
    fixed: {axis: why nothing acts on it}.
  """

  def __init__(
    self,
    solution: _Solution,
    interpreter: Interpreter,
    nodes: Mapping[Node, _Found],
  ):
    self.fixed: dict[str, str] = {}
    self._solution = solution
    self._interpreter = interpreter
    self._nodes = nodes
    self._inputs: dict[str, Space] = {}
    self._outputs: dict[str, Space] = {}
    self._names: dict[Any, str] = {}
    self._last: set[str] = set()

  def spaces(self) -> dict[str, Space]:
    """All spaces: inputs, hidden ones in order, those of the outputs last."""
    hidden = [f for f in self._nodes.values() if not f.space.fixed]
    hidden.sort(key=lambda found: found.order)
    last = sorted(self._outputs, key=lambda name: name in self._last)
    return {
      **self._inputs,
      **{found.name: found.space for found in hidden},
      **{name: self._outputs[name] for name in last},
    }

  def axes(
    self, parameter: Parameter, resolved: Sequence[factors.Axis]
  ) -> Axes:
    """The entry of one parameter."""
    lonely = self._single_neurons(parameter)
    return Axes(
      tuple(
        self._axis(parameter, i, axis, lonely.get(i))
        for i, axis in enumerate(resolved)
      )
    )

  def _axis(
    self,
    parameter: Parameter,
    position: int,
    axis: factors.Axis,
    lonely: str | None,
  ) -> Axis | Split | None:
    unknown = parameter.unknowns[position]
    name = parameter.axis_name(position)
    parts = [[self._part(factor) for factor in segment] for segment in axis]
    for segment in axis:
      for factor in segment:
        if factor.node and self._nodes[factor.node].space.fixed:
          self.fixed.setdefault(name, factor.node.fixed)
    if any(isinstance(part, Axis) for segment in parts for part in segment):
      if len(parts) == 1 and len(parts[0]) == 1:
        (((only,),)) = parts
        return only if isinstance(only, Axis) else None
      return Split(tuple(_joined(parts)))
    role = lonely or self._solution.role(unknown)
    if role not in ("receives", "sends"):
      return None
    size = factors.axis_size(axis)
    if size == 1:
      if lonely is None:
        return None
      result = self._fixed_axis(role, role, f"one that {role}", 1)
      if role == "receives" and not self._interpreter.outputs:
        self._last.add(result.space)
      return result
    nodes = tuple(f.node for segment in axis for f in segment)
    # Axes of positions alone have no node; those of one size share a space.
    result = self._fixed_axis((*nodes, size), role, name, size)
    ends = {leaf for n in self._interpreter.outputs for leaf in n.leaves()}
    if not ends.isdisjoint(nodes):
      self._last.add(result.space)
    return result

  def _part(self, factor: Factor) -> Axis | int:
    found = self._nodes[factor.node] if factor.node else None
    if found is None or found.space.fixed:
      return factor.size
    return found.axes[_unknown(factor)]

  def _fixed_axis(self, key: Any, role: str, name: str, size: int) -> Axis:
    """An axis of a space on which nothing acts."""
    name = self._names.setdefault(key, name)
    receives = role == "receives"
    if name in self._inputs and receives:
      del self._inputs[name]
    if name not in self._outputs:
      (self._outputs if receives else self._inputs)[name] = Space(size)
    return Axis(name, 1 if receives else -1)

  def _single_neurons(self, parameter: Parameter) -> dict[int, str]:
    """{axis of size 1: its role}, where a kernel has one input or output."""
    sizes = [factors.axis_size(axis) for axis in parameter.axes]
    ones = [i for i, size in enumerate(sizes) if size == 1]
    if not ones:
      return {}
    roles = [
      self._solution.role(u)
      for u, size in zip(parameter.unknowns, sizes, strict=True)
      if size > 1
    ]
    if "sends" in roles:
      return {} if "receives" in roles else {ones[-1]: "receives"}
    if {*parameter.unknowns} & self._interpreter.one_sender:
      return {ones[-1]: "sends"}
    return {0: "receives"} if sizes == [1] else {}


def _joined(
  parts: Sequence[Sequence[Axis | int]],
) -> list[tuple[Axis | int, ...]]:
  """Segments with neighbouring positions as one number."""
  result: list[tuple[Axis | int, ...]] = []
  fixed = 0  # size of the last segments, on which nothing acts

  for segment in parts:
    merged: list[Axis | int] = []
    for part in segment or (1,):
      before = merged[-1] if merged else None
      if isinstance(part, int) and isinstance(before, int):
        merged[-1] = before * part
      else:
        merged.append(part)
    size = merged[0] if len(merged) == 1 else None
    if isinstance(size, int):
      if fixed:
        result.pop()
      fixed += size
      result.append((fixed,))
    else:
      fixed = 0
      result.append(tuple(merged))
  return result
