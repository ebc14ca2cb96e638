"""Gauge directions: along which the weights move and the function does not.

A scaling group is continuous. Its multipliers are q = e^{τξ}, and the tangent
t = d/dτ (e^{τξ}·θ) at τ = 0 satisfies J t = 0, where J is the Jacobian of the
network's outputs in its weights, on any inputs. There is one direction per
hidden neuron with the scale group; the channels of a convolution are neurons,
its positions are not (Kuipers et al. 2025, arXiv:2510.08300). The sign and
permutation groups are discrete and have no directions.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from scalegmn_jax.base import SymmetrySpec, Weights
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import leaves

Rates = Mapping[str, jax.Array]
"""{space: ξ [n]}: how fast log q of each neuron grows."""


def directions(spec: SymmetrySpec, activation: int = 0) -> dict[str, int]:
  """{hidden space: free positive multipliers}, counted from the spec.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
  """
  return {
    name: space.size if space.groups[activation] == "scale" else 0
    for name, space in spec.spaces.items()
    if not space.fixed
  }


def generators(
  spec: SymmetrySpec,
  activation: int = 0,
  numbers: np.ndarray | None = None,
  dtype=None,
) -> dict[str, jax.Array]:
  """{space: ξ [G, n]}: the rates of G directions, each of one neuron.

  Spaces without directions are left out. `jax.lax.map` it with `tangent`.

  Args:
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
    numbers: [G], which of the directions, counted over all spaces; None: all.
    dtype: the default float type if None.
  """
  counts = {n: c for n, c in directions(spec, activation).items() if c}
  if not counts:
    return {}
  total = sum(counts.values())
  if numbers is None:
    numbers = np.arange(total)
  rates = np.equal.outer(numbers, np.arange(total))
  parts = np.split(rates, np.cumsum(list(counts.values()))[:-1], axis=1)
  return {
    name: jnp.asarray(part, dtype or float)
    for name, part in zip(counts, parts, strict=True)
  }


def tangent(spec: SymmetrySpec, weights: Weights, rates: Rates) -> Weights:
  """d/dτ (e^{τξ}·θ) at τ = 0, linear in ξ:  t(gθ) = g·t(θ) for scalings g.

  Of a bias ξ_i b_i, of a kernel (ξ_i - ξ_j) W_ji. It is taken whatever the
  group of a space: where that is not the scale group, t is a direction in
  which the function does change.

  Args:
    spec: the symmetry.
    weights: of one network.
    rates: ξ; zero in spaces that are left out.
  """

  def moved(rates):
    grow = {name: jnp.exp(r) for name, r in rates.items()}
    shrink = {name: jnp.exp(-r) for name, r in rates.items()}
    return gauge.scale_axes(spec, weights, grow, shrink)

  rates = dict(rates)
  start = jax.tree.map(jnp.zeros_like, rates)
  return jax.jvp(moved, (start,), (rates,))[1]


def rank(spec: SymmetrySpec, weights: Weights, activation: int = 0) -> int:
  """Dimension of the span of all tangents, counted from the zeros of θ.

  t vanishes for those ξ with ξ_i = 0 where b_i is not 0 and ξ_i = ξ_j where
  W_ji is not 0, with ξ = 0 on neurons that cannot be scaled. So take neurons
  as vertices, one vertex for all that cannot be scaled and for the biases, and
  weights that are not zero as edges: ξ is constant on a connected component,
  and 0 on that of the fixed vertex. Each other component takes one direction
  away. It is a neuron without weights, or several that are connected with each
  other alone.

  Args:
    spec: the symmetry.
    weights: of one network, arrays whose values are known.
    activation: index of the network's activation (a Python integer).
  """
  starts, vertices = {}, 1
  for name, count in directions(spec, activation).items():
    if count:
      starts[name] = vertices
      vertices += count

  def ends(axes, power, index):
    found = axes.find(power)
    if found is None or found[1] not in starts:
      return np.zeros_like(index[0])
    return starts[found[1]] + index[found[0]]

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
