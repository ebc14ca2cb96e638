"""How far a function of weights is from equivariant or invariant.

Both measures can be jitted, so that the error of a model in training can be
logged with its other metrics.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights
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
