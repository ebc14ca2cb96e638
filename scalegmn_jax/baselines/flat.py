"""MLPs on the flat weights of a network, without any symmetry."""

from collections.abc import Callable

import jax
import jax.flatten_util
import jax.numpy as jnp

from scalegmn_jax.base import Functional, Operator, Params, TargetNetwork
from scalegmn_jax.gmn import layers
from scalegmn_jax.symmetry.spec import keep_statistics


def flat_operator(
  target: TargetNetwork, *, width: int, step: float = 0.01
) -> Operator:
  """An operator without symmetry: θ' = θ + α MLP(θ) on the flat weights.

  It reads running statistics, but does not update them.

  Args:
    target: the architecture.
    width: width of the hidden layers.
    step: initial α.
  """
  size = _size(target)
  init_mlp, mlp = _mlp(size, width, size)

  def init(key):
    return init_mlp(key) | {"step": jnp.full((), step)}

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    edited = unravel(flat + params["step"] * mlp(params, flat))
    return keep_statistics(target.spec, weights, edited)

  return Operator(init, apply)


def flat_functional(
  target: TargetNetwork, *, width: int, outputs: int = 1
) -> Functional:
  """A functional without symmetry: MLP(θ) on the flat weights.

  Args:
    target: the architecture.
    width: width of the hidden layers.
    outputs: number of outputs.
  """
  init, mlp = _mlp(_size(target), width, outputs)

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    return mlp(params, jax.flatten_util.ravel_pytree(weights)[0])

  return Functional(init, apply)


def _size(target: TargetNetwork) -> int:
  """The number of weights of one network."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _mlp(
  d_in: int, width: int, d_out: int
) -> tuple[
  Callable[[jax.Array], dict], Callable[[Params, jax.Array], jax.Array]
]:
  """(init, apply) of an MLP with three hidden layers: [d_in] -> [d_out]."""

  def init(key):
    params = {
      "in": layers.mlp_params(d_in, width, width),
      "out": layers.mlp_params(width, width, d_out),
    }
    return layers.init(key, params)

  def apply(params, x):
    return layers.mlp(params["out"], layers.mlp(params["in"], x))

  return init, apply
