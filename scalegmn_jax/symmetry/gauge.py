"""The free multipliers of a network: fixing them, and balancing its L1 norm.

Scaling the neurons of a relu network moves its weights along an orbit on which
its function is constant. Two points of the orbit are useful: the point at which
each neuron's incoming weights have norm one (division by `vertex_sizes`), and
the point with the least L1 norm (`balance`).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import (
  InputError,
  Network,
  Networks,
  SymmetrySpec,
  TargetNetwork,
  Weights,
  full_precision,
)
from scalegmn_jax.symmetry import canonical
from scalegmn_jax.symmetry.spec import leaves


def _along(vector: jax.Array, position: int, ndim: int) -> jax.Array:
  shape = [1] * ndim
  shape[position] = -1
  return vector.reshape(shape)


def scale_axes(
  spec: SymmetrySpec,
  weights: Weights,
  receiving: Mapping[str, jax.Array],
  sending: Mapping[str, jax.Array],
) -> Weights:
  """Multiplies the axes of each weight.

  Args:
    spec: the symmetry.
    weights: of one network.
    receiving: {space: [n]}, factors along axes of power 1.
    sending: {space: [n]}, factors along axes of power -1.
  """

  def transform(weight, axes):
    for power, factors in ((1, receiving), (-1, sending)):
      end = axes.find(power)
      if end and end[1] in factors:
        weight = weight * _along(factors[end[1]], end[0], weight.ndim)
    return weight

  return jax.tree.map(transform, weights, spec.axes)


def _rows(weight: jax.Array, position: int) -> jax.Array:
  """The weights as rows, one per neuron along `position`: [n, rest]."""
  return jnp.moveaxis(weight, position, 0).reshape(weight.shape[position], -1)


def vertex_sizes(
  spec: SymmetrySpec, weights: Weights, *, isolated: float = 1.0
) -> dict[str, jax.Array]:
  """{space: s [n]} with s > 0 that carries q:  s → |q| s.

  A pass along the layers computes s_i = ‖[b_i, (W_ji s_j)_j]‖, with s = 1 on
  input and output neurons. W_ji s_j / s_i and b_i / s_i are then exactly
  invariant under positive scaling. A space with several writers (a skip) takes
  s from the first writer that is not zero. A neuron without incoming weights
  takes s = 1/‖(W_ik / s_k)_k‖ from its outgoing side, which carries q as well.
  A neuron whose only inputs come from such neurons gets its s in a second pass.

  Args:
    spec: the symmetry.
    weights: of one network.
    isolated: s of neurons without any weight, on which q does not act.
  """
  all_leaves = leaves(spec, weights)
  dtype = all_leaves[0][1].dtype
  # Zero marks an unknown size: to its neighbours such a neuron counts as a
  # weight of zero.
  sizes = {
    name: jnp.full(space.size, float(space.fixed), dtype)
    for name, space in spec.spaces.items()
  }
  hidden = [name for name, space in spec.spaces.items() if not space.fixed]

  def writers(name):
    """The weights into a space as rows, one array per sending space. Biases
    join the first kernel: both are computed before the activation."""
    biases, kernels = [], []
    for _, weight, axes in all_leaves:
      receiver, sender = axes.find(1), axes.find(-1)
      if receiver and receiver[1] == name:
        if sender is None:
          biases.append(_rows(weight, receiver[0]))
        elif sender[1] != name:
          scaled = weight * _along(sizes[sender[1]], sender[0], weight.ndim)
          kernels.append(_rows(scaled, receiver[0]))
    groups = [[k] for k in kernels] or [[]]
    groups[0] += biases
    return [jnp.concatenate(g, axis=1) for g in groups if g]

  def forward():
    for name in hidden:
      for rows in writers(name):
        known = canonical.positive(sizes[name])
        sizes[name] = jnp.where(known, sizes[name], canonical.norm(rows))

  def backward():
    for name in reversed(hidden):
      rows = []
      for _, weight, axes in all_leaves:
        receiver, sender = axes.find(1), axes.find(-1)
        if sender and sender[1] == name and receiver and receiver[1] != name:
          factor = canonical.inverse(sizes[receiver[1]])
          scaled = weight * _along(factor, receiver[0], weight.ndim)
          rows.append(_rows(scaled, sender[0]))
      if rows:
        size = canonical.norm(jnp.concatenate(rows, axis=1))
        known = canonical.positive(sizes[name])
        sizes[name] = jnp.where(known, sizes[name], canonical.inverse(size))

  forward()
  backward()
  forward()
  return {
    name: jnp.where(canonical.positive(size), size, isolated)
    for name, size in sizes.items()
  }


class _Block(NamedTuple):
  """|W| of one weight, summed over kernel positions.

  Attributes:
    size: [in, out] for a kernel, [out] for a bias.
    sender, receiver: names of the spaces; no sender for a bias.
  """

  size: jax.Array
  sender: str | None
  receiver: str


def _blocks(spec: SymmetrySpec, weights: Weights) -> list[_Block]:
  blocks = []
  for name, weight, axes in leaves(spec, weights):
    receiver, sender = axes.find(1), axes.find(-1)
    if receiver is None:
      raise InputError(f"weight {name} has no receiving axis, expected one")
    if sender is None:
      size = jnp.abs(_rows(weight, receiver[0])).sum(1)
      blocks.append(_Block(size, None, receiver[1]))
      continue
    if sender[1] == receiver[1]:
      raise InputError(
        f"weight {name} sends and receives in one space, expected two spaces"
      )
    kernel = jnp.moveaxis(jnp.abs(weight), (sender[0], receiver[0]), (0, 1))
    size = kernel.reshape(*kernel.shape[:2], -1).sum(-1)
    blocks.append(_Block(size, sender[1], receiver[1]))
  return blocks


def scaled_spaces(spec: SymmetrySpec) -> list[str]:
  """Names of the spaces with the scale group for some activation.

  Balancing changes only these spaces.
  """
  return [n for n, s in spec.spaces.items() if "scale" in s.groups]


@full_precision
def balancing_factors(
  spec: SymmetrySpec,
  weights: Weights,
  activation: jax.Array | int = 0,
  *,
  sweeps: int = 20,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Factors (receiving, sending) by which `scale_axes` minimizes ‖θ‖₁.

  ‖q·θ‖₁ is convex in log q. Each sweep minimizes it over one space after the
  other (Stock et al. 2019, arXiv:1902.10416): q = sqrt(out / in), where `in`
  and `out` are the L1 norms of a neuron's incoming and outgoing side at the
  current q of its neighbours. A neuron with one empty side does not contribute
  to the infimum: its factors are 0, which sets the other side to zero and
  leaves the function unchanged (nothing reads the neuron, or it is σ(0) = 0).

  Args:
    spec: the symmetry; only spaces with the scale group have factors.
    weights: of one network.
    activation: index of its activation.
    sweeps: number of coordinate sweeps. After 20, the norm of trained zoo
      networks is within 1e-6 of its minimum (tests/symmetry/test_gauge.py).
  """
  free = scaled_spaces(spec)
  blocks = _blocks(spec, weights)
  dtype = blocks[0].size.dtype
  ones = {n: jnp.ones(spec.spaces[n].size, dtype) for n in spec.spaces}

  def norms(name, receiving, sending):
    incoming = outgoing = jnp.zeros(spec.spaces[name].size, dtype)
    for block in blocks:
      if block.receiver == name:
        size = block.size
        if block.sender is not None:
          size = sending[block.sender] @ size
        incoming = incoming + size
      elif block.sender == name:
        outgoing = outgoing + block.size @ receiving[block.receiver]
    return incoming, outgoing

  def sweep(_, factors):
    receiving, sending = dict(factors[0]), dict(factors[1])
    for name in free:
      incoming, outgoing = norms(name, receiving, sending)
      live = (incoming > 0) & (outgoing > 0)
      # Two roots: the quotient of the sides can overflow.
      q = jnp.sqrt(jnp.where(live, outgoing, 1)) / jnp.sqrt(
        jnp.where(live, incoming, 1)
      )
      is_scale = jnp.asarray([g == "scale" for g in spec.spaces[name].groups])[
        activation
      ]
      receiving[name] = jnp.where(is_scale, jnp.where(live, q, 0), 1)
      sending[name] = jnp.where(is_scale, jnp.where(live, 1 / q, 0), 1)
    return receiving, sending

  return jax.lax.fori_loop(0, sweeps, sweep, (ones, dict(ones)))


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
  """
  factors = balancing_factors(spec, weights, activation, sweeps=sweeps)
  return scale_axes(spec, weights, *factors)


def l1(weights: Weights) -> jax.Array:
  """‖θ‖₁, the papers' penalty. Not invariant under positive scaling."""
  return sum(jnp.abs(w).sum() for w in jax.tree.leaves(weights))  # type: ignore


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
  return l1(scale_axes(spec, weights, *factors))


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
