"""Axes of arrays as sums of products of index sets that groups act on.

An axis of an array is a sequence of *segments*, one after the other, and a
segment is a product of *factors*, major to minor: after a flattening, 49
positions times 16 channels; after a concatenation, 16 channels and then 8. A
factor is either a set of *positions*, on which nothing acts, or a *node*: a set
of indices that are permuted, and multiplied by powers of multipliers. Nodes
that have to transform alike are united (union-find); a node of which only a
part is needed is split, into factors or segments, and every axis that has it
is split with it.

The power of a multiplier is a linear expression of unknown exponents. A node
that is split into factors leaves its unknowns to both, with the same equations.
A node that is split into segments leaves each of them a copy of its unknowns:
the segments may be united later (heads of queries and keys in one kernel), and
have exponents of their own.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scalegmn_jax.symmetry.trace.equations import Expression, total

MOST_COPIES = 64
"""The most copies of a split index set in one axis. An axis with more of them
is fixed: the copies are separate segments."""


class Node:
  """A set of indices that a permutation and multipliers act on.

  Attributes:
    size: number of indices.
    parent: the node with which it was united, or None.
    parts: the segments of a split node; or None.
    fixed: why the indices are not permuted; "" where they are.
  """

  __slots__ = ("fixed", "parent", "parts", "size")

  def __init__(self, size: int, fixed: str = ""):
    self.size = int(size)
    self.fixed = fixed
    self.parent: Node | None = None
    self.parts: tuple[Part, ...] | None = None

  def root(self) -> "Node":
    """The node that stands for all that are united with this one."""
    node = self
    while node.parent is not None:
      if node.parent.parent is not None:
        node.parent = node.parent.parent
      node = node.parent
    return node

  def leaves(self) -> list["Node"]:
    """The roots of the nodes into which it was split, each once."""
    root = self.root()
    if root.parts is None:
      return [root]
    nodes = [node for part in root.parts for node in part.nodes]
    return list(dict.fromkeys(leaf for n in nodes for leaf in n.leaves()))


class Part(NamedTuple):
  """A segment of a split node.

  Attributes:
    nodes: their product, major to minor.
    copy: number of its copies of unknowns; None for the only segment.
  """

  nodes: tuple[Node, ...]
  copy: int | None = None


class Factor(NamedTuple):
  """A factor of a segment: x' = q**power · x along it, then permuted.

  Attributes:
    size: number of indices.
    node: the index set; None for positions.
    power: exponent of the multipliers of the node.
  """

  size: int
  node: Node | None
  power: Expression


Segment = tuple[Factor, ...]
Axis = tuple[Segment, ...]

POSITIVE, SIGN = 1, 2
"""What an equation is about: exponents of positive multipliers, or the parity
of the exponents of signs."""


class Equation(NamedTuple):
  """power = 0 for the multipliers of a node; `kinds` is POSITIVE | SIGN."""

  node: Node
  power: Expression
  kinds: int


def size_of(segment: Sequence[Factor]) -> int:
  """Number of indices of a segment."""
  return math.prod(factor.size for factor in segment)


def axis_size(axis: Axis) -> int:
  """Number of indices of an axis."""
  return sum(map(size_of, axis))


def positions(size: int) -> Axis:
  """An axis on which nothing acts."""
  return (_positions(size),) if size else ()


def variable(size: int, power: Expression | None = None) -> Axis:
  """An axis with a node of its own."""
  if size < 2:
    return positions(size)
  node = Node(size)
  return ((Factor(node.size, node, power or {}),),)


def _positions(size: int) -> Segment:
  return (Factor(int(size), None, {}),) if size > 1 else ()


def _is_fixed(segment: Segment) -> bool:
  return all(factor.node is None for factor in segment)


def _merged(segments: Sequence[Segment]) -> Axis:
  """Joins neighbouring positions, in products and in sums."""
  result: list[Segment] = []
  for segment in segments:
    factors: list[Factor] = []
    for factor in segment:
      if factor.node is None and factors and factors[-1].node is None:
        factor = Factor(factor.size * factors.pop().size, None, {})
      factors.append(factor)
    if result and _is_fixed(segment) and _is_fixed(result[-1]):
      size = size_of(result.pop()) + size_of(segment)
      result.append(_positions(size))
    else:
      result.append(tuple(factors))
  return tuple(result)


class Ledger:
  """What is known of all nodes: the equations, and how axes meet.

  Attributes:
    equations: of the exponents.
    unknowns: number of unknown exponents.
    originals: {copy of an unknown: the unknown}.
  """

  def __init__(self):
    self.equations: list[Equation] = []
    self.unknowns = 0
    self.originals: dict[int, int] = {}
    self._copies: dict[tuple[int, int], int] = {}
    self._parts_with_copies = 0

  def unknown(self) -> Expression:
    """A new unknown exponent."""
    self.unknowns += 1
    return {self.unknowns - 1: 1}

  def _copied(self, power: Expression, copy: int | None) -> Expression:
    """The power in terms of the unknowns of one segment of a split node."""
    if copy is None:
      return power
    result = {}
    for unknown, c in power.items():
      if (unknown, copy) not in self._copies:
        ((new, _),) = self.unknown().items()
        self._copies[unknown, copy] = new
        self.originals[new] = unknown
      result[self._copies[unknown, copy]] = c
    return result

  def placed(
    self, node: Node, power: Expression
  ) -> Iterator[tuple[Node, Expression]]:
    """(node, power) for the parts of a node that are not split, as resolved."""
    root = node.root()
    if root.parts is None:
      yield root, power
      return
    for part in root.parts:
      for n in part.nodes:
        yield from self.placed(n, self._copied(power, part.copy))

  def require_zero(
    self, node: Node | None, power: Expression, kinds: int = POSITIVE | SIGN
  ) -> None:
    """Adds the equation power = 0 for the multipliers of a node."""
    if node is not None and power:
      self.equations.append(Equation(node, power, kinds))

  def fix(self, node: Node, reason: str) -> None:
    """The indices of a node are not permuted."""
    for leaf in node.leaves():
      leaf.fixed = leaf.fixed or reason

  def freeze(self, axis: Axis, reason: str) -> Axis:
    """Nothing acts on an axis: it becomes positions."""
    for segment in axis:
      for node, power in ((f.node, f.power) for f in segment):
        if node is not None:
          self.fix(node, reason)
          self.require_zero(node, power)
    return positions(axis_size(axis))

  def resolve(self, axis: Axis) -> Axis:
    """The axis with split nodes replaced by their parts."""
    return _merged(self._split(axis))

  def _split(self, axis: Axis) -> list[Segment]:
    return [
      part
      for segment in axis
      for part in self._product([self._parts(factor) for factor in segment])
    ]

  def _parts(self, factor: Factor) -> list[Segment]:
    if factor.node is None:
      return [(factor,)]
    root = factor.node.root()
    if root.parts is None:
      if root.size == 1:
        self.require_zero(root, factor.power)
        return [()]
      if root.fixed and not factor.power:
        return [_positions(root.size)]
      return [(factor._replace(node=root),)]
    return [
      piece
      for part in root.parts
      for piece in self._product(
        [
          self._parts(Factor(n.size, n, self._copied(factor.power, part.copy)))
          for n in part.nodes
        ]
      )
    ]

  def _product(self, options: Sequence[Sequence[Segment]]) -> list[Segment]:
    """The product of axes, major to minor, as segments."""
    result: list[Segment] = [()]
    for segments in options:
      if len(segments) == 1:
        result = [segment + segments[0] for segment in result]
      elif result == [()]:
        result = list(segments)
      elif repeated := self._repeated(segments):
        result = [segment + repeated for segment in result]
      else:
        count = axis_size(tuple(result))
        self.freeze(tuple(result), "an axis of several parts is repeated")
        if count > MOST_COPIES:
          self.freeze(tuple(segments), "an axis of several parts is repeated")
          result = [_positions(count * axis_size(tuple(segments)))]
        else:
          result = list(segments) * count
    return result

  def _repeated(self, segments: Sequence[Segment]) -> Segment | None:
    """Copies of one segment as a product of positions and the segment.

    The halves of the dimensions of a head that are rotated by one angle.
    """
    first, *others = segments
    nodes = [f.node for f in first]
    if not any(nodes) or any([f.node for f in s] != nodes for s in others):
      return None
    if any([f.size for f in s] != [f.size for f in first] for s in others):
      return None
    for other in others:
      for f, g in zip(first, other, strict=True):
        self._equal_power(f.node, f.power, g.power)
    return _positions(len(segments)) + first

  def product(self, axes: Sequence[Axis]) -> Axis:
    """The axis whose index is that of all axes, major to minor."""
    return _merged(self._product([self.resolve(axis) for axis in axes]))

  def cut(self, axis: Axis, offset: int) -> tuple[Axis, Axis]:
    """The indices before and from an offset."""
    left: list[Segment] = []
    right: list[Segment] = []
    start = 0
    for segment in self._split(axis):
      end = start + size_of(segment)
      if end <= offset:
        left.append(segment)
      elif start >= offset:
        right.append(segment)
      else:
        before, after = self._cut_segment(segment, offset - start)
        left += before
        right += after
      start = end
    return tuple(left), tuple(right)

  def _cut_segment(
    self, segment: Segment, offset: int
  ) -> tuple[list[Segment], list[Segment]]:
    first, rest = segment[0], segment[1:]
    whole, part = divmod(offset, size_of(rest))
    if part:  # the cut is inside one of the copies of the minor factors
      self.freeze(((first,),), "an axis is cut inside a product")
      before, after = self._cut_segment(rest, part)
      left = [(*_positions(whole), *rest)] if whole else []
      others = first.size - whole - 1
      right = [(*_positions(others), *rest)] if others else []
      return left + before, after + right
    pieces = []
    sizes = (whole, first.size - whole)
    if first.node is None:
      pieces = [_positions(n) for n in sizes]
    else:
      nodes = [Node(n, first.node.fixed) for n in sizes]
      copies = [self._parts_with_copies + i for i in range(2)]
      self._parts_with_copies += 2
      first.node.parts = tuple(
        Part((node,), copy) for node, copy in zip(nodes, copies, strict=True)
      )
      pieces = [
        (Factor(node.size, node, self._copied(first.power, copy)),)
        for node, copy in zip(nodes, copies, strict=True)
      ]
    return [pieces[0] + rest], [pieces[1] + rest]

  def carve(self, axis: Axis, minor: int, reason: str) -> tuple[Axis, Axis]:
    """The axis as a product of two; the second has `minor` indices."""
    segments = self._split(axis)
    if axis_size(tuple(segments)) == minor:
      return ((),), tuple(segments)
    majors, minors, pending = [], [], segments
    while pending:
      # A node of this segment may have been split with an earlier one.
      segment, *others = self._split((pending[0],))
      pending = others + pending[1:]
      pair = self._carve_segment(segment, minor)
      if pair is None:
        size = axis_size(axis)
        self.freeze(axis, reason)
        return positions(size // minor), positions(minor)
      majors.append(pair[0])
      minors.append(pair[1])
    result: Axis = (minors[0],)
    for other in minors[1:]:
      result = self.equal(result, (other,), reason)
    return tuple(majors), result

  def _carve_segment(
    self, segment: Segment, minor: int
  ) -> tuple[Segment, Segment] | None:
    major, taken = list(segment), []
    while minor > 1:
      if not major:
        return None
      factor = major.pop()
      if minor % factor.size == 0:
        taken.insert(0, factor)
        minor //= factor.size
      elif factor.size % minor == 0:
        rest, last = self._halves(factor, minor)
        major.append(rest)
        taken.insert(0, last)
        minor = 1
      else:
        return None
    return tuple(major), tuple(taken)

  def _halves(self, factor: Factor, minor: int) -> tuple[Factor, Factor]:
    """Splits a factor into a product of two; the second has `minor` indices."""
    sizes = factor.size // minor, minor
    if factor.node is None:
      a, b = (Factor(int(n), None, {}) for n in sizes)
      return a, b
    root = factor.node.root()
    nodes = tuple(Node(n, root.fixed) for n in sizes)
    root.parts = (Part(nodes),)
    a, b = (Factor(n.size, n, factor.power) for n in nodes)
    return a, b

  def _aligned(
    self, a: Axis, b: Axis, reason: str
  ) -> list[tuple[Segment, Segment]]:
    """Two axes, split until segments and factors have the same sizes."""
    while True:
      a, b = tuple(self._split(a)), tuple(self._split(b))
      ends_a, ends_b = _ends(a), _ends(b)
      if missing := sorted(ends_a ^ ends_b):
        if missing[0] in ends_b:
          a = sum(self.cut(a, missing[0]), ())
        else:
          b = sum(self.cut(b, missing[0]), ())
        continue
      pairs = [self._refined(s, t, reason) for s, t in zip(a, b, strict=True)]
      a, b = (tuple(p[i] for p in pairs) for i in (0, 1))
      if all(
        [f.size for f in s] == [f.size for f in t] and _unsplit(s + t)
        for s, t in pairs
      ):
        return pairs

  def _refined(
    self, s: Segment, t: Segment, reason: str
  ) -> tuple[Segment, Segment]:
    """Splits the last factors that differ in size, in one of two segments."""
    if not _unsplit(s + t):
      return s, t
    for i in range(1, min(len(s), len(t)) + 1):
      m, n = s[-i].size, t[-i].size
      if m == n:
        continue
      if m % n == 0:
        return self._refine(s, i, n), t
      if n % m == 0:
        return s, self._refine(t, i, m)
      frozen = _positions(size_of(s[: len(s) - i + 1]))
      for segment in (s, t):
        self.freeze((segment[: len(segment) - i + 1],), reason)
      return frozen + s[len(s) - i + 1 :], frozen + t[len(t) - i + 1 :]
    return s, t

  def _refine(self, segment: Segment, i: int, minor: int) -> Segment:
    at = len(segment) - i
    halves = self._halves(segment[at], minor)
    return segment[:at] + halves + segment[at + 1 :]

  def meet(
    self, a: Axis, b: Axis, reason: str
  ) -> list[list[tuple[Factor, Factor]]]:
    """Two axes that transform by one permutation: pairs of their factors.

    Both factors of a pair have the node that stands for the united nodes.
    """
    result = []
    for s, t in self._aligned(a, b, reason):
      pairs = []
      for f, g in zip(s, t, strict=True):
        node = self._unite(f, g, reason)
        pairs.append((f._replace(node=node), g._replace(node=node)))
      result.append(pairs)
    return result

  def _unite(self, f: Factor, g: Factor, reason: str) -> Node | None:
    if f.node is None or g.node is None:
      node = f.node or g.node
      if node is not None:
        self.fix(node, reason)
      return node
    a, b = f.node.root(), g.node.root()
    if a is not b:
      a.fixed = a.fixed or b.fixed
      b.parent = a
    return a

  def equal(self, a: Axis, b: Axis, reason: str) -> Axis:
    """The axis of a sum: one permutation, equal exponents."""
    return self._combined(a, b, reason, self._equal_power)

  def _equal_power(self, node, p, q):
    self.require_zero(node, total(p, q, -1))
    return min(p, q, key=len)

  def added(self, a: Axis, b: Axis, reason: str, sign: int = 1) -> Axis:
    """The axis of a product (sign 1) or quotient (-1): exponents add."""
    return self._combined(a, b, reason, lambda node, p, q: total(p, q, sign))

  def contract(self, a: Axis, b: Axis, reason: str) -> None:
    """A sum over the axis of products: exponents cancel."""
    for pairs in self.meet(a, b, reason):
      for f, g in pairs:
        self.require_zero(f.node, total(f.power, g.power))

  def _combined(self, a: Axis, b: Axis, reason: str, combine) -> Axis:
    return _merged(
      [
        tuple(
          Factor(f.size, f.node, combine(f.node, f.power, g.power))
          for f, g in pairs
        )
        for pairs in self.meet(a, b, reason)
      ]
    )


def _ends(axis: Axis) -> set[int]:
  ends, end = set(), 0
  for segment in axis:
    end += size_of(segment)
    ends.add(end)
  return ends


def _unsplit(factors: Sequence[Factor]) -> bool:
  return all(f.node is None or f.node.root().parts is None for f in factors)
