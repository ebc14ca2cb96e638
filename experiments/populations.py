"""A metanetwork on a population, and how exactly it keeps the symmetry."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import MetaNetwork, Params, TargetNetwork, Zoo
from scalegmn_jax.eval import scores as scoring
from scalegmn_jax.symmetry import actions, errors
from scalegmn_jax.training.losses import Losses

BATCH = {"cpu": 16}
"""Networks that are read at a time, by backend; 64 on others. Each number of
networks below it is a program of its own to compile."""

Shot = Callable[[Params, Zoo], Zoo]
"""(φ, zoo) -> the zoo of edited networks."""


def reader(metanetwork: MetaNetwork) -> Callable[[Params, Zoo], Any]:
  """(φ, zoo) -> what the metanetwork gives for every network: [B, ...].

  A batch at a time; on a CPU its networks one after another, which takes no
  longer and less memory.
  """
  backend = jax.default_backend()
  mapped, batch = backend == "cpu", BATCH.get(backend, 64)

  @jax.jit
  def apply(params, zoo):
    def one(network):
      return metanetwork.apply(params, network.weights, network.activation)

    # An axis of length one would be slow.
    if mapped or zoo.activation.shape[0] == 1:
      return jax.lax.map(one, zoo)
    return jax.vmap(one)(zoo)

  def read(params, zoo):
    count = zoo.activation.shape[0]
    size = min(batch, count)
    if size == count:
      return apply(params, zoo)
    host = jax.device_get(zoo)
    parts = []
    for start in range(0, count, size):
      # The last batch reaches back, so that all have one shape.
      begin = min(start, count - size)
      part = jax.tree.map(lambda a, b=begin: a[b : b + size], host)
      found = apply(params, jax.device_put(part))
      parts.append(jax.tree.map(lambda a, b=start - begin: a[b:], found))
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

  return read


def one_shot(operator: MetaNetwork) -> Shot:
  """The operator on every network of a zoo."""
  read = reader(operator)
  return lambda params, zoo: zoo._replace(weights=read(params, zoo))


def validation(
  losses: Callable[..., Losses], images: np.ndarray, labels: np.ndarray
) -> Callable[[Zoo], dict[str, float]]:
  """zoo -> {"val_objective", ...}: means over its networks on these images."""
  images, labels = jax.device_put((images, labels))

  @jax.jit
  def measure(zoo):
    result = jax.lax.map(lambda n: losses(n, images, labels), zoo)
    return {f"val_{k}": v.mean() for k, v in result._asdict().items()}

  return lambda zoo: {
    k: float(v) for k, v in jax.device_get(measure(zoo)).items()
  }


def regauge(
  target: TargetNetwork, *, decades: float = 1.0
) -> Callable[[Zoo, jax.Array], tuple[Any, Zoo]]:
  """(zoo, key) -> (g, gθ): every network moved by a random group element.

  The functions of the networks do not change. Multipliers of the scale group
  are drawn from 10**±decades.
  """
  spec = target.spec

  @jax.jit
  def move(given, key):
    network, number = given
    key = jax.random.fold_in(key, number)
    # An element for every activation, of which the network's own is taken.
    elements = [
      actions.sample(key, spec, index, decades=decades)
      for index in range(len(target.activations))
    ]
    g = jax.tree.map(lambda *a: jnp.stack(a)[network.activation], *elements)
    return g, network._replace(weights=actions.act(g, spec, network.weights))

  def moved(zoo, key):
    numbers = np.arange(zoo.activation.shape[0])
    return scoring.each(move, (zoo, numbers), key)

  return moved


Error = Callable[[Params, Zoo, jax.Array], np.ndarray]
"""(φ, zoo, key) -> [B], of each network for a random g (see `regauge`)."""


def equivariance_error(shot: Shot, target: TargetNetwork) -> Error:
  """‖g⁻¹Δ(gθ) - Δ(θ)‖ / ‖Δ(θ)‖ of updates, that of the worst weight tensor."""
  spec = target.spec

  def relative(g, network, edited, moved, edited_moved):
    update, of_moved = (
      jax.tree.map(jnp.subtract, after.weights, before.weights)
      for before, after in ((network, edited), (moved, edited_moved))
    )
    back = actions.act(actions.inverse(g), spec, of_moved)
    found = errors.relative_error(spec, update, back)
    return jnp.stack(list(found.values())).max()

  return _regauged(shot, target, relative)


def function_error(
  shot: Shot, target: TargetNetwork, inputs: np.ndarray
) -> Error:
  """‖u'(x) - u(x)‖ / ‖u(x)‖ of the outputs of the edited networks of θ and gθ.

  Where neurons are the same to rounding, an operator that tells neurons apart
  may write to them in another order: other weights of the same function.
  """
  x = jax.device_put(inputs)

  def relative(g, network, edited, moved, edited_moved):
    del g, network, moved
    before, after = (
      target.apply(n.weights, x, n.activation) for n in (edited, edited_moved)
    )
    return jnp.linalg.norm(after - before) / jnp.linalg.norm(before)

  return _regauged(shot, target, relative)


def _regauged(
  shot: Shot, target: TargetNetwork, relative: Callable[..., jax.Array]
) -> Error:
  """`relative` of (g, network, edited network, gθ, edited gθ)."""
  move = regauge(target)
  relative = jax.jit(relative)

  def error(params, zoo, key):
    g, moved = move(zoo, key)
    given = (g, zoo, shot(params, zoo), moved, shot(params, moved))
    return scoring.each(lambda one: relative(*one), given)

  return error


def invariance_error(
  read: Callable[[Params, Zoo], jax.Array], target: TargetNetwork
) -> Callable[[Params, Zoo, jax.Array], jax.Array]:
  """(φ, zoo, key) -> the greatest error of a functional's outputs [B, K].

  |f(gθ) - f(θ)| for random g (see `regauge`), relative to the spread of f
  over the networks of the zoo, its standard deviation.
  """
  move = regauge(target)

  def error(params, zoo, key):
    before = read(params, zoo)
    after = read(params, move(zoo, key)[1])
    return (jnp.abs(after - before) / before.std(0, keepdims=True)).max()

  return error
