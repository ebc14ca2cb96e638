"""An operator can be trained to known maps."""

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import mlp


def fit_map(target, operator, f, steps):
  """Trains φ so that operator(θ) = f(θ); returns the relative error on other
  networks, before and after."""

  def sample(key):
    leaves, structure = jax.tree.flatten(target.init(key))
    leaves = [
      jax.random.normal(jax.random.fold_in(key, i), w.shape)
      for i, w in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, leaves)

  @jax.jit
  def error(params, key):
    networks = jax.vmap(sample)(jax.random.split(key, 8))
    edited = jax.vmap(lambda w: operator.apply(params, w))(networks)
    expected = jax.vmap(f)(networks)
    off = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), edited, expected)
    size = jax.tree.map(lambda b: (b**2).sum(), expected)
    ratios = jax.tree.map(lambda a, b: a / b, off, size)
    return sum(jax.tree.leaves(ratios))

  optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
  params = jax.jit(operator.init)(jax.random.key(0))
  state = optimizer.init(params)

  @jax.jit
  def train(params, state):
    def step(carry, key):
      params, state = carry
      gradient = jax.grad(error)(params, key)
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, (params, state), keys)[0][0]

  before = error(params, jax.random.key(2))
  after = error(train(params, state), jax.random.key(2))
  return float(before) ** 0.5, float(after) ** 0.5


def test_operator_learns_the_identity():
  target = mlp.mlp((3, 4, 2))
  # A first step of 1 makes the update as large as the weights.
  operator = metanetworks.operator(
    target, width=8, depth=1, bidirectional=False, step=1.0
  )
  before, after = fit_map(target, operator, lambda w: w, 300)
  assert before > 0.3 and after < 0.05


def test_operator_learns_a_group_element():
  """The element commutes with the group: one multiplier per layer."""
  target = mlp.mlp((3, 4, 4, 2))
  g = {
    name: actions.Element(jnp.arange(4), jnp.full(4, q))
    for name, q in (("hidden_1", 2.0), ("hidden_2", 0.5))
  }
  operator = metanetworks.operator(
    target, width=8, depth=1, bidirectional=False, step=0.1
  )
  before, after = fit_map(
    target, operator, lambda w: actions.act(g, target.spec, w), 300
  )
  assert before > 2 and after < 0.15
