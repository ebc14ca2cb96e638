"""The multipliers of the least L2 norm, to full precision on the host.

Training by gradients keeps the difference of the squared norms of the incoming
and the outgoing weights of a neuron (Du et al. 2018, arXiv:1806.00900): where
both are equal, the gauge is close to the one in which networks are trained, and
their weights can be compared (Stock et al. 2019, arXiv:1902.10416, balance with
this norm too). `gauge.balance` is about penalties: it takes the L1 norm, and a
fixed number of steps inside compiled programs. Here Newton's method finds the
minimum of any spec, and nothing is compiled.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import Axis, SymmetrySpec, Weights
from scalegmn_jax.symmetry.gauge import parts
from scalegmn_jax.symmetry.spec import leaves

Multipliers = dict[str, np.ndarray]
"""{hidden space: q [M, n]}, a row for each of the M multipliers of a neuron,
those that are signs included."""

_STEPS = 100
"""The most steps of Newton's method."""

_PRECISION = 1e-10
"""A step that changes no log q by more is the last one: the next one would be a
thousandth of it."""


class _Block(NamedTuple):
  """W² of weights on which the same acts, summed over all other axes.

  Attributes:
    size: an array.
    ends: for each of its axes, [(exponent of q, first index into log q)].
  """

  size: np.ndarray
  ends: tuple[tuple[tuple[float, int], ...], ...]

  def exponent(self, u: np.ndarray) -> np.ndarray:
    """log of what multiplies each entry, for u = log q."""
    total = np.zeros(())
    for i, end in enumerate(self.ends):
      n = self.size.shape[i]
      along = sum((p * u[s : s + n] for p, s in end), np.zeros(n))
      total = total + along.reshape(n, *(1,) * (self.size.ndim - 1 - i))
    return np.broadcast_to(total, self.size.shape)

  def add_sums(self, values: np.ndarray, into: np.ndarray, power: int) -> None:
    """Adds Σ exponent**power · values to the entry of each multiplier."""
    for i, end in enumerate(self.ends):
      others = tuple(j for j in range(values.ndim) if j != i)
      along = values.sum(others)
      for p, start in end:
        into[start : start + len(along)] += p**power * along


def groups_of(
  spec: SymmetrySpec, activation: int
) -> dict[str, tuple[str, ...]]:
  """{hidden space: the group of each multiplier of its neurons}.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
  """
  return {
    name: space.multipliers or (space.groups[activation],)
    for name, space in spec.spaces.items()
    if not space.fixed
  }


def least_norm(
  spec: SymmetrySpec, weights: Weights, activation: int = 0
) -> Multipliers:
  """The positive multipliers q for which ‖q·θ‖₂ is least.

  q(gθ) = q(θ)/g in the new order, for positive multipliers g: multiplied by q,
  all networks of an orbit are the same up to permutations and signs. ‖q·θ‖² is
  convex in log q.

  A multiplier with a side that is zero, of a dead neuron or before a
  normalization that divides it out, has no finite q: it gives the norm 1 to the
  other side, and is 1 if both sides are zero.

  Args:
    spec: the symmetry.
    weights: of one network; arrays of numpy or jax.
    activation: index of its activation.
  """
  groups = groups_of(spec, activation)
  starts, total = {}, 0
  for name, several in groups.items():
    for m, group in enumerate(several):
      if group == "scale":
        starts[name, m] = total
        total += spec.spaces[name].size
  blocks = _blocks(spec, weights, starts)
  alive, free = _with_two_sides(blocks, total)
  u = _minimize(alive, free)
  for start in starts.values():
    _set_norms(blocks, u, free, start)
  return {
    name: np.stack(
      [
        np.exp(u[starts[name, m] :][: spec.spaces[name].size])
        if group == "scale"
        else np.ones(spec.spaces[name].size)
        for m, group in enumerate(several)
      ]
    )
    for name, several in groups.items()
  }


def _blocks(
  spec: SymmetrySpec, weights: Weights, starts: dict[tuple[str, int], int]
) -> list[_Block]:
  sizes: dict[tuple[Any, ...], np.ndarray] = {}
  for _, weight, axes in leaves(spec, jax.tree.map(np.asarray, weights)):
    if axes.statistic:
      continue
    for part, entries in parts(spec, weight, axes.axes):
      ends = [_end(axis, starts) for axis in entries]
      idle = tuple(i for i, end in enumerate(ends) if not end)
      if len(idle) < len(ends):
        size = np.square(part.astype(np.float64)).sum(idle)
        key = tuple(end for end in ends if end)
        sizes[key] = sizes[key] + size if key in sizes else size
  return [_Block(size, ends) for ends, size in sizes.items()]


def _end(
  axis: Axis | None, starts: dict[tuple[str, int], int]
) -> tuple[tuple[float, int], ...]:
  if axis is None:
    return ()
  return tuple(
    (2 * float(power), starts[axis.space, m])
    for m, power in enumerate(axis.powers)
    if power and (axis.space, m) in starts
  )


def _with_two_sides(
  blocks: list[_Block], total: int
) -> tuple[list[_Block], np.ndarray]:
  """Blocks without the entries that tend to zero, and which q are finite."""
  alive = blocks
  while True:
    up, down = np.zeros(total), np.zeros(total)
    for block in alive:
      for i, end in enumerate(block.ends):
        others = tuple(j for j in range(block.size.ndim) if j != i)
        n = block.size.shape[i]
        for p, start in end:
          side = up if p > 0 else down
          side[start : start + n] += block.size.any(others)
    free: np.ndarray = np.logical_and(up, down)
    one_sided = 1.0 - free
    kept = [
      block._replace(size=np.where(_touched(block, one_sided), 0, block.size))
      for block in alive
    ]
    if all(
      np.count_nonzero(new.size) == np.count_nonzero(old.size)
      for new, old in zip(kept, alive, strict=True)
    ):
      return kept, free
    alive = kept


def _touched(block: _Block, some: np.ndarray) -> np.ndarray:
  """Whether some of the multipliers act on an entry."""
  ends = tuple(tuple((1.0, s) for _, s in end) for end in block.ends)
  return block._replace(ends=ends).exponent(some) > 0


def _minimize(blocks: list[_Block], free: np.ndarray) -> np.ndarray:
  """log q of the least norm, by Newton's method and conjugate gradients.

  A step changes the logarithm of no entry by more than 1: e^x < 1 + x + x² for
  |x| <= 1, so that each step lowers the norm.
  """
  # They take a third of a second to import, and most users align nothing.
  from scipy import sparse
  from scipy.sparse import linalg

  total = len(free)
  u = np.zeros(total)
  if not free.any():
    return u
  for _ in range(_STEPS):
    scaled = [b.size * np.exp(b.exponent(u)) for b in blocks]
    gradient, diagonal = np.zeros(total), np.zeros(total)
    for block, size in zip(blocks, scaled, strict=True):
      block.add_sums(size, gradient, 1)
      block.add_sums(size, diagonal, 2)

    def product(v, scaled=scaled):
      result = np.zeros(total)
      for block, size in zip(blocks, scaled, strict=True):
        block.add_sums(size * block.exponent(v), result, 1)
      return result

    noise = 8 * np.finfo(float).eps * float(np.linalg.norm(diagonal))
    if np.linalg.norm(gradient) <= noise:
      break
    inverse = 1 / np.where(diagonal > 0, diagonal, 1)
    shape = (total, total)
    step, _ = linalg.cg(
      linalg.LinearOperator(shape, product),
      -gradient,
      rtol=1e-3,
      atol=noise,
      maxiter=200,
      M=sparse.diags_array(inverse),
    )
    changes = [np.abs(b.exponent(step))[b.size > 0] for b in blocks]
    largest = max(c.max(initial=0) for c in changes)
    u += step / max(1, largest)
    if np.abs(step).max() < _PRECISION:
      break
  return u


def _set_norms(
  blocks: list[_Block], u: np.ndarray, free: np.ndarray, start: int
) -> None:
  """Gives the norm 1 to the one side of multipliers that are not free."""
  norms = {}
  for block in blocks:
    for i, end in enumerate(block.ends):
      for p, s in end:
        if s == start:
          others = tuple(j for j in range(block.size.ndim) if j != i)
          along = (block.size * np.exp(block.exponent(u))).sum(others)
          norms[p] = norms.get(p, 0) + along
  for p, norm in sorted(norms.items(), reverse=True):
    rows = np.arange(start, start + len(norm))
    some = (norm > 0) & ~free[rows]
    u[rows[some]] -= np.log(norm[some]) / p
    free[rows[some]] = True
