"""The free multipliers of a network: fixing them, and balancing its L1 norm.

Scaling the neurons of a relu network moves its weights along an orbit on which
its function is constant. Two points of the orbit are useful: the point at which
each neuron's incoming weights have norm one (division by `graph.sizes`), and
the point with the least L1 norm (`balance`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Axis,
  InputError,
  Network,
  Networks,
  Split,
  SymmetrySpec,
  TargetNetwork,
  Weights,
  full_precision,
)
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry.spec import leaves, segments, trained


def scale_axes(
  spec: SymmetrySpec,
  weights: Weights,
  receiving: Mapping[str, jax.Array],
  sending: Mapping[str, jax.Array],
) -> Weights:
  """Multiplies the axes of each weight.

  Args:
    spec: the symmetry, with one multiplier per neuron.
    weights: of one network.
    receiving: {space: [n]}, factors along axes of power 1.
    sending: {space: [n]}, factors along axes of power -1.
  """
  factors = {1: receiving, -1: sending}

  def factor(axis):
    (power,) = axis.powers
    return factors[power].get(axis.space) if power else None

  return multiply_axes(spec, weights, factor)


def multiply_axes(
  spec: SymmetrySpec,
  weights: Weights,
  factor: Callable[[Axis], jax.Array | None],
) -> Weights:
  """Multiplies each axis of each weight by the factors [n] of its entry."""

  def along(weight, position, axis):
    f = factor(axis)
    return weight if f is None else actions.times(weight, position, f)

  def transform(weight, axes):
    return actions.transform_axes(
      spec, weight, axes, along, first=lambda axis: axis.power == 1
    )

  return jax.tree.map(transform, weights, spec.axes)


Factors = dict[str, tuple[dict[Any, jax.Array], ...]]
"""{space: ({power: q**power [n]} of each positive multiplier q)}."""


def _factor(
  spec: SymmetrySpec, factors: Factors, axis: Axis, without: int = -1
) -> jax.Array | None:
  """What multiplies an axis, [n]; None for 1.

  Args:
    spec: the symmetry.
    factors: of all multipliers.
    axis: of a weight.
    without: a multiplier that is left out.
  """
  result = None
  scales = spec.spaces[axis.space].scales
  for i, found in zip(scales, factors.get(axis.space, ()), strict=False):
    power = axis.powers[i]
    if power and i != without:
      f = found[power]
      result = f if result is None else result * f
  return result


class _Block(NamedTuple):
  """|W| of one weight, summed over indices on which no group acts.

  Attributes:
    size: [in, out] for a kernel, [out] for a bias.
    ends: the entries of its axes.
  """

  size: jax.Array
  ends: tuple[Axis, ...]

  def along(self, spec: SymmetrySpec, factors: Factors, i: int) -> jax.Array:
    """Sums [n] over all axes but the i-th, with the factors of these axes."""

    def factor(j):
      found = _factor(spec, factors, self.ends[j])
      if found is None:
        return jnp.ones(self.size.shape[j], self.size.dtype)
      return found

    size = self.size
    for j in reversed(range(i + 1, len(self.ends))):
      size = size @ factor(j)
    for j in range(i):
      size = jnp.tensordot(factor(j), size, 1)
    return size


def _blocks(spec: SymmetrySpec, weights: Weights) -> list[_Block]:
  blocks = []
  for name, weight, axes in leaves(spec, weights):
    if axes.statistic:
      continue
    sizes: dict[tuple[Axis, ...], jax.Array] = {}
    for part, entries in parts(spec, weight, axes.axes):
      # Axes that send come first: the block of a kernel is [in, out].
      found = [(i, axis) for i, axis in enumerate(entries) if axis is not None]
      found.sort(key=lambda item: item[1].power == 1)
      acting = [i for i, _ in found]
      ends = tuple(axis for _, axis in found)
      _check_ends(spec, name, ends)
      size = jnp.moveaxis(jnp.abs(part), acting, range(len(acting)))
      size = size.reshape(*size.shape[: len(acting)], -1).sum(-1)
      sizes[ends] = sizes[ends] + size if ends in sizes else size
    blocks += [_Block(size, ends) for ends, size in sizes.items() if ends]
  return blocks


def parts(
  spec: SymmetrySpec, weight: Any, entries: tuple[Any, ...]
) -> Iterator[tuple[Any, tuple[Axis | None, ...]]]:
  """(part, entries of its axes): a weight, of jax or numpy, without splits."""
  split = [i for i, entry in enumerate(entries) if isinstance(entry, Split)]
  if not split:
    yield weight, entries
    return
  at = split[0]
  for part, middle in segments(spec, weight, at, entries[at]):
    yield from parts(spec, part, entries[:at] + middle + entries[at + 1 :])


def _check_ends(spec: SymmetrySpec, name: str, ends: tuple[Axis, ...]) -> None:
  """InputError if a multiplier acts on two axes of a weight."""
  acting = [
    (axis.space, i)
    for axis in ends
    for i in spec.spaces[axis.space].scales
    if axis.powers[i]
  ]
  if len({*acting}) < len(acting):
    raise InputError(
      f"weight {name} sends and receives in one space, expected two spaces"
    )


def scaled_spaces(spec: SymmetrySpec) -> list[str]:
  """Names of the spaces with positive multipliers for some activation.

  Balancing changes only these spaces.
  """
  return [n for n, s in spec.spaces.items() if s.scales]


@full_precision
def balancing_factors(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  sweeps: int = 20,
) -> Factors:
  """Powers of the multipliers q that minimize ‖q·θ‖₁, see `l1`.

  ‖q·θ‖₁ is convex in log q. Each sweep minimizes it over one multiplier of one
  space after the other (Stock et al. 2019, arXiv:1902.10416). If its powers are
  1 and -1, q = sqrt(out / in), where `in` and `out` are the L1 norms of a
  neuron's incoming and outgoing side at the current q of its neighbors; for
  other powers, a few steps of Newton's method. A neuron with one empty side
  does not contribute to the infimum: its factors are 0, which sets the other
  side to zero and leaves the function unchanged (nothing reads the neuron, or
  it is σ(0) = 0). So are the factors of a neuron with in · out below 1e-31 in
  float32 (`tiny / eps` of the type): weight decay leaves such neurons, and what
  passes through two of them would underflow. Where neurons have several
  multipliers, they are 1 in both cases: 0 can be a singularity of a
  normalization.

  Args:
    spec: the symmetry; only positive multipliers have factors.
    weights: of one network.
    activation: index of its activation.
    sweeps: number of coordinate sweeps. After 20, the norm of trained zoo
      networks is within 1e-6 of its minimum (tests/symmetry/test_gauge.py).
  """
  blocks = _blocks(spec, weights)
  dtype = jnp.result_type(*jax.tree.leaves(weights))
  powers = {
    name: [
      {
        axis.powers[i]
        for block in blocks
        for axis in block.ends
        if axis.space == name and axis.powers[i]
      }
      for i in spec.spaces[name].scales
    ]
    for name in scaled_spaces(spec)
  }
  start = {
    name: tuple(
      {p: jnp.ones(spec.spaces[name].size, dtype) for p in found}
      for found in several
    )
    for name, several in powers.items()
  }

  def norms(factors, name, i):
    """{power: the L1 norm of the weights that q**power multiplies}."""
    found: dict[Any, Any] = {}
    for block in blocks:
      for j, axis in enumerate(block.ends):
        if axis.space == name and (power := axis.powers[i]):
          size = block.along(spec, factors, j)
          own = _factor(spec, factors, axis, without=i)
          size = size if own is None else size * own
          found[power] = found[power] + size if power in found else size
    return found

  def sweep(_, factors):
    factors = dict(factors)
    for name, several in powers.items():
      space = spec.spaces[name]
      is_scale = jnp.asarray([g == "scale" for g in space.groups])[activation]
      for k, i in enumerate(space.scales):
        if len({power > 0 for power in several[k]}) < 2:
          continue  # a normalization divides it out, or nothing acts
        live, new = _least(norms(factors, name, i))
        if space.multipliers:
          new = {p: jnp.where(live, q, 1) for p, q in new.items()}
        else:
          new = {
            p: jnp.where(is_scale, jnp.where(live, q, 0), 1)
            for p, q in new.items()
          }
        factors[name] = (*factors[name][:k], new, *factors[name][k + 1 :])
    return factors

  return jax.lax.fori_loop(0, sweeps, sweep, start)


_STEPS = 8
"""Number of steps of Newton's method for powers that are not 1 and -1."""


def _least(
  norms: Mapping[Any, jax.Array],
) -> tuple[jax.Array, dict[Any, jax.Array]]:
  """The least Σ_p q**p norms[p]: where it is attained, and q**p there."""
  limits = jnp.finfo(jnp.result_type(*norms.values()))
  smallest = float(limits.tiny / limits.eps) ** 0.5
  if {*norms} == {1, -1}:
    incoming, outgoing = norms[1], norms[-1]
    live = jnp.sqrt(incoming) * jnp.sqrt(outgoing) > smallest
    # Two roots: the quotient of the sides can overflow.
    q = jnp.sqrt(jnp.where(live, outgoing, 1)) / jnp.sqrt(
      jnp.where(live, incoming, 1)
    )
    return live, {1: q, -1: 1 / q}
  powers = {p: float(p) for p in norms}
  sides = [[p for p in norms if (p > 0) == up] for up in (True, False)]
  live = jnp.all(
    jnp.stack([sum(norms[p] for p in side) > 0 for side in sides]), axis=0
  )
  # The logarithm of both sides of Σ_{p>0} p q**p norm = Σ_{p<0} |p| q**p norm
  # is almost linear in log q.
  ends = [
    (
      jnp.stack(
        [
          jnp.log(jnp.where(live, norms[p], 1)) + math.log(abs(powers[p]))
          for p in side
        ]
      ),
      jnp.asarray([powers[p] for p in side], norms[side[0]].dtype)[:, None],
    )
    for side in sides
  ]
  log_q = jnp.zeros_like(norms[sides[0][0]])
  for _ in range(_STEPS):
    values, slopes = zip(
      *(
        (
          jax.nn.logsumexp(terms + p * log_q, axis=0),
          (jax.nn.softmax(terms + p * log_q, axis=0) * p).sum(0),
        )
        for terms, p in ends
      ),
      strict=True,
    )
    log_q = log_q - (values[0] - values[1]) / (slopes[0] - slopes[1])
  live &= values[0] > math.log(smallest)
  return live, {p: jnp.exp(power * log_q) for p, power in powers.items()}


def balance(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  sweeps: int = 20,
) -> Weights:
  """The network of least L1 norm on the gauge orbit; same function.

  Invariant: balance(gθ) = π·balance(θ) for positive scalings and permutations.
  For the sign and permutation groups it is the identity.

  Examples:
    >>> import jax.numpy as jnp
    >>> import scalegmn_jax as sg
    >>> from scalegmn_jax.symmetry import gauge
    >>> target = sg.mlp((1, 1, 1), "relu")
    >>> def layer(kernel):
    ...   return {"bias": jnp.zeros(1), "kernel": jnp.array([[kernel]])}
    >>> weights = (layer(8.0), layer(2.0))
    >>> balanced = gauge.balance(target.spec, weights)
    >>> [round(float(layer["kernel"][0, 0]), 3) for layer in balanced]
    [4.0, 4.0]
  """
  factors = balancing_factors(spec, weights, activation, sweeps=sweeps)
  return _multiplied(spec, weights, factors)


def equalize(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  power: int = 8,
) -> Weights:
  """The network of least Σ|w|^p on the gauge orbit; same function.

  For large p the largest weights of both sides of a neuron are alike, which is
  what rounding to steps of max|W| asks for (cross-layer equalization: Nagel et
  al. 2019, arXiv:1906.04721, section 4.1). Invariant like `balance`. Neurons
  whose weights are so much smaller than the largest that their powers
  underflow stay as `balance` leaves them.

  Args:
    spec: the symmetry.
    weights: of one network.
    activation: index of its activation.
    power: p.
  """
  balanced = balance(spec, weights, activation)
  sizes = [jnp.abs(w).max() for w in trained(spec, balanced)]
  largest = jnp.max(jnp.stack(sizes))
  largest = jnp.where(largest > 0, largest, 1)
  powers = jax.tree.map(lambda w: (jnp.abs(w) / largest) ** power, balanced)
  factors = {
    name: tuple(
      {k: jnp.where(q > 0, q, 1) ** (1 / power) for k, q in each.items()}
      for each in several
    )
    for name, several in balancing_factors(spec, powers, activation).items()
  }
  return _multiplied(spec, balanced, factors)


def _multiplied(
  spec: SymmetrySpec, weights: Weights, factors: Factors
) -> Weights:
  return multiply_axes(spec, weights, lambda a: _factor(spec, factors, a))


def l1(spec: SymmetrySpec, weights: Weights) -> jax.Array:
  """‖θ‖₁ without running statistics, the papers' penalty.

  Not invariant under positive scaling.
  """
  return sum(jnp.abs(w).sum() for w in trained(spec, weights))  # type: ignore


def balanced_l1(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  sweeps: int = 20,
) -> jax.Array:
  """min over q of ‖q·θ‖₁. Invariant under the whole group.

  Differentiation takes the minimizing q as a constant: by the envelope theorem
  the derivative through q is zero at the minimum.
  """
  factors = balancing_factors(
    spec, jax.lax.stop_gradient(weights), activation, sweeps=sweeps
  )
  return l1(spec, _multiplied(spec, weights, factors))


def balance_networks(
  target: TargetNetwork,
) -> Callable[[Networks], Networks]:
  """A jitted function that balances each network, see `balance`.

  Args:
    target: the architecture.

  Returns:
    networks -> networks with the same functions and the least L1 norms.
  """

  def balance_one(network: Network) -> Weights:
    return balance(target.spec, network.weights, network.activation)

  @jax.jit
  def balance_all(networks):
    weights = batched.map_networks(balance_one, networks, vmap_size=None)
    return networks._replace(weights=weights)

  return balance_all
