"""Selection between two versions of each network."""

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import Networks
from scalegmn_jax.eval import keep_better
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((5, 7, 4))
LOSSES = finetune_losses(TARGET, l1=0.01)


def make_networks(seed):
  keys = jax.random.split(jax.random.key(seed), 6)
  weights = jax.jit(jax.vmap(TARGET.init))(keys)
  return Networks(weights, jnp.zeros(6, jnp.int32))


def images():
  x = jax.random.normal(jax.random.key(9), (30, 5))
  return x, jnp.arange(30) % 4


@jax.jit
def objectives(networks):
  return jax.vmap(lambda n: LOSSES(n, *images()).objective)(networks)


def test_the_lower_objective_is_kept():
  before, after = make_networks(0), make_networks(1)
  old, new = objectives(before), objectives(after)
  assert 0 < (new < old).sum() < 6
  kept = keep_better.keep_better(LOSSES)(before, after, *images())
  np.testing.assert_allclose(objectives(kept), jnp.minimum(old, new), rtol=1e-6)


def test_non_finite_networks_are_not_kept():
  before, after = make_networks(0), make_networks(1)
  broken = jax.tree.map(lambda w: w.at[:].set(jnp.nan), after.weights)
  kept = keep_better.keep_better(LOSSES)(
    before, after._replace(weights=broken), *images()
  )
  jax.tree.map(np.testing.assert_array_equal, kept.weights, before.weights)


def test_the_choice_does_not_depend_on_the_gauge(x64):
  before, after = jax.tree.map(
    lambda w: w.astype(float) if w.dtype == jnp.float32 else w,
    (make_networks(0), make_networks(1)),
  )

  @jax.jit
  def regauge(networks):
    g = actions.sample(jax.random.key(3), TARGET.spec)
    weights = jax.vmap(lambda w: actions.act(g, TARGET.spec, w))(
      networks.weights
    )
    return networks._replace(weights=weights)

  choose = keep_better.keep_better(LOSSES)
  kept = regauge(choose(before, after, *images()))
  regauged = choose(regauge(before), regauge(after), *images())
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
    kept.weights,
    regauged.weights,
  )
