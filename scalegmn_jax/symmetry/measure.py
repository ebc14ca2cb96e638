"""Symmetry errors: deviation of functions of weights from their group laws.

`equivariance_error` and `invariance_error` measure a function of the weights of
one architecture. They can be jitted, so a training can log them with its other
metrics. `update_error`, `function_error` and `output_error` measure trained
metanetworks on populations of networks with several activations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched, compilation
from scalegmn_jax.base import (
  Networks,
  Params,
  SymmetrySpec,
  TargetNetwork,
  Weights,
  full_precision,
)
from scalegmn_jax.symmetry import actions, canonical
from scalegmn_jax.symmetry.actions import GroupElement
from scalegmn_jax.symmetry.spec import leaves


class SampleOptions(TypedDict, total=False):
  """Keyword arguments that select random group elements.

  Attributes:
    activation: index of the network's activation (a Python integer); default 0.
    decades: positive multipliers are log-uniform in 10**±decades; default 1.
    samples: number of group elements per network; default 1.
  """

  activation: int
  decades: float
  samples: int


def equivariance_error(
  f: Callable[[Weights], Weights],
  spec: SymmetrySpec,
  weights: Weights,
  key: jax.Array,
  **options: Unpack[SampleOptions],
) -> dict[str, jax.Array]:
  """‖g⁻¹·f(gθ) − f(θ)‖ / ‖f(θ)‖ of each tensor, the maximum over random g.

  f must return an *update*. In θ' = θ + Δ a small Δ hides behind θ: the
  identity is equivariant, and Δ may be anything.

  Args:
    f: weights -> updates, a pytree like the weights.
    spec: the symmetry.
    weights: of one network, θ.
    key: consumed.
    **options: see `SampleOptions`.

  Returns:
    {name of the weight: error []}, see `relative_error`.
  """
  update = f(weights)

  def error(g):
    update_at_g = f(actions.act(g, spec, weights))
    return _pulled_back_error(spec, g, update, update_at_g)

  return _worst(error, spec, key, **options)


class InvarianceError(NamedTuple):
  """Error and scale of each output, in the shape of one network's output.

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
  **options: Unpack[SampleOptions],
) -> InvarianceError:
  """Changes of f under the group, relative to differences between networks.

  A nearly constant function is nearly invariant under any group, so the
  standard deviation over networks is the unit.

  Args:
    f: the weights of one network -> array.
    spec: the symmetry.
    weights: of several networks with one activation; leaves are [B, ...].
    key: consumed; every network is acted on by its own g.
    **options: see `SampleOptions`.
  """
  values = jax.vmap(f)(weights)

  def error(elements):
    return _relative_to_spread(values, jax.vmap(f_at)(elements, weights))

  def f_at(g, weights):
    return f(actions.act(g, spec, weights))

  return InvarianceError(
    _worst(error, spec, key, networks=len(values), **options), values.std(0)
  )


def relative_error(
  spec: SymmetrySpec, expected: Weights, actual: Weights
) -> dict[str, jax.Array]:
  """‖actual − expected‖ / ‖expected‖ of each tensor of one network.

  Returns:
    {name of the weight: error []}. NaN where `expected` is zero or not finite
    (there is nothing to compare with), inf where only `actual` is not finite.
  """
  errors = {}
  for (name, a, _), (_, b, _) in zip(
    leaves(spec, expected), leaves(spec, actual), strict=True
  ):
    size = canonical.norm(a.ravel())
    distance = canonical.norm((b - a).ravel())
    # The norm of NaN is 0, so finiteness is tested on the entries.
    distance = jnp.where(jnp.isfinite(b).all(), distance, jnp.inf)
    errors[name] = _quotient(distance, size, jnp.isfinite(a).all())
  return errors


def _pulled_back_error(
  spec: SymmetrySpec, g: GroupElement, update: Weights, update_at_g: Weights
) -> dict[str, jax.Array]:
  """`relative_error` of g⁻¹·Δ(gθ) against Δ(θ)."""
  back = actions.act(actions.inverse(g), spec, update_at_g)
  return relative_error(spec, update, back)


def _relative_to_spread(values: jax.Array, values_at_g: jax.Array) -> jax.Array:
  """See `InvarianceError.error`; both arguments are [B, ...]."""
  distance = jnp.abs(values_at_g - values)
  distance = jnp.where(jnp.isfinite(values_at_g), distance, jnp.inf).max(0)
  spread = values.std(0)
  return _quotient(distance, spread, jnp.isfinite(spread))


def _quotient(
  distance: jax.Array, unit: jax.Array, valid: jax.Array
) -> jax.Array:
  """distance / unit, NaN where the unit is zero or not valid."""
  valid = valid & (unit > 0)
  return jnp.where(valid, distance / jnp.where(valid, unit, 1), jnp.nan)


def _worst(
  error: Callable[[GroupElement], Any],
  spec: SymmetrySpec,
  key: jax.Array,
  *,
  networks: int | None = None,
  activation: int = 0,
  decades: float = 1.0,
  samples: int = 1,
) -> Any:
  """The maximum of `error` over random group elements.

  Args:
    error: group element -> a pytree of errors; elements have an axis [B] where
      `networks` is given.
    spec: the symmetry.
    key: consumed.
    networks: B.
    activation, decades, samples: see `SampleOptions`.
  """

  def sample(key):
    return actions.sample(key, spec, activation, decades=decades)

  def error_of_sample(key):
    if networks is None:
      return error(sample(key))
    return error(jax.vmap(sample)(jax.random.split(key, networks)))

  errors = jax.lax.map(error_of_sample, jax.random.split(key, samples))
  return jax.tree.map(lambda e: e.max(0), errors)


def regauge_networks(
  target: TargetNetwork, *, decades: float = 1.0
) -> Callable[[Networks, jax.Array], tuple[GroupElement, Networks]]:
  """Acts on each network with a random group element of its activation.

  Args:
    target: the architecture.
    decades: positive multipliers are log-uniform in 10**±decades.

  Returns:
    (networks θ, key) -> (g, gθ): the group elements, stacked, and the regauged
    networks, which have the functions of θ.
  """
  spec = target.spec

  def regauge_one(key, item):
    network, number = item
    key = jax.random.fold_in(key, number)
    # One element per activation; the network's activation selects one of them.
    elements = [
      actions.sample(key, spec, index, decades=decades)
      for index in range(len(target.activations))
    ]
    g = jax.tree.map(lambda *a: jnp.stack(a)[network.activation], *elements)
    return g, actions.act(g, spec, network.weights)

  apply = batched.apply_batched(regauge_one, batch_size=1)

  def regauge(networks, key):
    g, weights = apply(key, (networks, np.arange(networks.size)))
    return g, networks._replace(weights=weights)

  return regauge


ErrorFn = Callable[[Params, Networks, jax.Array], np.ndarray]
"""(φ, networks, key) -> the symmetry error of each network [B], for a random
group element each (see `regauge_networks`)."""


def update_error(edit: batched.EditFn, target: TargetNetwork) -> ErrorFn:
  """‖g⁻¹Δ(gθ) - Δ(θ)‖ / ‖Δ(θ)‖ for the updates Δ = θ' - θ of an operator.

  Args:
    edit: see `batched.edit_networks`.
    target: the architecture.

  Returns:
    The error of the worst weight tensor of each network.
  """

  def error(g, network, edited, regauged, regauged_edited):
    update, update_at_g = (
      jax.tree.map(jnp.subtract, after.weights, before.weights)
      for before, after in ((network, edited), (regauged, regauged_edited))
    )
    errors = _pulled_back_error(target.spec, g, update, update_at_g)
    # Running statistics that are written as they were have no update.
    same = [
      (a == 0).all() & (b == 0).all()
      for a, b in zip(*map(jax.tree.leaves, (update, update_at_g)), strict=True)
    ]
    return jnp.stack(
      [
        jnp.where(zero, 0, error)
        for zero, error in zip(same, errors.values(), strict=True)
      ]
    ).max()

  return _error_of_edits(error, edit, target)


def function_error(
  edit: batched.EditFn, target: TargetNetwork, inputs: np.ndarray
) -> ErrorFn:
  """‖u'(x) - u(x)‖ / ‖u(x)‖ for the outputs u of edited θ and u' of edited gθ.

  Where neurons are equal up to rounding, an operator that sorts neurons may
  write to them in another order: other weights, but the same function.

  Args:
    edit: see `batched.edit_networks`.
    target: the architecture.
    inputs: x [N, ...].
  """
  x = jax.device_put(inputs)

  @full_precision
  def error(g, network, edited, regauged, regauged_edited):
    del g, network, regauged
    before, after = (
      target.apply(n.weights, x, n.activation)
      for n in (edited, regauged_edited)
    )
    return jnp.linalg.norm(after - before) / jnp.linalg.norm(before)

  return _error_of_edits(error, edit, target)


def _error_of_edits(
  error: Callable[..., jax.Array], edit: batched.EditFn, target: TargetNetwork
) -> ErrorFn:
  """Maps `error` (g, network, edited, regauged, regauged and edited) -> []."""
  regauge = regauge_networks(target)
  measure = batched.apply_batched(
    lambda shared, item: error(*item), batch_size=1
  )

  def measure_all(params, networks, key):
    g, regauged = regauge(networks, key)
    edited, regauged_edited = edit(params, networks), edit(params, regauged)
    items = (g, networks, edited, regauged, regauged_edited)
    return jax.device_get(measure((), items))

  return measure_all


def output_error(
  read: batched.ReadFn, target: TargetNetwork
) -> Callable[[Params, Networks, jax.Array], float]:
  """max |f(gθ) - f(θ)| of a functional f over networks and outputs.

  Args:
    read: see `batched.read_networks`.
    target: the architecture.

  Returns:
    (φ, networks, key) -> the error for a random g per network, in units of the
    standard deviation of each output over networks (see `InvarianceError`).
  """
  regauge = regauge_networks(target)

  def error(params, networks, key):
    values = read(params, networks)
    values_at_g = read(params, regauge(networks, key)[1])
    return float(_relative_to_spread(values, values_at_g).max())

  return error


@compilation.run_once
def with_noise(weights: Weights, key: jax.Array) -> Weights:
  """Adds a tenth of the standard deviation of each weight, 0.1 to constants.

  Zeros do not show how a weight transforms.
  """
  leaves, structure = jax.tree.flatten(weights)
  ends = np.cumsum([leaf.size for leaf in leaves])
  # One draw for all: a draw per shape would be most of the compiling.
  numbers = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])

  def one(w, numbers):
    std = jnp.where(w.std() > 0, w.std(), 1)
    return w + (0.1 * std * numbers.reshape(w.shape)).astype(w.dtype)

  return jax.tree.unflatten(structure, list(map(one, leaves, numbers)))
