"""Targets of one's own for tests: functions that a config names."""

import math

import jax
import jax.numpy as jnp

import scalegmn_jax as sg


def residual(input_shape, classes):
  """A residual MLP with a gain, whose initializers no other target shares."""
  inputs = math.prod(input_shape)

  def init(key):
    keys = jax.random.split(key, 4)
    shapes = {
      "in": (inputs, 8), "up": (8, 6), "down": (6, 8), "out": (8, classes),
    }  # fmt: skip
    kernels = {
      name: jax.random.normal(k, shape) * shape[0] ** -0.5
      for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return kernels | {"gain": jnp.ones(6)}

  def apply(p, x):
    x = x.reshape(len(x), -1) @ p["in"]
    hidden = jax.nn.relu(x @ p["up"]) * p["gain"][None]
    return jax.nn.relu(x + hidden @ p["down"]) @ p["out"]

  params = jax.eval_shape(init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  return sg.trace(apply, params, x, init=init, verify=False)


def nothing(input_shape, classes):
  return input_shape, classes
