"""Weights as parts of a graph, derived from a symmetry spec.

A *stage* is a set of activations that are permuted and scaled alike, the
vertices of a graph. Channels before and after a normalization are two stages of
one space. The queries of attention are a stage of two spaces, heads and
dimensions: its vertices are their pairs.

A *part* is a block of numbers of one weight. They are features of the vertices
of a stage, as a bias is; or of the edges that connect two stages, of all pairs
of vertices, as a kernel is; or of edges from each neuron in one stage to the
same neuron in another one, as the scale of a normalization is.

A spec says exactly how the numbers transform, and with less certainty what
sends and what receives. Whatever the choice of the ends here, the features of a
part carry the multipliers of its ends.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Axes, Axis, Space, Split, SymmetrySpec, Weights
from scalegmn_jax.symmetry import spec as specs

Powers = tuple[int | Fraction, ...]
"""Exponents of the multipliers of a space, those of signs 0 or 1. Empty for a
space without multipliers."""

_MOST_FEATURES = 64
"""Features per vertex that one weight may become. A weight with more positions,
such as an embedding of many tokens, connects vertices of its own."""


class Stage(NamedTuple):
  """Activations that are permuted and scaled alike.

  Attributes:
    spaces: names of the spaces whose product the vertices are, major to minor.
      Empty for positions of a weight that no space indexes.
    powers: of the multiplier of a vertex, for each space.
    shape: numbers of neurons of each space.
    weight: name of the weight whose positions the vertices are, or empty.
  """

  spaces: tuple[str, ...]
  powers: tuple[Powers, ...]
  shape: tuple[int, ...]
  weight: str = ""

  @property
  def size(self) -> int:
    """Number of vertices."""
    return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Part:
  """A block of numbers of one weight, and its ends in the graph.

  Attributes:
    leaf: position among the leaves of the weights.
    whole: the shape of the weight, with repeats of the block along an axis as
      an axis of their own.
    index: of the block within the weight; empty for all of it.
    shape: of the block, with an axis per space.
    senders: axes of `shape`, the spaces of `sender` in order; empty for a bias.
    receivers: axes of `shape`, the spaces of `receiver` in order.
    sender: None for a bias.
    receiver: the stage whose vertices have the numbers as features, or at which
      the edges end.
  """

  leaf: int
  whole: tuple[int, ...]
  index: tuple[slice, ...]
  shape: tuple[int, ...]
  senders: tuple[int, ...]
  receivers: tuple[int, ...]
  sender: Stage | None
  receiver: Stage

  @property
  def shared(self) -> tuple[int, ...]:
    """Axes at both ends: edges stay within a group of a grouped kernel."""
    return tuple(i for i in self.senders if i in self.receivers)

  @property
  def diagonal(self) -> bool:
    """Whether edges lead from each neuron to itself."""
    return self.sender is not None and self.senders == self.receivers

  @property
  def ends(self) -> tuple[int, ...]:
    """Axes that count edges, or vertices of a bias; groups, then senders."""
    return tuple(dict.fromkeys(self.shared + self.senders + self.receivers))

  @property
  def width(self) -> int:
    """Numbers per edge or vertex, h·w for the kernel of a convolution."""
    return math.prod(self.shape) // math.prod(self.shape[i] for i in self.ends)

  def take(self, leaf: jax.Array) -> jax.Array:
    """The numbers of a weight in this part, an array of `shape`."""
    if self.index:
      leaf = leaf.reshape(self.whole)[self.index]
    return leaf.reshape(self.shape)

  def by_group(self, rows: Any, axes: Sequence[int]) -> Any:
    """Rows of the vertices of an end as [groups, vertices of a group, ...].

    Args:
      rows: [n, ...], an array of jax or numpy.
      axes: `senders` or `receivers`.
    """
    shape, order = self._group_order(axes, rows.ndim)
    if order != sorted(order):
      rows = rows.reshape(*shape, *rows.shape[1:]).transpose(order)
      rows = rows.reshape(-1, *rows.shape[len(shape) :])
    count = math.prod(self.shape[i] for i in self.shared)
    return rows.reshape(count, -1, *rows.shape[1:])

  def from_groups(self, groups: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Inverse of `by_group`."""
    rows = groups.reshape(-1, *groups.shape[2:])
    shape, order = self._group_order(axes, rows.ndim)
    if order != sorted(order):
      grouped = [shape[i] for i in order[: len(shape)]]
      back = sorted(range(len(order)), key=lambda i: order[i])
      rows = rows.reshape(*grouped, *rows.shape[1:]).transpose(back)
      rows = rows.reshape(-1, *rows.shape[len(shape) :])
    return rows

  def _group_order(
    self, axes: Sequence[int], ndim: int
  ) -> tuple[list[int], list[int]]:
    """(sizes of the spaces of an end, the order with groups first)."""
    first = [axes.index(i) for i in self.shared]
    rest = [n for n, i in enumerate(axes) if i not in self.shared]
    others = range(len(axes), len(axes) + ndim - 1)
    return [self.shape[i] for i in axes], [*first, *rest, *others]

  def put(self, leaf: jax.Array | None, rows: jax.Array) -> jax.Array:
    """The inverse of `take` and of `rows` along `ends`.

    Args:
      leaf: see `put_block`.
      rows: the numbers of this part.
    """
    rest = [n for i, n in enumerate(self.shape) if i not in self.ends]
    block = rows.reshape([*(self.shape[i] for i in self.ends), *rest])
    block = jnp.moveaxis(block, tuple(range(len(self.ends))), self.ends)
    return self.put_block(leaf, block)

  def put_block(self, leaf: jax.Array | None, block: jax.Array) -> jax.Array:
    """The inverse of `take`.

    Args:
      leaf: the weight with all earlier parts of it, None for the first one.
      block: the numbers of this part, an array of `shape`.

    Returns:
      The weight, perhaps in another shape; the numbers of other parts stay as
      they are.
    """
    if not self.index:
      return block
    if leaf is None:
      leaf = jnp.zeros(self.whole, block.dtype)
    leaf = leaf.reshape(self.whole)
    return leaf.at[self.index].set(block.reshape(leaf[self.index].shape))

  def along(self, vector: jax.Array, axes: Sequence[int]) -> jax.Array:
    """A number per vertex of an end, shaped to multiply an array of `shape`.

    Args:
      vector: [n].
      axes: `senders` or `receivers`.
    """
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    if order != list(range(len(axes))):
      vector = vector.reshape([self.shape[i] for i in axes]).transpose(order)
    return vector.reshape(
      [n if i in axes else 1 for i, n in enumerate(self.shape)]
    )

  def rows(self, block: jax.Array, axes: Sequence[int]) -> jax.Array:
    """An array of `shape` as a row per index along some axes: [n, rest]."""
    count = math.prod(self.shape[i] for i in axes)
    return jnp.moveaxis(block, tuple(axes), tuple(range(len(axes)))).reshape(
      count, -1
    )


def parts_of(spec: SymmetrySpec, shapes: Weights) -> list[Part]:
  """All weights as parts, in the order of their leaves.

  Args:
    spec: the symmetry.
    shapes: the weights as a pytree of `jax.ShapeDtypeStruct`.
  """
  pieces = [
    piece
    for leaf, (name, weight, axes) in enumerate(specs.leaves(spec, shapes))
    for piece in _pieces(spec, leaf, name, weight.shape, axes)
  ]
  return _Stages(spec, pieces).parts()


class _PieceAxis(NamedTuple):
  """An axis of a piece.

  Attributes:
    size: of the axis.
    space: that indexes it, empty for positions.
    powers: of its multipliers.
    role: see `base.Axis`.
    hidden: whether a group acts on the space.
    position: of the axis of the weight that this one is, or is a factor of.
  """

  size: int
  space: str
  powers: Powers
  role: str
  hidden: bool
  position: int


class _Piece(NamedTuple):
  """A block of one weight in which every axis is of one space or of positions.

  Attributes:
    leaf, whole, index: see `Part`.
    name: of the weight.
    axes: of the block.
  """

  leaf: int
  whole: tuple[int, ...]
  index: tuple[slice, ...]
  name: str
  axes: tuple[_PieceAxis, ...]


def _pieces(
  spec: SymmetrySpec,
  leaf: int,
  name: str,
  shape: Sequence[int],
  axes: Axes,
) -> Iterator[_Piece]:
  """One piece per combination of the segments of split axes."""
  whole, choices = [], []
  for position, (axis, size) in enumerate(zip(axes.axes, shape, strict=True)):
    segments: Sequence[tuple[Axis | int, ...]]
    if isinstance(axis, Split):
      segments = axis.segments
    else:
      segments = [(size,) if axis is None else (axis,)]
    repeats = _repeats(segments)
    found = _segments(spec, segments[: len(segments) // repeats], position)
    if repeats > 1:
      whole.append(repeats)
      choices.append([(slice(None), [_positions_axis(repeats, position)])])
    whole.append(size // repeats)
    choices.append(found)
  one = all(len(segments) == 1 for segments in choices)
  for chosen in itertools.product(*choices):
    index = () if one else tuple(part for part, _ in chosen)
    factors = tuple(axis for _, segment in chosen for axis in segment)
    yield _Piece(leaf, tuple(whole), index, name, factors)


def _repeats(segments: Sequence[tuple[Axis | int, ...]]) -> int:
  """How often the shortest sequence of segments follows itself.

  The positions of a flattened image are repeats of its channels.
  """
  count = len(segments)
  return next(
    count // period
    for period in range(1, count + 1)
    if count % period == 0
    and all(segments[i] == segments[i % period] for i in range(count))
  )


def _segments(
  spec: SymmetrySpec,
  segments: Sequence[tuple[Axis | int, ...]],
  position: int,
) -> list[tuple[slice, list[_PieceAxis]]]:
  """(indices along the axis, its factors) for each segment of an axis.

  Equal segments that follow each other are one, with their number as positions.
  """
  found, start = [], 0
  for segment, group in itertools.groupby(segments):
    count = len(list(group))
    stop = start + count * math.prod(specs.segment_sizes(spec, segment))
    factors = [_factor(spec, entry, position) for entry in segment]
    if count > 1:
      factors.insert(0, _positions_axis(count, position))
    found.append((slice(start, stop), factors))
    start = stop
  return found


def _positions_axis(size: int, position: int) -> _PieceAxis:
  return _PieceAxis(size, "", (), "", False, position)


def _factor(spec: SymmetrySpec, entry: Axis | int, position: int) -> _PieceAxis:
  if isinstance(entry, int):
    return _positions_axis(entry, position)
  space = spec.spaces[entry.space]
  role = entry.role or ("sends" if entry.power == -1 else "receives")
  powers = entry.power if isinstance(entry.power, tuple) else (entry.power,)
  return _PieceAxis(
    int(space.size),
    entry.space,
    _reduced(space, powers),
    role,
    not space.fixed,
    position,
  )


def _signs(space: Space) -> tuple[bool, ...]:
  """Whether each multiplier of a space is a sign, for all activations."""
  if space.multipliers:
    return tuple(group == "sign" for group in space.multipliers)
  groups = {*space.groups} - {"permutation"}
  return (groups == {"sign"},) if groups else ()


def _reduced(space: Space, powers: Powers) -> Powers:
  """Exponents of signs modulo 2, none for a space without multipliers."""
  are_signs = _signs(space)
  if not are_signs:
    return ()
  return tuple(
    p % 2 if sign else p for p, sign in zip(powers, are_signs, strict=True)
  )


class _Ends(NamedTuple):
  """The ends of a piece, see `Part`."""

  senders: tuple[int, ...]
  receivers: tuple[int, ...]
  sender: Stage | None
  receiver: Stage


class _Stages:
  """The stages of all spaces, and the ends of all pieces among them."""

  def __init__(self, spec: SymmetrySpec, pieces: Sequence[_Piece]):
    self._spec = spec
    self._pieces = pieces
    self._order = {name: i for i, name in enumerate(spec.spaces)}
    # {spaces: the powers of their stages}, in the order in which they are found
    self._found: dict[tuple[str, ...], dict[tuple[Powers, ...], None]] = {}
    # A weight with two ends shows the stages at both of them. Those that are
    # written come first.
    self._kernels = self._grouped(
      {
        number: self._kernel(piece)
        for number, piece in enumerate(pieces)
        if all(self._sides(piece.axes))
      }
    )
    for side in ("receiver", "sender"):
      for kernel in self._kernels.values():
        stage: Stage = getattr(kernel, side)
        self._found.setdefault(stage.spaces, {})[stage.powers] = None

  def parts(self) -> list[Part]:
    """The pieces with their ends, in order."""
    parts: dict[int, Part] = {}
    # Kernels show stages that biases and scales, which come last, refer to.
    for number in sorted(
      range(len(self._pieces)), key=lambda n: _precedence(self._pieces[n])
    ):
      piece = self._directed(self._pieces[number])
      kernel = self._kernels.get(number) or self._part(piece)
      parts[number] = Part(
        leaf=piece.leaf,
        whole=piece.whole,
        index=piece.index,
        shape=tuple(axis.size for axis in piece.axes),
        **kernel._asdict(),
      )
    return [parts[number] for number in range(len(parts))]

  def _kernel(self, piece: _Piece) -> "_Ends":
    senders, receivers = self._sides(piece.axes)
    sender = self._stage(piece, senders, negated=True)
    return _Ends(senders, receivers, sender, self._stage(piece, receivers))

  def _sides(
    self, axes: Sequence[_PieceAxis]
  ) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes (that send, that receive or scale), spaces in their order.

    An axis of a fixed space is an end of its own, unless a group acts on
    another axis of that side: then it holds positions.
    """

    def side(sends: bool) -> tuple[int, ...]:
      ours = [
        i
        for i, axis in enumerate(axes)
        if axis.space and (axis.role == "sends") == sends
      ]
      acted_on = [i for i in ours if axes[i].hidden]
      return tuple(
        sorted(acted_on or ours, key=lambda i: self._order[axes[i].space])
      )

    return side(True), side(False)

  def _directed(self, piece: _Piece) -> _Piece:
    """A piece that seems to receive only, with axes that rather send.

    They are those whose exponents are the negative of a known stage, or the
    first ones of several axes that are no stage together.
    """
    senders, receivers = self._sides(piece.axes)
    axes = list(piece.axes)
    if senders or any(axes[i].role != "receives" for i in receivers):
      return piece
    by_axis = {
      position: [i for i in receivers if axes[i].position == position]
      for position in dict.fromkeys(axes[i].position for i in receivers)
    }
    sending = [
      factors
      for factors in by_axis.values()
      if not self._is_known(axes, factors)
      and self._is_known(axes, factors, negated=True)
    ]
    if not sending and len(by_axis) > 1 and not self._is_known(axes, receivers):
      sending = list(by_axis.values())[:1]
    for i in itertools.chain(*sending):
      axes[i] = axes[i]._replace(role="sends")
    return piece._replace(axes=tuple(axes))

  def _is_known(
    self,
    axes: Sequence[_PieceAxis],
    factors: Sequence[int],
    *,
    negated: bool = False,
  ) -> bool:
    known = self._found.get(tuple(axes[i].space for i in factors), {})
    return self._powers(axes, factors, negated=negated) in known

  def _powers(
    self,
    axes: Sequence[_PieceAxis],
    factors: Sequence[int],
    *,
    negated: bool = False,
  ) -> tuple[Powers, ...]:
    """The exponents at some axes; of the stage that they read if negated."""
    return tuple(
      self._reduced(
        axes[i].space, (-p if negated else p for p in axes[i].powers)
      )
      for i in factors
    )

  def _reduced(self, space: str, powers: Iterator[Any]) -> Powers:
    return _reduced(self._spec.spaces[space], tuple(powers))

  def _stage(
    self, piece: _Piece, factors: Sequence[int], *, negated: bool = False
  ) -> Stage:
    """The stage at some axes of a piece."""
    axes = [piece.axes[i] for i in factors]
    spaces = tuple(axis.space for axis in axes)
    powers = self._powers(piece.axes, factors, negated=negated)
    return Stage(spaces, powers, tuple(axis.size for axis in axes))

  def _grouped(self, kernels: dict[int, _Ends]) -> dict[int, _Ends]:
    """Kernels that seem to read a part of a stage, as grouped kernels.

    The kernel of a grouped convolution has channels of one group on its sending
    side, groups × channels on the other. Nothing writes to the channels alone:
    it reads groups × channels and stays within each group.
    """
    kernels, grouped = dict(kernels), True
    left = list(kernels)
    while grouped:
      written = dict.fromkeys(ends.receiver for ends in kernels.values())
      grouped = False
      for number in left:
        ends = kernels[number]
        if ends.sender in written:
          continue
        read = next((s for s in written if _reads_part_of(ends, s)), None)
        if read is not None:
          kernels[number], grouped = self._within_groups(ends, read), True
          left.remove(number)
          break
    return kernels

  def _within_groups(self, ends: _Ends, read: Stage) -> _Ends:
    """A kernel that reads a stage whose other spaces it keeps."""
    assert ends.sender is not None
    axis_of = {
      **dict(zip(ends.receiver.spaces, ends.receivers, strict=True)),
      **dict(zip(ends.sender.spaces, ends.senders, strict=True)),
    }
    before = {
      name: powers
      for name, powers in zip(read.spaces, read.powers, strict=True)
      if name not in ends.sender.spaces
    }
    powers = tuple(
      self._reduced(name, (x + y for x, y in zip(p, before[name], strict=True)))
      if name in before
      else p
      for name, p in zip(
        ends.receiver.spaces, ends.receiver.powers, strict=True
      )
    )
    return _Ends(
      tuple(axis_of[name] for name in read.spaces),
      ends.receivers,
      read,
      ends.receiver._replace(powers=powers),
    )

  def _part(self, piece: _Piece) -> "_Ends":
    """The ends of a piece, whose stages are from now on known."""
    ends = self._chosen(piece)
    for stage in (ends.receiver, ends.sender):
      if stage is not None and stage.spaces:
        self._found.setdefault(stage.spaces, {})[stage.powers] = None
    return ends

  def _chosen(self, piece: _Piece) -> "_Ends":
    senders, receivers = self._sides(piece.axes)
    acting = any(axis.hidden for axis in piece.axes)
    others = tuple(
      i for i in range(len(piece.axes)) if i not in senders + receivers
    )
    shape = tuple(axis.size for axis in piece.axes)
    if not receivers and not acting:
      # Numbers on which nothing acts, such as a temperature.
      senders, receivers = (), senders
    if senders and receivers:
      return self._kernel(piece)
    if senders:
      sender = self._stage(piece, senders, negated=True)
      receivers, receiver = others, _positions(piece, others)
    elif not receivers:
      receivers, receiver = others, _positions(piece, others)
      sender = None
    elif pair := self._scaled(piece, receivers):
      sender, receiver = pair
      senders = receivers
    else:
      sender, receiver = None, self._stage(piece, receivers)
      if math.prod(shape[i] for i in others) > _MOST_FEATURES:
        # Repeats along the axis of the receivers are features.
        theirs = {piece.axes[i].position for i in receivers}
        senders = tuple(
          i for i in others if piece.axes[i].position not in theirs
        )
        senders = senders or others
        sender = _positions(piece, senders)
    return _Ends(senders, receivers, sender, receiver)

  def _scaled(
    self, piece: _Piece, factors: Sequence[int]
  ) -> tuple[Stage, Stage] | None:
    """The stages between which a weight per neuron leads.

    They are two whose exponents differ by those of the weight, or twice the
    first one for a weight on which no multiplier acts. None for a bias.
    """
    axes = [piece.axes[i] for i in factors]
    spaces = tuple(axis.space for axis in axes)
    powers = self._powers(piece.axes, factors)
    known = self._found.get(spaces, {})
    if not any(axis.role == "scales" for axis in axes):
      positions = math.prod(axis.size for axis in piece.axes) // math.prod(
        axis.size for axis in axes
      )
      # A kernel that is normalized before it is used has many.
      most = 1 if any(map(any, powers)) else _MOST_FEATURES
      if powers in known or positions > most:
        return None
    for before, after in itertools.product(known, known):
      difference = tuple(
        self._reduced(name, (y - x for x, y in zip(a, b, strict=True)))
        for name, a, b in zip(spaces, before, after, strict=True)
      )
      if difference == powers:
        shape = tuple(axis.size for axis in axes)
        return Stage(spaces, before, shape), Stage(spaces, after, shape)
    return None


def _reads_part_of(ends: _Ends, stage: Stage) -> bool:
  """Whether a kernel reads a stage but for some spaces that it writes to."""
  assert ends.sender is not None
  spaces, receiving = ends.sender.spaces, ends.receiver.spaces
  for names in (spaces, receiving, stage.spaces):
    if len({*names}) < len(names):
      return False
  missing = {*stage.spaces} - {*spaces}
  powers = dict(zip(stage.spaces, stage.powers, strict=True))
  return (
    stage != ends.receiver
    and 0 < len(missing) == len(stage.spaces) - len(spaces)
    and missing <= {*receiving}
    and all(
      powers[name] == power
      for name, power in zip(spaces, ends.sender.powers, strict=True)
    )
  )


def _precedence(piece: _Piece) -> int:
  acting = [axis for axis in piece.axes if axis.hidden]
  if any(axis.role == "scales" for axis in acting):
    return 2
  if not any(any(axis.powers) for axis in acting):
    return 2
  positions = math.prod(axis.size for axis in piece.axes if not axis.hidden)
  return 1 if positions == 1 else 0


def _positions(piece: _Piece, axes: Sequence[int]) -> Stage:
  """A stage of the positions along some axes, on which nothing acts."""
  shape = tuple(piece.axes[i].size for i in axes)
  return Stage((), (), shape, piece.name)
