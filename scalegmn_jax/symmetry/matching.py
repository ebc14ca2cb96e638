"""Which neuron of one network is which of another: linear assignments.

The element g of permutations and signs with the greatest Σ θ_a · (gθ_b), that
is the least ‖θ_a - gθ_b‖, is sought one space at a time: given the other
spaces, the best g of a space is a linear assignment (Ainsworth et al. 2023,
"Git Re-Basin", arXiv:2209.04836, section 3.2). Signs are part of it: the value
of a pair of neurons is the one with their best signs. All is done by numpy on
the host.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import Axis, SymmetrySpec, Weights
from scalegmn_jax.symmetry.gauge import parts
from scalegmn_jax.symmetry.spec import leaves

_PASSES = 100
"""The most passes over the spaces."""

_GAIN = 1e-7
"""The least gain of Σ θ_a · (gθ_b) that counts, in units of ‖θ_a‖ ‖θ_b‖
of the weights of a space."""

_UNMATCHED = 1e-3
"""Weight of sizes along spaces that are not matched yet, in the first pass. It
decides between neurons that the rest does not tell apart."""

_JOINT = 8
"""Signs of a neuron that are chosen jointly, at most."""


class Match(NamedTuple):
  """The neurons of one space.

  Attributes:
    order: [n], neuron i of a is neuron order[i] of b.
    signs: [M, n], -1 or 1, for each of the M multipliers of neuron i of a.
  """

  order: np.ndarray
  signs: np.ndarray


Matches = dict[str, Match]
"""{hidden space: `Match`}."""


class _Pair(NamedTuple):
  """A part of a weight of both networks; nothing of it is split.

  Attributes:
    a, b: arrays of one shape.
    entries: of their axes.
  """

  a: np.ndarray
  b: np.ndarray
  entries: tuple[Axis | None, ...]


Features = Mapping[str, Sequence[np.ndarray]]
"""{hidden space: features [n, F] of its neurons, of several sorts}."""


def match(
  spec: SymmetrySpec,
  groups: Mapping[str, Sequence[str]],
  a: Weights,
  b: Weights,
  features: tuple[Features, Features] | None = None,
) -> Matches:
  """Permutations and signs that bring the weights `b` close to `a`.

  The first pass goes from the inputs to the outputs, and compares neurons by
  weights to spaces that are matched already. Passes end when none of them
  brings the weights closer: a local optimum, which is the best one where `b`
  is in the orbit of `a` and neurons are told apart by their weights.

  Args:
    spec: the symmetry.
    groups: {hidden space: the group of each multiplier}.
    a, b: weights of two networks, numpy arrays, in the same gauge of positive
      multipliers. Running statistics are not compared.
    features: of the neurons of both, invariant under multipliers, which count
      as much as the weights of a space; None: weights alone.
  """
  return _Matching(spec, groups, a, b, features).run()


class _Matching:
  """See `match`."""

  def __init__(
    self,
    spec: SymmetrySpec,
    groups: Mapping[str, Sequence[str]],
    a: Weights,
    b: Weights,
    features: tuple[Features, Features] | None,
  ):
    self.groups = groups
    self.spaces: dict[str, list[_Pair]] = {name: [] for name in groups}
    for (_, x, axes), y in zip(
      leaves(spec, a), jax.tree.leaves(b), strict=True
    ):
      if axes.statistic:
        continue
      for (part_a, entries), (part_b, _) in zip(
        parts(spec, x, axes.axes), parts(spec, y, axes.axes), strict=True
      ):
        pair = _Pair(part_a, part_b, entries)
        for name in {axis.space for axis in entries if axis} & {*groups}:
          self.spaces[name].append(pair)
    sizes = {name: spec.spaces[name].size for name in groups}
    self.matches = {
      name: Match(np.arange(n), np.ones((len(groups[name]), n), np.int8))
      for name, n in sizes.items()
    }
    self.permuted = {n for n in groups if spec.spaces[n].permuted}
    self.norms = {
      name: math.sqrt(
        sum(float(np.vdot(p.a, p.a)) for p in pairs)
        * sum(float(np.vdot(p.b, p.b)) for p in pairs)
      )
      for name, pairs in self.spaces.items()
    }
    self.by_features = {
      name: np.zeros((n, n))
      if features is None
      else self.norms[name] * _agreement(*(f[name] for f in features))
      for name, n in sizes.items()
    }

  def run(self) -> Matches:
    known: dict[str, set[int]] = {}
    for name in self.groups:
      found = self.similarity(name, known)
      self.matches[name] = self.assign(name, found)
      known[name] = {m for odd, s in found.items() if s.any() for m in odd}
    changed = set(self.groups)
    for _ in range(_PASSES):
      before, changed = changed, set()
      for name in self.groups:
        # Nothing beside it has changed: the same assignment.
        if not self.beside(name) & (before | changed):
          continue
        old, value = self.matches[name], self.value(name)
        self.matches[name] = self.assign(name, self.similarity(name))
        if self.value(name) > value + _GAIN * self.norms[name]:
          changed.add(name)
        else:
          self.matches[name] = old
      if not changed:
        break
    return self.matches

  def beside(self, name: str) -> set[str]:
    """The spaces that share a weight with a space."""
    return {
      axis.space
      for pair in self.spaces[name]
      for axis in pair.entries
      if axis is not None
    }

  def along(self, b: np.ndarray, position: int, axis: Axis) -> np.ndarray:
    """The weights of `b` in the order and with the signs of `a`."""
    order, _ = self.matches[axis.space]
    signs = self.sign(axis)
    shape = [1] * b.ndim
    shape[position] = -1
    b = b.take(order, position)
    return b if signs is None else b * signs.astype(b.dtype).reshape(shape)

  def sign(self, axis: Axis) -> np.ndarray | None:
    odd = self.odd(axis)
    return self.matches[axis.space].signs[list(odd)].prod(0) if odd else None

  def odd(self, axis: Axis) -> tuple[int, ...]:
    """The multipliers that are signs and act on an axis."""
    return tuple(
      m
      for m, (group, power) in enumerate(
        zip(self.groups[axis.space], axis.powers, strict=True)
      )
      if group == "sign" and power % 2
    )

  def largest(self, pair: _Pair, position: int) -> int:
    """The neuron along an axis that has the largest weights in a."""
    axis = pair.entries[position]
    assert axis is not None
    squares = np.zeros(len(self.matches[axis.space].order))
    for other in self.spaces[axis.space]:
      for i, entry in enumerate(other.entries):
        if entry is not None and entry.space == axis.space:
          rest = tuple(j for j in range(other.a.ndim) if j != i)
          squares += np.square(other.a).sum(rest)
    return int(squares.argmax())

  def value(self, name: str) -> float:
    """Σ θ_a · (gθ_b) over the weights of a space, and its features."""
    order = self.matches[name].order
    total = float(self.by_features[name][np.arange(len(order)), order].sum())
    for pair in self.spaces[name]:
      b = pair.b
      for i, axis in enumerate(pair.entries):
        if axis is not None and axis.space in self.groups:
          b = self.along(b, i, axis)
      total += float(np.vdot(pair.a, b))
    return total

  def similarity(
    self, name: str, known: Mapping[str, Collection[int]] | None = None
  ) -> dict[tuple[int, ...], np.ndarray]:
    """{signs that act: Σ θ_a · θ_b [n, n] over weights of neurons of a and b}.

    Args:
      name: of the space.
      known: {space that is matched: its signs that are}; None for all. Along
        other spaces, sizes are compared in ascending order. Along spaces whose
        signs are not known, the sizes of products are added, and signs are
        relative to that of their largest neuron.
    """
    total = {(): self.by_features[name]}

    def add(odd, found):
      total[odd] = total[odd] + found if odd in total else found

    for pair in self.spaces[name]:
      for k, own in enumerate(pair.entries):
        if own is None or own.space != name:
          continue
        a, b, unknown, unsigned = pair.a, pair.b, [], []
        for i, axis in enumerate(pair.entries):
          if i == k or axis is None or axis.space not in self.groups:
            continue
          if known is not None and axis.space not in known:
            unknown.append(i)
            continue
          b = self.along(b, i, axis)
          if known is not None and not {*self.odd(axis)} <= {
            *known[axis.space]
          }:
            unsigned.append(i)
        odd = self.odd(own)
        if unknown:
          a, b = (_sorted_sizes(x, unknown) for x in (a, b))
          add((), _UNMATCHED * _products(a, b, k).sum(0))
        elif unsigned:
          found = _products(a, b, k, unsigned)
          one = tuple(self.largest(pair, i) for i in unsigned)
          shape = [a.shape[i] for i in unsigned]
          add((), np.abs(found).sum(0))
          add(odd, _UNMATCHED * found[np.ravel_multi_index(one, shape)])
        else:
          add(odd, _products(a, b, k).sum(0))
    return total

  def assign(
    self, name: str, similarity: Mapping[tuple[int, ...], np.ndarray]
  ) -> Match:
    """The match of the greatest similarity."""
    # It takes a fifth of a second to import, and most users align nothing.
    from scipy import optimize

    order, signs = self.matches[name]
    rows = np.arange(len(order))
    if name not in self.permuted:
      similarity = {odd: s[rows, order] for odd, s in similarity.items()}
      return Match(order, _best_signs(similarity, len(signs), rows.shape)[1])
    shape = (len(rows), len(rows))
    value, signs = _best_signs(similarity, len(signs), shape)
    _, order = optimize.linear_sum_assignment(value, maximize=True)
    return Match(order, signs[:, rows, order])


def _unit(x: np.ndarray) -> np.ndarray:
  """x/‖x‖, 0 where x is 0."""
  norm = float(np.linalg.norm(x))
  return np.divide(x, norm) if norm else x


def _products(
  a: np.ndarray, b: np.ndarray, position: int, apart: Sequence[int] = ()
) -> np.ndarray:
  """Σ a_i · b_j [R, n, n] over all axes but one, and R indices of others."""
  n, count = a.shape[position], len(apart)
  a, b = (np.moveaxis(x, (*apart, position), range(count + 1)) for x in (a, b))
  rows = math.prod(a.shape[:count])
  a, b = (x.reshape(rows, n, -1) for x in (a, b))
  return a @ b.swapaxes(1, 2)


def _agreement(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
  """Products of the features of neurons of a and b, [n, n].

  The mean over sorts of features, each divided by its norm.
  """
  products = [_unit(x) @ _unit(y).T for x, y in zip(a, b, strict=True)]
  return np.mean(products, axis=0)


def _sorted_sizes(x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
  """|x| in ascending order over some axes jointly."""
  moved = np.moveaxis(np.abs(x), axes, range(-len(axes), 0))
  lead = moved.shape[: -len(axes)]
  ordered = np.sort(moved.reshape(*lead, -1), -1).reshape(moved.shape)
  return np.moveaxis(ordered, range(-len(axes), 0), axes)


def _best_signs(
  similarity: Mapping[tuple[int, ...], np.ndarray],
  count: int,
  shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
  """(Σ similarity with the best signs, these signs [M, ...]).

  Args:
    similarity: {signs that multiply it: array}.
    count: M, the number of multipliers of a neuron.
    shape: of the arrays.
  """
  signs = np.ones((count, *shape), np.int8)

  def total(odds, signs):
    terms = [similarity[odd] * signs[list(odd)].prod(0) for odd in odds]
    return sum(terms, np.zeros(shape))

  for group in _coupled(similarity, count):
    odds = [odd for odd in similarity if {*odd} & {*group}]
    # More signs than can be tried jointly are taken some at a time.
    some = [group[i : i + _JOINT] for i in range(0, len(group), _JOINT)]
    for chosen in some if len(some) == 1 else some * 3:
      best = np.full(shape, -np.inf)
      trial, kept = signs.copy(), signs.copy()
      for values in itertools.product((1, -1), repeat=len(chosen)):
        trial[chosen] = np.reshape(values, (-1, *(1,) * len(shape)))
        value = total(odds, trial)
        better = value > best
        best = np.where(better, value, best)
        kept = np.where(better, trial, kept)
      signs = kept
  return total(similarity, signs), signs


def _coupled(
  similarity: Mapping[tuple[int, ...], np.ndarray], count: int
) -> list[list[int]]:
  """The signs that act, in groups that can be chosen one by one."""
  from scipy import sparse
  from scipy.sparse import csgraph

  edges = [(odd[0], m) for odd in similarity for m in odd]
  if not edges:
    return []
  ends = tuple(np.transpose(edges))
  graph = sparse.coo_array((np.ones(len(edges)), ends), (count, count))
  _, label = csgraph.connected_components(graph, directed=False)
  acting = sorted({m for odd in similarity for m in odd})
  return [
    [m for m in acting if label[m] == group]
    for group in sorted({label[m] for m in acting})
  ]
