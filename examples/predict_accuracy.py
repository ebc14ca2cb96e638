"""A functional predicts the accuracy of networks from their weights."""

import sys

import jax
import jax.numpy as jnp
import optax
from scipy.stats import kendalltau

import scalegmn_jax as sg
from scalegmn_jax.data import images
from scalegmn_jax.gmn import probes

networks, steps = map(int, sys.argv[1:] or (256, 1000))
digits, optimizer = images.load("digits"), optax.adam(3e-3)
target = sg.cnn(input_shape=(8, 8, 1), channels=(8,), padding="SAME")
losses = sg.finetune_losses(target, l1=0.0)
functional = sg.functional(target, width=16, depth=0, probes=32)
functional = probes.init_from_inputs(functional, digits.train_x, 0, probes=32)
read = jax.vmap(functional.apply, (None, 0))


def minimize(error, steps, params):
  def step(_, state):
    updates, inner = optimizer.update(jax.grad(error)(state[0]), state[1])
    return optax.apply_updates(state[0], updates), inner

  return jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))[0]


def train(key, steps):  # a network after some steps, and its accuracy
  data = digits.train_x[:256], digits.train_y[:256]
  w = minimize(
    lambda w: losses(sg.Network(w, 0), *data)[0], steps, target.init(key)
  )
  return w, losses(sg.Network(w, 0), digits.test_x, digits.test_y).accuracy


keys, new = jax.random.split(jax.random.key(0), networks), networks // 4
zoo, accuracy = jax.jit(jax.vmap(train))(keys, jnp.arange(networks) * 7 % 300)
seen = jax.tree.map(lambda a: a[new:], zoo)
error = jax.jit(lambda p: ((read(p, seen)[:, 0] - accuracy[new:]) ** 2).mean())
params = minimize(error, steps, functional.init(jax.random.key(1)))
tau = kendalltau(read(params, zoo)[:new, 0], accuracy[:new]).statistic
print(f"Kendall's tau on {new} networks never seen: {tau:.2f}")
