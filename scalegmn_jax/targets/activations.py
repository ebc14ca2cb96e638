"""Activation functions of target networks, and the choice among them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": jax.nn.relu,
  "leaky_relu": jax.nn.leaky_relu,
  "tanh": jnp.tanh,
  "sine": jnp.sin,
  "gelu": jax.nn.gelu,
  "silu": jax.nn.silu,
}


def activate(
  names: Sequence[str], x: jax.Array, activation: jax.Array | int
) -> jax.Array:
  """The activation with this index among `names`, elementwise.

  All of them are computed if there are several: in a batch of networks of
  different activations each network has its own index.
  """
  result = ACTIVATIONS[names[0]](x)
  for i, name in enumerate(names[1:], 1):
    result = jnp.where(activation == i, ACTIVATIONS[name](x), result)
  return result


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """x [..., D] + bias [D]."""
  return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def drop(x: jax.Array, dropout) -> jax.Array:
  """Inverted dropout with (rate, key), or x itself for None."""
  if dropout is None:
    return x
  rate, key = dropout
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0)
