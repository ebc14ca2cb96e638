"""Activation functions of target networks, selected by index."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from scalegmn_jax.base import random_array


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sine(x: jax.Array, quarters: int) -> jax.Array:
  """sin(x + quarters·π/2) of float32, to 1e-7 where |x| < 1e4.

  On a CPU, XLA calls the C library for every sine, which takes 9.5 ns; the
  rest of a SIREN's forward and backward pass takes a few. This implementation
  takes 0.4 ns and shares work with the cosine of the derivative. It subtracts
  multiples of π/2 in three parts (Cody-Waite range reduction), then evaluates
  the polynomials of Cephes (S. Moshier).
  """
  turns = jnp.round(x * (2 / math.pi))
  r = x - turns * 1.5703125
  r = r - turns * 4.837512969970703e-4
  r = r - turns * 7.549789948768648e-8
  z = r * r
  p = (-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1
  sine = r + r * z * p
  p = (2.443315711809948e-5 * z - 1.388731625493765e-3) * z
  cosine = 1 + z * (-0.5 + z * (p + 4.166664568298827e-2))
  quadrant = turns.astype(jnp.int32) + quarters
  y = jnp.where(quadrant & 1 == 1, cosine, sine)
  return jnp.where(quadrant & 2 == 2, -y, y)


@_sine.defjvp
def _(quarters, primals, tangents):
  (x,), (t,) = primals, tangents
  return _sine(x, quarters), _sine(x, quarters + 1) * t


def sine(x: jax.Array) -> jax.Array:
  """sin x, elementwise."""
  return _sine(x, 0) if x.dtype == jnp.float32 else jnp.sin(x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": jax.nn.relu,
  "leaky_relu": jax.nn.leaky_relu,
  "tanh": jnp.tanh,
  "sine": sine,
  "gelu": jax.nn.gelu,
  "silu": jax.nn.silu,
}


def activate(
  names: Sequence[str], x: jax.Array, activation: jax.Array | int
) -> jax.Array:
  """Applies the activation `names[activation]`, elementwise.

  All activations in `names` are computed, because each network of a batch may
  have its own index.

  Args:
    names: keys of `ACTIVATIONS`.
    x: any shape.
    activation: index into `names`, possibly traced.
  """
  result = ACTIVATIONS[names[0]](x)
  for i, name in enumerate(names[1:], 1):
    result = jnp.where(activation == i, ACTIVATIONS[name](x), result)
  return result


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """x [..., D] + bias [D]."""
  return x + _along_last(bias, x)


def scale(x: jax.Array, gain: jax.Array) -> jax.Array:
  """x [..., D] times gain [D]."""
  return x * _along_last(gain, x)


def _along_last(vector: jax.Array, x: jax.Array) -> jax.Array:
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def drop(
  x: jax.Array, dropout: tuple[jax.Array | float, jax.Array] | None
) -> jax.Array:
  """Inverted dropout of x; `dropout` is (rate, key), or None for none."""
  if dropout is None:
    return x
  rate, key = dropout
  keep = random_array(jax.random.bernoulli, key, x.shape, p=1 - rate)
  return jnp.where(keep, x / (1 - rate), 0)
