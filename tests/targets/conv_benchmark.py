"""Patches and a matrix product against `lax.conv`, both under `vmap`.

python tests/targets/conv_benchmark.py prints the median milliseconds of
forward and backward for 16 small CNNs on 128 images, and their ratio.
"""

import time
from unittest import mock

import jax
import jax.numpy as jnp

from scalegmn_jax.targets import cnn as cnns


def lax_conv(x, kernel, stride, padding):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def median_seconds(f, *args, runs=5):
  jax.block_until_ready(f(*args))
  times = []
  for _ in range(runs):
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    times.append(time.perf_counter() - start)
  return sorted(times)[runs // 2]


def main():
  target = cnns.cnn()
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 16))
  x = jax.random.normal(jax.random.key(1), (128, 32, 32, 1))

  def step(weights, x):
    def loss(w):
      return jnp.sum(jax.vmap(target.apply, (0, None))(w, x) ** 2)

    return jax.grad(loss)(weights)

  ours = median_seconds(jax.jit(step), weights, x)
  with mock.patch.object(cnns, "convolve", lax_conv):
    theirs = median_seconds(jax.jit(lambda w, x: step(w, x)), weights, x)
  print(
    f"patches {ours * 1e3:.1f} ms, lax.conv {theirs * 1e3:.1f} ms, "
    f"ratio {theirs / ours:.1f}"
  )


if __name__ == "__main__":
  main()
