"""Training steps: all targets, one compilation, no NaN in parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks, Operator
from scalegmn_jax.baselines import flat
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner import losses
from scalegmn_jax.symmetry import actions
from scalegmn_jax.targets import cnn, mlp
from scalegmn_jax.training import loop as loop
from scalegmn_jax.training import objectives, optimizer, step

TARGETS = {
  "conv 8-24 and flatten": lambda: cnn.cnn(
    (6, 6, 1), (8, 24), padding="SAME", pool="flatten", classes=3
  ),
  "mlp of four layers": lambda: mlp.mlp((9, 6, 5, 4, 3), "tanh"),
}


def make(target, networks=6, images=20):
  """Random networks, and images whose labels can be learned."""
  keys = jax.random.split(jax.random.key(0), networks)
  zoo = Networks(jax.vmap(target.init)(keys), jnp.zeros(networks, jnp.int32))
  shape = target.description.get("input_shape", [9])
  x = jax.random.normal(jax.random.key(1), (images, *shape))
  y = (x.reshape(images, -1).sum(1) > 0).astype(jnp.int32)
  return zoo, x, y


def make_task(operator, target, l1=1e-4):
  return objectives.amortized_objective(
    operator,
    losses.finetune_losses(target, l1=l1),
    batch_networks=4,
    batch_images=16,
  )


def make_training(target, learning_rate=3e-3, l1=1e-4):
  operator = metanetworks.operator(target, width=8, depth=1, step=0.1)
  task = make_task(operator, target, l1)
  opt = optimizer.make_optimizer(
    learning_rate=learning_rate, steps=60, warmup=2, weight_decay=0.0, clip=1.0
  )
  params = jax.jit(operator.init)(jax.random.key(2))
  return step.init_state(params, opt), step.make_step(task, opt, grad_chunk=1)


@pytest.mark.parametrize("name", TARGETS)
def test_one_code_trains_any_target(name):
  target = TARGETS[name]()
  data = make(target)
  state, update = make_training(target)
  values = []
  first = state.params
  for _ in range(60):
    before = state
    state, metrics = update(state, jax.random.key(3), data)
    values.append(float(metrics["objective"]))
  assert np.mean(values[-10:]) < 0.9 * np.mean(values[:5])
  assert update._cache_size() == 1  # compiled once
  assert int(state.step) == 60
  # The next state takes the buffers.
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))


def test_steps_depend_on_the_key_and_the_step_alone():
  target = TARGETS["mlp of four layers"]()
  data = make(target)
  results = []
  for _ in range(2):
    state, update = make_training(target)
    for _ in range(3):
      state, _ = update(state, jax.random.key(3), data)
    results.append(state)
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_array_equal(a, b)


def test_chunks_of_networks_have_the_gradient_of_all(x64):
  target = TARGETS["mlp of four layers"]()
  operator = flat.flat_operator(target, width=8, step=0.1)
  task = make_task(operator, target)
  data = jax.tree.map(
    lambda a: a.astype(float) if a.dtype == jnp.float32 else a, make(target)
  )
  params = jax.tree.map(
    lambda p: p.astype(float), jax.jit(operator.init)(jax.random.key(2))
  )

  def gradient_in_chunks(chunk):
    compute = jax.jit(step.gradient(task, grad_chunk=chunk))
    return compute(params, jax.random.key(3), 0, data)

  whole = gradient_in_chunks(None)
  for chunk in (1, 2, 4):
    for a, b in zip(
      *map(jax.tree.leaves, (whole, gradient_in_chunks(chunk))), strict=True
    ):
      np.testing.assert_allclose(a, b, 1e-10, 1e-14)
  with pytest.raises(
    ValueError, match="grad_chunk is 3, expected a divisor of 4"
  ):
    gradient_in_chunks(3)


def toy_objective(loss):
  """An objective on one network, without random choices."""
  return step.Objective(lambda key, number, data: (jnp.ones(1), data), loss)


def toy(bad):
  """Trains one number; the gradient of `bad(step)` steps is NaN."""

  def loss(params, network, data):
    factor = jnp.where(data, jnp.nan, 1.0) * network
    return (params["w"] ** 2 * factor).sum(), {"objective": params["w"].sum()}

  opt = optimizer.make_optimizer(
    learning_rate=0.1, steps=10, warmup=0, weight_decay=0.0, clip=1.0
  )
  state = step.init_state({"w": jnp.ones(2)}, opt)
  update = step.make_step(toy_objective(loss), opt)
  for number in range(6):
    state, _ = update(state, jax.random.key(0), jnp.array(bad(number)))
  return state


def test_updates_that_are_not_finite_are_skipped_and_counted():
  clean, spoilt = toy(lambda _: False), toy(lambda n: n in (1, 2))
  assert [int(n) for n in optimizer.skipped(spoilt.optimizer)] == [0, 2]
  assert [int(n) for n in optimizer.skipped(clean.optimizer)] == [0, 0]
  assert jnp.isfinite(spoilt.params["w"]).all()
  assert (spoilt.params["w"] > clean.params["w"]).all()


def test_a_run_whose_gradients_stay_bad_stops(tmp_path):
  def loss(params, network, data):
    return jnp.nan * params["w"].sum(), {"objective": params["w"].sum()}

  opt = optimizer.make_optimizer(
    learning_rate=0.1, steps=50, warmup=0, weight_decay=0.0, clip=1.0
  )
  with pytest.raises(InputError, match="not finite since step 1 "):
    loop.train(
      Operator(lambda key: {"w": jnp.ones(2)}, lambda: None),
      toy_objective(loss), opt, None, lambda params: {"val_objective": 0.0},
      steps=50, seed=0, workdir=tmp_path,
      log_every=1, eval_every=50, patience=5,
    )  # fmt: skip


def test_which_losses_are_invariant(x64):
  """The balanced objective is; the plain one is not, under scaling."""
  target = mlp.mlp((9, 6, 5, 3))
  _, x, y = make(target)
  weights = jax.tree.map(
    lambda w: jnp.asarray(w, float) + 0.1, target.init(jax.random.key(0))
  )
  g = actions.sample(jax.random.key(1), target.spec, decades=2.0)
  moved = actions.act(g, target.spec, weights)
  x = jnp.asarray(x, float)
  for penalty, invariant in (("balanced", True), ("plain", False)):
    f = jax.jit(losses.finetune_losses(target, l1=1e-2, penalty=penalty))
    a, b = f(Networks(weights, 0), x, y), f(Networks(moved, 0), x, y)
    np.testing.assert_allclose(a.cross_entropy, b.cross_entropy, 1e-10)
    same = abs(a.objective - b.objective) < 1e-6 * a.objective
    assert bool(same) is invariant


def test_the_best_parameters_are_kept():
  state = toy(lambda _: False)
  state = step.keep_best(state, jnp.float32(0.5))
  best = state.params
  state = state._replace(params={"w": jnp.zeros(2)}, step=state.step + 1)
  state = step.keep_best(state, jnp.float32(0.7))
  state = step.keep_best(state, jnp.float32(jnp.nan))
  np.testing.assert_array_equal(state.best_params["w"], best["w"])
  assert float(state.best_objective) == 0.5 and int(state.best_step) == 6
