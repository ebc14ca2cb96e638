"""Networks spread over several devices: the same numbers as on one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax import batched, devices
from scalegmn_jax.base import InputError, Interrupted, Networks
from scalegmn_jax.baselines import flat
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.inner import losses
from scalegmn_jax.targets import mlp
from scalegmn_jax.training import loop, objectives, optimizer, step

TARGET = mlp.mlp((4, 3, 2), "tanh")
NETWORKS = 8
SCALEGMN = metanetworks.operator(TARGET, width=4, depth=1, step=0.1)
FLAT = flat.flat_operator(TARGET, width=8)  # compiles in no time


def spread(count):
  return devices.spread(jax.devices()[:count])


def make_data(dtype):
  """Twenty networks, images and labels, on the host."""
  rng = np.random.default_rng(0)
  weights = jax.tree.map(
    lambda s: rng.normal(size=(20, *s.shape)).astype(dtype) / 2,
    jax.eval_shape(TARGET.init, jax.random.key(0)),
  )
  x = rng.normal(size=(30, 4)).astype(dtype)
  labels = np.arange(30, dtype=np.int32) % 2
  return Networks(weights, np.zeros(20, np.int32)), x, labels


def make_objective(operator):
  return objectives.amortized_objective(
    operator,
    losses.finetune_losses(TARGET, l1=1e-3),
    batch_networks=NETWORKS,
    batch_images=8,
  )


def optimizer_of(steps):
  return optimizer.make_optimizer(
    learning_rate=3e-3, steps=steps, warmup=2, weight_decay=0.0, clip=1.0
  )


def make_training(dtype, grad_chunk, operator):
  objective, opt = make_objective(operator), optimizer_of(70)
  params = jax.jit(operator.init)(jax.random.key(2))
  params = jax.tree.map(lambda a: a.astype(dtype), params)
  state = step.init_state(params, opt)
  return state, step.make_step(objective, opt, grad_chunk=grad_chunk)


def train(dtype, count, grad_chunk, operator, runs=1):
  """(parameters, objectives) of 70 steps on `count` devices, of each run."""
  with spread(count):
    initial, update = make_training(dtype, grad_chunk, operator)
    data = devices.replicate(make_data(dtype))
    results = []
    for _ in range(runs):
      state = devices.replicate(jax.tree.map(jnp.copy, initial))
      values = []
      for _ in range(70):
        state, metrics = update(state, jax.random.key(3), data)
        values.append(float(metrics["objective"]))
      results.append((jax.device_get(state.params), np.array(values)))
    assert update._cache_size() == 1
  return results


@pytest.mark.parametrize(
  ("dtype", "grad_chunk", "operator", "tolerance"),
  [("float32", 1, FLAT, 1e-6), ("float64", None, SCALEGMN, 1e-12)],
)
def test_training_on_eight_devices_equals_one(
  dtype, grad_chunk, operator, tolerance
):
  with jax.enable_x64(dtype == "float64"):
    (one,) = train(dtype, 1, grad_chunk, operator)
    eight, again = train(dtype, 8, grad_chunk, operator, runs=2)
  assert np.ptp(one[1]) > 0.1
  np.testing.assert_allclose(eight[1], one[1], rtol=tolerance)
  for a, b, c in zip(*map(jax.tree.leaves, (eight, one, again)), strict=True):
    np.testing.assert_array_equal(a, c)
    # Not in float32: where a gradient is zero, Adam divides rounding errors by
    # their own size.
    if dtype == "float64":
      np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


def test_a_step_has_one_collective():
  with spread(4):
    state, update = make_training("float32", 1, SCALEGMN)
    args = devices.replicate((state, jax.random.key(3), make_data("float32")))
    program = update.lower(*args).compile().as_text()
  names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
  assert len(re.findall(rf"= .*\b({names})(-start)?\(", program)) == 1


def test_a_training_goes_on_with_another_number_of_devices(tmp_path):
  objective = make_objective(FLAT)
  data = make_data("float32")

  def train(name, on_step=lambda step, status: None):
    return loop.train(
      FLAT, objective, optimizer_of(6), data,
      lambda params: {"val_objective": 0}, steps=6, seed=0,
      workdir=tmp_path / name, log_every=2, on_step=on_step,
    )  # fmt: skip

  def stop(step, status):
    if step == 3:
      raise Interrupted("stop")

  expected = train("whole").params
  with spread(4), pytest.raises(Interrupted):
    train("parts", stop)
  with spread(2):
    result = train("parts").params
  for a, b in zip(*map(jax.tree.leaves, (result, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grad_chunk", [None, 1])
def test_networks_that_do_not_divide_by_the_devices(grad_chunk):
  results = []
  for count in (1, 3):  # 3 networks on each of 3 devices, one of them a copy
    with spread(count):
      state, update = make_training("float32", grad_chunk, FLAT)
      args = devices.replicate((state, jax.random.key(3), make_data("float32")))
      results.append(jax.device_get(update(*args)[1]))
  one, three = results
  for name in ("objective", "gradient_norm"):
    np.testing.assert_allclose(three[name], one[name], rtol=1e-5)


@pytest.mark.parametrize("vmap_size", [None, 1, 2])
@pytest.mark.parametrize("total", [1, 5, 8])
def test_any_number_of_networks_is_mapped(vmap_size, total):
  networks, x, _ = make_data("float32")
  networks = networks.take(slice(total))

  @jax.jit
  def outputs(x, networks):
    return batched.map_networks(
      lambda network, x: TARGET.apply(network.weights, x),
      networks,
      shared=(x,),
      vmap_size=vmap_size,
    )

  one = outputs(x, networks)
  with spread(4):
    four = outputs(x, networks)
  np.testing.assert_allclose(four, one, rtol=1e-6, atol=1e-6)


def test_mapped_functions_map_inside_of_them():
  with spread(2):
    assert devices.shards() == 2
    inner = batched.map_networks
    result = jax.jit(
      lambda a: inner(lambda row: inner(lambda x: x + devices.shards(), row), a)
    )(jnp.zeros((3, 2)))
  np.testing.assert_array_equal(result, np.ones((3, 2)))
  assert devices.shards() == 1


def test_networks_are_edited_on_all_devices():
  params = jax.jit(FLAT.init)(jax.random.key(2))
  networks, *_ = make_data("float32")
  one = batched.edit_networks(FLAT)(params, networks)
  with spread(4):
    apply = batched.apply_batched(
      lambda params, network: FLAT.apply(params, network.weights), batch_size=2
    )
    four = apply(params, networks)
  leaves = map(jax.tree.leaves, (four, one.weights))
  for a, b in zip(*leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_networks_are_updated_in_turn_on_any_number_of_devices():
  networks, x, _ = make_data("float32")
  networks = networks.take(slice(7))
  update = batched.update_in_turn(
    lambda item, network, x: item + TARGET.apply(network.weights, x).sum()
  )
  items, calls = jnp.arange(7.0), []

  def stop(items, done):
    calls.append((items, done))
    raise RuntimeError

  one = update(items, networks, x)
  with spread(4):
    four = update(items, networks, x)
    with pytest.raises(RuntimeError):
      update(items, networks, x, on_call=stop)
  ((part, done),) = calls
  assert done == 4
  np.testing.assert_array_equal(part[4:], items[4:])
  with spread(3):  # the first networks are done, wherever it goes on
    rest = update(jax.device_get(part), networks, x, done=done)
  for result in (four, rest):
    np.testing.assert_allclose(result, one, rtol=1e-6)


def test_operations_are_counted_whatever_the_devices():
  def f(networks):
    def of_shard(networks, _):
      return jax.vmap(lambda w: w @ w)(networks)

    return devices.map_shards(of_shard, networks).sum()

  networks = jnp.ones((8, 16, 16))
  expected = 8 * 2 * 16**3
  alone = devices.count_flops(f, networks)
  assert expected <= alone <= 1.1 * expected
  with spread(4):
    # A CPU that is not the first stands for an accelerator.
    assert devices.count_flops(f, devices.replicate(networks)) == alone
  elsewhere = jax.device_put(networks, jax.devices()[3])
  assert devices.count_flops(f, elsewhere) == alone


def test_operations_cannot_be_counted_without_a_cpu(monkeypatch):
  def missing(backend):
    raise RuntimeError(f"Unknown backend {backend}")

  monkeypatch.setattr(jax, "local_devices", missing)
  with pytest.raises(InputError, match="JAX_PLATFORMS=cuda,cpu"):
    devices.count_flops(jnp.sin, 1.0)
