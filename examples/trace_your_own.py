"""The symmetry of an architecture of your own is found, tested and used."""

import jax
import jax.numpy as jnp

import scalegmn_jax as sg
from scalegmn_jax import testing

WIDTH = 8


def init(key):
  shapes = {"embed": (4, WIDTH), "up": (WIDTH, 16), "down": (16, WIDTH)}
  shapes |= {"scale": (WIDTH,), "head": (WIDTH, 3)}
  keys = jax.random.split(key, len(shapes))
  draw = jax.random.normal
  return {
    name: draw(k, shape) / shape[0] ** 0.5
    for k, (name, shape) in zip(keys, shapes.items(), strict=True)
  }


def apply(params, x):  # a residual stream with an RMSNorm
  x = x @ params["embed"]
  size = jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  x = (
    x + jax.nn.relu(x / size * params["scale"] @ params["up"]) @ params["down"]
  )
  return x @ params["head"]


params = init(jax.random.key(0))
target = sg.trace(apply, params, jnp.ones((2, 4)), init=init)
print(target.explain())
testing.assert_symmetric(target, jax.random.key(1))

operator = sg.operator(target, width=4, depth=1)  # for sg.train
edited = jax.jit(operator.apply)(operator.init(jax.random.key(2)), params)
print(jax.tree.map(jnp.shape, edited))
