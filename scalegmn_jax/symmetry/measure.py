"""How far a function of weights is from equivariant or invariant.

Both measures can be jitted, so that the error of a model in training can be
logged with its other metrics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Networks,
  Params,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.symmetry import actions, canonical
from scalegmn_jax.symmetry.spec import leaves


def equivariance_error(
  f: Callable[[Weights], Weights],
  spec: SymmetrySpec,
  weights: Weights,
  key: jax.Array,
  *,
  activation: int = 0,
  decades: float = 1.0,
  samples: int = 1,
) -> dict[str, jax.Array]:
  """‖g⁻¹·f(gθ) − f(θ)‖ / ‖f(θ)‖ of every tensor, the worst of some g.

  Give it the function that returns an *update*. In θ' = θ + Δ a small Δ hides
  behind θ: the identity is equivariant, and Δ may be anything.

  Args:
    f: weights -> updates, a pytree like the weights.
    spec: the symmetry.
    weights: of one network, θ.
    key: consumed.
    activation: index of the network's activation (a Python integer).
    decades: positive multipliers are log-uniform in 10**±decades.
    samples: number of group elements.

  Returns:
    {name of the weight: error []}. NaN where f(θ) is zero or not finite, for
    then there is nothing to compare with; inf where only f(gθ) is not finite.
  """
  update = f(weights)

  def one(key):
    g = actions.sample(key, spec, activation, decades=decades)
    moved = f(actions.act(g, spec, weights))
    back = actions.act(actions.inverse(g), spec, moved)
    return relative_error(spec, update, back)

  errors = jax.lax.map(one, jax.random.split(key, samples))
  return {name: error.max() for name, error in errors.items()}


def relative_error(
  spec: SymmetrySpec, expected: Weights, found: Weights
) -> dict[str, jax.Array]:
  """‖found − expected‖ / ‖expected‖ of every tensor of one network.

  Returns:
    {name of the weight: error []}. NaN where `expected` is zero or not finite,
    inf where only `found` is not finite.
  """
  result = {}
  for (name, a, _), (_, b, _) in zip(
    leaves(spec, expected), leaves(spec, found), strict=True
  ):
    size = canonical.norm(a.ravel())
    distance = canonical.norm((b - a).ravel())
    # The norm of NaN is 0, so the numbers themselves are looked at.
    distance = jnp.where(jnp.isfinite(b).all(), distance, jnp.inf)
    sound = jnp.isfinite(a).all() & (size > 0)
    result[name] = jnp.where(
      sound, distance / jnp.where(sound, size, 1), jnp.nan
    )
  return result


class InvarianceError(NamedTuple):
  """Both have the shape of what f returns for one network.

  Attributes:
    error: max |f(gθ) − f(θ)| over networks and group elements, in units of
      the spread; NaN where the spread is zero or f(θ) is not finite, inf where
      only f(gθ) is not finite.
    spread: the standard deviation of f(θ) over networks.
  """

  error: jax.Array
  spread: jax.Array


def invariance_error(
  f: Callable[[Weights], jax.Array],
  spec: SymmetrySpec,
  weights: Weights,
  key: jax.Array,
  *,
  activation: int = 0,
  decades: float = 1.0,
  samples: int = 1,
) -> InvarianceError:
  """How much f changes under the group, against how much networks differ.

  A function that says nearly the same of all networks is nearly invariant
  whatever it does; so the difference between networks is the unit.

  Args:
    f: the weights of one network -> array.
    spec: the symmetry.
    weights: of a population with one activation; leaves are [B, ...].
    key: consumed; every network is moved by a g of its own.
    activation: index of the networks' activation (a Python integer).
    decades: positive multipliers are log-uniform in 10**±decades.
    samples: number of group elements per network.
  """
  networks = jax.tree.leaves(weights)[0].shape[0]
  values = jax.vmap(f)(weights)
  spread = values.std(0)

  def moved(key, weights):
    g = actions.sample(key, spec, activation, decades=decades)
    return f(actions.act(g, spec, weights))

  def one(key):
    at_g = jax.vmap(moved)(jax.random.split(key, networks), weights)
    distance = jnp.abs(at_g - values)
    return jnp.where(jnp.isfinite(at_g), distance, jnp.inf).max(0)

  distance = jax.lax.map(one, jax.random.split(key, samples)).max(0)
  sound = jnp.isfinite(spread) & (spread > 0)
  error = jnp.where(sound, distance / jnp.where(sound, spread, 1), jnp.nan)
  return InvarianceError(error, spread)


def regauge_networks(
  target: TargetNetwork, *, decades: float = 1.0
) -> Callable[[Networks, jax.Array], tuple[Any, Networks]]:
  """Moves every network by a random group element of its activation.

  Args:
    target: the architecture.
    decades: positive multipliers are log-uniform in 10**±decades.

  Returns:
    (networks θ, key) -> (g, gθ): the element of each network, stacked, and the
    moved networks. Their functions are those of θ.
  """
  spec = target.spec

  def move(key, item):
    network, number = item
    key = jax.random.fold_in(key, number)
    # One element per activation, of which the network's own is selected.
    elements = [
      actions.sample(key, spec, index, decades=decades)
      for index in range(len(target.activations))
    ]
    g = jax.tree.map(lambda *a: jnp.stack(a)[network.activation], *elements)
    return g, actions.act(g, spec, network.weights)

  apply = batched.apply_batched(move, batch_size=1)

  def moved(networks, key):
    g, weights = apply(key, (networks, np.arange(networks.size)))
    return g, networks._replace(weights=weights)

  return moved


ErrorFn = Callable[[Params, Networks, jax.Array], np.ndarray]
"""(φ, networks, key) -> the symmetry error of each network [B], for a random
group element each (see `regauge_networks`)."""


def update_error(edit: batched.EditFn, target: TargetNetwork) -> ErrorFn:
  """‖g⁻¹Δ(gθ) - Δ(θ)‖ / ‖Δ(θ)‖ of the updates Δ = θ' - θ of an operator.

  Args:
    edit: see `batched.edit_networks`.
    target: the architecture.

  Returns:
    The error of the worst weight tensor of each network.
  """
  spec = target.spec

  def relative(g, network, edited, moved, edited_moved):
    update, of_moved = (
      jax.tree.map(jnp.subtract, after.weights, before.weights)
      for before, after in ((network, edited), (moved, edited_moved))
    )
    back = actions.act(actions.inverse(g), spec, of_moved)
    return jnp.stack(list(relative_error(spec, update, back).values())).max()

  return _regauged(edit, target, relative)


def function_error(
  edit: batched.EditFn, target: TargetNetwork, inputs: np.ndarray
) -> ErrorFn:
  """‖u'(x) - u(x)‖ / ‖u(x)‖ of the outputs of the edited θ and the edited gθ.

  Where neurons are equal up to rounding, an operator that sorts neurons may
  write to them in another order: other weights of the same function.

  Args:
    edit: see `batched.edit_networks`.
    target: the architecture.
    inputs: x [N, ...].
  """
  x = jax.device_put(inputs)

  def relative(g, network, edited, moved, edited_moved):
    del g, network, moved
    before, after = (
      target.apply(n.weights, x, n.activation) for n in (edited, edited_moved)
    )
    return jnp.linalg.norm(after - before) / jnp.linalg.norm(before)

  return _regauged(edit, target, relative)


def _regauged(
  edit: batched.EditFn,
  target: TargetNetwork,
  relative: Callable[..., jax.Array],
) -> ErrorFn:
  """`relative` of (g, network, edited network, gθ, edited gθ)."""
  move = regauge_networks(target)
  measure = batched.apply_batched(
    lambda shared, item: relative(*item), batch_size=1
  )

  def error(params, networks, key):
    g, moved = move(networks, key)
    items = (
      g, networks, edit(params, networks), moved, edit(params, moved)
    )  # fmt: skip
    return jax.device_get(measure((), items))

  return error


def output_error(
  read: batched.ReadFn, target: TargetNetwork
) -> Callable[[Params, Networks, jax.Array], float]:
  """The greatest |f(gθ) - f(θ)| of a functional f, over networks and outputs.

  Args:
    read: see `batched.read_networks`.
    target: the architecture.

  Returns:
    (φ, networks, key) -> the error for a random g per network, in units of the
    standard deviation of f over the networks.
  """
  move = regauge_networks(target)

  def error(params, networks, key):
    before = read(params, networks)
    after = read(params, move(networks, key)[1])
    return float((jnp.abs(after - before) / before.std(0, keepdims=True)).max())

  return error
