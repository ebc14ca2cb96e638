"""Aligning networks, and averaging them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import compilation
from scalegmn_jax.base import (
  InputError,
  Networks,
  TargetNetwork,
  Weights,
  leaf_name,
)
from scalegmn_jax.gmn import inputs
from scalegmn_jax.symmetry import actions, contributions, least_norm, matching
from scalegmn_jax.symmetry.actions import Element, GroupElement
from scalegmn_jax.symmetry.spec import trained

_SUM = 1e-3
"""How far from 1 the sum of the weights of an average may be."""


class Alignment(NamedTuple):
  """A network that was brought to another one.

  Attributes:
    weights: g·b, with the function of b and the gauge of a.
    element: g, {hidden space: permutation and multiplier}; see
      `symmetry.actions.act`. Multipliers are float64 arrays of numpy.
    similarity: the cosine of a and g·b, both with the least L2 norm on their
      orbits and without running statistics: 1 for networks of one orbit.
  """

  weights: Weights
  element: GroupElement
  similarity: float


def align(
  target: TargetNetwork,
  a: Weights,
  b: Weights,
  images: Any = None,
  *,
  activation: int = 0,
) -> Alignment:
  """Brings network b as close to network a as its symmetry allows.

  The function of b stays: only the order of its neurons, their positive
  multipliers and signs change. If b is g·a for any element g of the group of
  the target, and neurons of a are told apart by their weights, the result is a.

  Both networks are balanced: multiplied to the least L2 norm of their orbits,
  which leaves permutations and signs. These are found one space after the other
  by linear assignment of weights, until no space brings the weights closer
  (Ainsworth et al. 2023, arXiv:2209.04836). b then gets the multipliers of a,
  so that an average of both means something.

  With images, what neurons contribute to the outputs for each image counts as
  much as their weights, see `symmetry.contributions`. This takes derivatives of
  the function for each image and output.

  Works on the host, with concrete arrays: call it outside of `jit` and `vmap`.
  Phases of sine networks are no multipliers: fold them before
  (`symmetry.phase.fold`).

  Args:
    target: the architecture, with any symmetry.
    a: weights of the network that stays.
    b: weights of the network that is brought to it.
    images: inputs [N, ...] of the target, or a tuple of them; None to match by
      the weights alone. About 64 are enough.
    activation: index into `target.activations`, of both.

  Raises:
    InputError: weights that do not fit the target, are not finite or not known,
      or no such activation.
  """
  _check_fits("align: a", a, _shapes(target))
  _check_fits("align: b", b, _shapes(target))
  return aligner(target, images, activation=activation)(a)(b)


Bring = Callable[[Weights], Alignment]
"""b -> b, brought to a network."""


def aligner(
  target: TargetNetwork, images: Any = None, *, activation: int = 0
) -> Callable[[Weights], Bring]:
  """a -> (b -> `Alignment`), for many networks; see `align`.

  What concerns the target is compiled once, and `a` is prepared once.
  """
  inputs.check_activation(target.activations, activation)
  spec, activation = target.spec, int(activation)
  groups = least_norm.groups_of(spec, activation)
  measure = None
  if images is not None:
    measure = contributions.contributions(target, activation)

  def element(rows, orders):
    return {
      name: Element(
        order,
        rows[name] if spec.spaces[name].multipliers else rows[name][0],
      )
      for name, order in orders.items()
    }

  def prepared(weights):
    """(multipliers, balanced weights, contributions of neurons or None)."""
    host = jax.tree.map(_on_host, weights)
    q = least_norm.least_norm(spec, host, activation)
    orders = {name: np.arange(rows.shape[1]) for name, rows in q.items()}
    balanced = actions.act(element(q, orders), spec, host)
    features = None if measure is None else measure(weights, images)
    return q, balanced, features

  def to(a):
    q_a, balanced_a, features_a = prepared(a)

    def bring(b):
      q_b, balanced_b, features_b = prepared(b)
      features = None
      if features_a is not None and features_b is not None:
        features = features_a, features_b
      found = matching.match(spec, groups, balanced_a, balanced_b, features)
      orders = {name: match.order for name, match in found.items()}
      signs = {name: m.signs.astype(np.float64) for name, m in found.items()}
      closest = actions.act(element(signs, orders), spec, balanced_b)
      multipliers = {
        name: signs[name] * q_b[name][:, order] / q_a[name]
        for name, order in orders.items()
      }
      g = element(multipliers, orders)
      brought = actions.act(g, spec, jax.tree.map(_on_host, b))
      return Alignment(
        jax.tree.map(_like, b, brought),
        g,
        _cosine(trained(spec, balanced_a), trained(spec, closest)),
      )

    return bring

  return to


def merge(
  networks: Networks | Sequence[Weights] | Weights,
  weights: Sequence[float] | None = None,
  *,
  target: TargetNetwork | None = None,
  images: Any = None,
  activation: int = 0,
) -> Weights:
  """The weighted average of networks, aligned to the first of them or not.

  Running statistics are averaged like all weights. They are not those of the
  average, in which activations vary less than in each network (Jordan et al.
  2023, "REPAIR", arXiv:2211.08403): recompute them on images, as
  `target.train` does.

  Args:
    networks: a list of the weights of networks, or networks that are stacked:
      `Networks`, or a pytree with leaves [B, ...].
    weights: of the average, B numbers whose sum is 1; None: 1/B each.
    target: the architecture, for an average of aligned networks; None: the
      networks are averaged as they are.
    images: see `align`.
    activation: index into `target.activations`; `Networks` have their own.

  Returns:
    The weights of one network, in the gauge of the first.

  Raises:
    InputError: no networks, networks of several shapes or activations, weights
      that are not finite, or a number of weights or a sum that does not fit.
  """
  several, activation = _networks(networks, activation)
  count = len(several)
  shares = np.full(count, 1 / count)
  if weights is not None:
    shares = np.asarray(weights, np.float64)
    if shares.shape != (count,):
      raise InputError(
        f"merge: {shares.size} weights for {count} networks, expected {count}"
      )
    # NaN is no number close to 1.
    if not abs(shares.sum() - 1) <= _SUM:
      raise InputError(
        f"merge: the sum of the weights is {shares.sum():g}, expected 1"
      )
  shapes = several[0] if target is None else _shapes(target)
  for i, network in enumerate(several):
    _check_fits(f"merge: network {i}", network, shapes)
  if target is not None:
    bring = aligner(target, images, activation=activation)(several[0])
    several[1:] = [bring(network).weights for network in several[1:]]

  def average(*leaves):
    total = np.zeros(np.shape(leaves[0]))
    for share, leaf in zip(shares, leaves, strict=True):
      total += share * _on_host(leaf)
    return _like(leaves[0], total)

  return jax.tree.map(average, *several)


def _networks(networks: Any, activation: int) -> tuple[list[Weights], int]:
  """([weights of each network], their activation)."""
  if isinstance(networks, Networks):
    kinds = {int(kind) for kind in networks.activation}
    if len(kinds) > 1:
      raise InputError(
        f"merge: networks with the activations {sorted(kinds)}, expected one"
      )
    activation = kinds.pop() if kinds else activation
    networks = networks.weights
  if isinstance(networks, list):
    several = list(networks)
  else:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(networks)}
    if len(counts) != 1 or counts == {()}:
      raise InputError(
        f"merge: the first axes of the weights have the sizes "
        f"{sorted(n for (n,) in counts - {()})}, expected the number of "
        f"networks, or a list of networks"
      )
    ((count,),) = counts
    several = [
      jax.tree.map(lambda leaf, i=i: leaf[i], networks) for i in range(count)
    ]
  if not several:
    raise InputError("merge: no networks, expected at least one")
  return several, activation


def _shapes(target: TargetNetwork) -> Weights:
  return jax.eval_shape(target.init, jax.random.key(0))


def _check_fits(where: str, weights: Weights, shapes: Weights) -> None:
  """InputError unless the weights are known, finite and of these shapes."""
  if not compilation.known(weights):
    raise InputError(
      f"{where}: the weights are traced, expected arrays: linear assignment is "
      "done on the host, outside of jit and vmap"
    )
  found, expected = (
    {
      leaf_name(path): np.shape(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (weights, shapes)
  )
  for name in expected | found:
    if name not in found or name not in expected:
      problem = "is missing" if name in expected else "is not expected"
      raise InputError(f"{where}: weight {name} {problem}")
    if found[name] != expected[name]:
      raise InputError(
        f"{where}: weight {name} has shape {list(found[name])}, expected "
        f"{list(expected[name])}"
      )
  if jax.tree.structure(weights) != jax.tree.structure(shapes):
    raise InputError(
      f"{where}: the weights are {jax.tree.structure(weights)}, expected "
      f"{jax.tree.structure(shapes)}"
    )
  try:
    inputs.check_finite(weights)
  except InputError as error:
    raise InputError(f"{where}: {error}") from None


def _on_host(leaf: Any) -> np.ndarray:
  """An array of numpy with at least the precision of float32."""
  array = np.asarray(leaf)
  return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def _like(leaf: Any, value: np.ndarray) -> Any:
  """A value in the type of a leaf, of numpy or of jax."""
  value = value.astype(leaf.dtype)
  return value if isinstance(leaf, np.ndarray) else jnp.asarray(value)


def _cosine(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
  products, *squares = (
    sum(float(np.vdot(x, y)) for x, y in zip(s, t, strict=True))
    for s, t in ((a, b), (a, a), (b, b))
  )
  return products / max(float(np.sqrt(squares[0] * squares[1])), 1e-300)
