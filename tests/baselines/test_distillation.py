"""Training of compressed networks on their own outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Network
from scalegmn_jax.baselines import distillation
from scalegmn_jax.inner.objective import kl_divergence
from scalegmn_jax.symmetry import rounding
from scalegmn_jax.targets.mlp import mlp


@pytest.mark.parametrize("biases_only", (False, True))
def test_training_brings_a_rounded_network_nearer(biases_only):
  target = mlp((3, 8, 8, 3), "relu")
  weights = target.init(jax.random.key(0))
  network = Network(weights, jnp.int32(0))
  compress = functools.partial(rounding.round_kernels, target.spec, bits=2)
  x = jax.random.normal(jax.random.key(1), (64, 3))
  own = jax.nn.softmax(target.apply(weights, x))

  def divergence(weights):
    return float(kl_divergence(target.apply(weights, x), own))

  run = distillation.distill(
    target, steps=40, batch_size=64, biases_only=biases_only
  )
  found = jax.jit(
    lambda rate: run(network, compress, rate, jax.random.key(2), x)
  )(1e-2)
  start = compress(weights)
  for before, after in zip(start, found, strict=True):
    same = np.allclose(before["kernel"], after["kernel"], 1e-5)
    assert same == biases_only
    assert len(np.unique(after["kernel"])) <= 3
    assert not np.array_equal(before["bias"], after["bias"])
  assert divergence(found) < 0.7 * divergence(start)
