"""The optimizer of φ, beside the same one leaf by leaf."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalegmn_jax.training import optimizer, step

SETTINGS = {"learning_rate": 0.1, "steps": 5, "warmup": 1, "clip": 1.0}


@pytest.fixture
def params(x64):
  keys = jax.random.split(jax.random.key(0), 3)
  return {
    "scalar": jnp.ones(()),
    "first": {
      "kernel": jax.random.normal(keys[0], (3, 4)),
      "bias": jax.random.normal(keys[1], (4,)),
    },
    "last": jax.random.normal(keys[2], (2, 1, 3)),
  }


def leaf_by_leaf():
  """Clipping and AdamW, with decay on arrays of two and more axes."""
  schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 1, 5)
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(
      schedule,
      weight_decay=0.3,
      mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    ),
  )


@pytest.mark.parametrize("scale", (0.01, 10.0))
def test_updates_are_those_of_adamw_leaf_by_leaf(scale, params):
  """Below and above the norm that is clipped."""

  def after_steps(opt):
    current, state = params, opt.init(params)
    for i in range(4):
      grads = jax.tree.map(lambda p, i=i: scale * jnp.cos(p + i), params)
      updates, state = opt.update(grads, state, current)
      current = optax.apply_updates(current, updates)
    return current

  joined = optimizer.make_optimizer(weight_decay=0.3, **SETTINGS)
  results = [
    jax.device_get(jax.jit(functools.partial(after_steps, opt))())
    for opt in (joined, leaf_by_leaf())
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-13), *results)
  jax.tree.map(
    lambda a, b: np.testing.assert_array_less(0, abs(a - b).min()),
    results[0],
    params,
  )


def test_checkpoints_hold_moments_in_the_structure_of_the_parameters(params):
  opt = optimizer.make_optimizer(weight_decay=0.3, **SETTINGS)
  state = step.init_state(params, opt)
  _, inner = opt.update(params, state.optimizer, params)
  state = state._replace(optimizer=inner)
  stored = step.to_stored(state)
  moments = optax.tree.get(stored.optimizer, "mu")
  jax.tree.map(
    lambda m, p: np.testing.assert_allclose(m / m[..., :1], p / p[..., :1]),
    {k: moments[k] for k in ("first", "last")},
    {k: params[k] for k in ("first", "last")},
  )
  restored = step.from_stored(stored, step.init_state(params, opt))
  jax.tree.map(np.testing.assert_array_equal, restored, state)
