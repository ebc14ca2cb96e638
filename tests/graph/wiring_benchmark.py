"""Wiring by blocks against index gathers and segment sums, under `vmap`.

python tests/graph/wiring_benchmark.py prints the median milliseconds of one
message pass, forward and backward, for 8 small CNNs with features of width 32,
and their ratio.
"""

import time

import jax
import jax.numpy as jnp

from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.graph.wiring import wiring_of
from scalegmn_jax.targets.cnn import cnn

NETWORKS, WIDTH = 8, 32


def median_seconds(f, *args, runs=50):
  jax.block_until_ready(f(*args))
  times = []
  for _ in range(runs):
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    times.append(time.perf_counter() - start)
  return sorted(times)[runs // 2]


def main():
  topology = topology_of(cnn())
  wiring = wiring_of(topology)
  senders = jnp.asarray(topology.senders)
  receivers = jnp.asarray(topology.receivers)

  def by_blocks(x, e):
    return wiring.sum_at_receivers(wiring.at_senders(x) * e)

  def by_index(x, e):
    return jax.ops.segment_sum(x[senders] * e, receivers, topology.vertices)

  def step(message_pass):
    def loss(x, e):
      return jnp.sum(jax.vmap(message_pass)(x, e) ** 2)

    return jax.jit(jax.grad(loss, argnums=(0, 1)))

  k_x, k_e = jax.random.split(jax.random.key(0))
  x = jax.random.normal(k_x, (NETWORKS, topology.vertices, WIDTH))
  e = jax.random.normal(k_e, (NETWORKS, topology.edges, WIDTH))
  ours = median_seconds(step(by_blocks), x, e)
  theirs = median_seconds(step(by_index), x, e)
  print(
    f"blocks {ours * 1e3:.2f} ms, indices {theirs * 1e3:.2f} ms, "
    f"ratio {theirs / ours:.1f}"
  )


if __name__ == "__main__":
  main()
