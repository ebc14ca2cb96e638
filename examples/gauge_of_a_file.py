"""A file of weights is balanced: the same function, with the least L1 norm."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

import scalegmn_jax as sg
from scalegmn_jax.symmetry import actions, gauge

folder = Path(*(sys.argv[1:] or ["."]))
target = sg.mlp((16, 32, 4), "relu")

# A network in a gauge as another program may leave it.
network = target.init(jax.random.key(0))
g = actions.sample(jax.random.key(1), target.spec, decades=1.0)
sg.save_network(
  folder / "network.safetensors", actions.act(g, target.spec, network)
)

weights = sg.load_network(folder / "network.safetensors", like=target)
balanced = gauge.balance(target.spec, weights)
sg.save_network(folder / "balanced.safetensors", balanced)

x = jax.random.normal(jax.random.key(2), (8, 16))
difference = jnp.abs(target.apply(weights, x) - target.apply(balanced, x)).max()
before, after = (float(gauge.l1(target.spec, w)) for w in (weights, balanced))
print(
  f"L1 norm {before:.0f} -> {after:.0f}; outputs differ by {difference:.1e}"
)
