"""Gauge directions: directions in weight space that leave the function fixed.

The scale group is continuous. Its multipliers are q = e^{τξ}, and the tangent
t = d/dτ (e^{τξ}·θ) at τ = 0 satisfies J t = 0, where J is the Jacobian of the
network's outputs in its weights, on any inputs. There is one direction per
hidden neuron with the scale group, or per positive multiplier of a neuron; the
channels of a convolution are neurons, its positions are not (Kuipers et al.
2025, arXiv:2510.08300). The sign and permutation groups are discrete and have
no directions.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from scalegmn_jax.base import Axis, Space, SymmetrySpec, Weights
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import leaves

Rates = Mapping[str, jax.Array]
"""{space: ξ [n]}: d(log q)/dτ of each neuron; [M, n] for M multipliers, those
that are signs included."""


def directions(spec: SymmetrySpec, activation: int = 0) -> dict[str, int]:
  """{hidden space: number of free positive multipliers}, from the spec.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
  """
  return {
    name: space.size * len(_scales(space, activation))
    for name, space in spec.spaces.items()
    if not space.fixed
  }


def _scales(space: Space, activation: int) -> tuple[int, ...]:
  """Positions of the multipliers that are positive for an activation."""
  if space.multipliers or space.groups[activation] == "scale":
    return space.scales
  return ()


class Accounts(NamedTuple):
  """How many gauge directions normalizations add, and sums of layers take.

  A *scale* is a weight with one number per neuron that multiplies it, such as
  the γ of a normalization. Neurons have a multiplier before it (kernel and
  running mean up, γ down) and one after it (γ and β up, next kernel down).

  Attributes:
    before: directions of multipliers before a scale.
    after: directions of multipliers after a scale; those between two scales are
      in both numbers.
    summed: how many more directions there would be if every layer wrote to
      neurons of its own instead of adding to those of other layers, as in a
      residual stream.
  """

  before: int
  after: int
  summed: int


def accounts(spec: SymmetrySpec, activation: int = 0) -> Accounts:
  """Attributes gauge directions to scales and sums, see `Accounts`.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
  """
  before, after = set(), set()
  writers: dict[tuple[str, int], int] = {}
  for axes in jax.tree.leaves(spec.axes):
    entries = set(axes.acting())
    reads = any(axis.kind == "sends" for axis in entries)
    for axis in entries:
      space = spec.spaces[axis.space]
      if space.fixed or axis.kind == "sends":
        continue
      is_scale = axis.kind == "scales"
      for m in _scales(space, activation):
        multiplier, power = (axis.space, m), axis.powers[m]
        if is_scale and power:
          (after if power > 0 else before).add(multiplier)
        if power > 0 and (is_scale or reads):
          writers[multiplier] = writers.get(multiplier, 0) + 1

  def count(times):
    return sum(spec.spaces[name].size * n for (name, _), n in times)

  return Accounts(
    before=count((multiplier, 1) for multiplier in before),
    after=count((multiplier, 1) for multiplier in after),
    summed=count((multiplier, n - 1) for multiplier, n in writers.items()),
  )


def generators(
  spec: SymmetrySpec,
  activation: int = 0,
  numbers: np.ndarray | None = None,
  dtype=None,
) -> dict[str, jax.Array]:
  """{space: ξ [G, n]}: the rates of G directions, one multiplier each.

  [G, M, n] for neurons with M multipliers.

  Spaces without directions are left out. `jax.lax.map` maps `tangent` over the
  directions.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
    numbers: [G], indices of the directions over all spaces; None for all.
    dtype: type of the rates; None for the default float type.
  """
  counts = {n: c for n, c in directions(spec, activation).items() if c}
  if not counts:
    return {}
  total = sum(counts.values())
  if numbers is None:
    numbers = np.arange(total)
  rates = np.equal.outer(numbers, np.arange(total))
  parts = np.split(rates, np.cumsum(list(counts.values()))[:-1], axis=1)

  def placed(space, part):
    if not space.multipliers:
      return part
    every = np.zeros((len(part), len(space.multipliers), space.size), bool)
    every[:, list(space.scales)] = part.reshape(len(part), -1, space.size)
    return every

  return {
    name: jnp.asarray(placed(spec.spaces[name], part), dtype or float)
    for name, part in zip(counts, parts, strict=True)
  }


def tangent(spec: SymmetrySpec, weights: Weights, rates: Rates) -> Weights:
  """d/dτ (e^{τξ}·θ) at τ = 0, linear in ξ:  t(gθ) = g·t(θ) for scalings g.

  ξ_i b_i for a bias, (ξ_i - ξ_j) W_ji for a kernel. The groups of the spaces do
  not matter: the function changes along t where ξ is not zero in a space
  without the scale group.

  Args:
    spec: the symmetry.
    weights: of one network.
    rates: ξ; zero in spaces that are left out.
  """

  def scaled(rates):
    def factor(axis):
      if axis.space not in rates:
        return None
      rate = rates[axis.space]
      if not isinstance(axis.power, tuple):
        return jnp.exp(axis.power * rate) if axis.power else None
      return jnp.exp(jnp.asarray(list(map(float, axis.power))) @ rate)

    return gauge.multiply_axes(spec, weights, factor)

  rates = dict(rates)
  start = jax.tree.map(jnp.zeros_like, rates)
  return jax.jvp(scaled, (start,), (rates,))[1]


def rank(spec: SymmetrySpec, weights: Weights, activation: int = 0) -> int:
  """Dimension of the span of all tangents, counted from the zeros of θ.

  t vanishes for ξ if the rates, times their powers, add up to 0 over the axes
  of each weight that is not 0.

  Args:
    spec: the symmetry.
    weights: of one network, concrete arrays.
    activation: index of the network's activation (a Python integer).
  """
  if all(axes.is_single for _, _, axes in leaves(spec, weights)):
    return _rank_of_graph(spec, weights, activation)
  starts, columns = {}, 0
  for name, count in directions(spec, activation).items():
    starts[name] = columns
    columns += count
  square = np.zeros((columns, columns))
  for _, weight, axes in leaves(spec, weights):
    for part, entries in gauge.parts(spec, np.asarray(weight), axes.axes):
      equations = _equations(spec, starts, columns, part, entries)
      square += (equations.T @ equations).toarray()
  return int(np.linalg.matrix_rank(square, hermitian=True))


def _equations(
  spec: SymmetrySpec,
  starts: Mapping[str, int],
  columns: int,
  weight: np.ndarray,
  entries: Sequence[Axis | None],
) -> scipy.sparse.csr_array:
  """Coefficients of all rates, [E, columns], in t / θ of the nonzero weights.

  Equal ones, of weights that differ in a kernel position, are there once.
  """
  acting = [axis for axis in entries if axis is not None]
  others = tuple(i for i, axis in enumerate(entries) if axis is None)
  index = np.nonzero((weight != 0).any(axis=others))
  rows, places, powers = [], [], []
  for axis, numbers in zip(acting, index, strict=True):
    space = spec.spaces[axis.space]
    for k, m in enumerate(space.scales):
      rows.append(np.arange(len(numbers)))
      places.append(starts[axis.space] + k * space.size + numbers)
      powers.append(np.full(len(numbers), float(axis.powers[m])))
  shape = (len(index[0]) if index else 0, columns)
  if not rows:
    return scipy.sparse.csr_array(shape)
  values, ij = np.concatenate(powers), map(np.concatenate, (rows, places))
  return scipy.sparse.csr_array((values, tuple(ij)), shape)


def _rank_of_graph(
  spec: SymmetrySpec, weights: Weights, activation: int
) -> int:
  """See `rank`, for neurons with one multiplier each.

  ξ_i = 0 where b_i is not 0, ξ_i = ξ_j where W_ji is not 0, and ξ = 0 on
  neurons that cannot be scaled. Consider the graph whose edges are the nonzero
  weights and whose vertices are the neurons, with a single vertex for the
  biases and all neurons that cannot be scaled. ξ is constant on each connected
  component, and 0 on the component of the single vertex. Each other component
  removes one direction: a neuron without weights, or neurons that are connected
  only with each other.
  """
  starts, vertices = {}, 1
  for name, count in directions(spec, activation).items():
    if count:
      starts[name] = vertices
      vertices += count

  def ends(axes, power, index):
    end = axes.find(power)
    if end is None or end[1] not in starts:
      return np.zeros_like(index[0])
    return starts[end[1]] + index[end[0]]

  senders, receivers = [], []
  for _, weight, axes in leaves(spec, weights):
    index = np.nonzero(np.asarray(weight))
    senders.append(ends(axes, -1, index))
    receivers.append(ends(axes, 1, index))
  pair = np.concatenate(senders), np.concatenate(receivers)
  edges = scipy.sparse.coo_array(
    (np.ones(len(pair[0]), np.int8), pair), (vertices, vertices)
  )
  components, _ = scipy.sparse.csgraph.connected_components(
    edges, directed=False
  )
  return vertices - components
