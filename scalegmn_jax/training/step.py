"""One step of training a metanetwork."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import Params


class TrainState(NamedTuple):
  """All that training changes, and all that a checkpoint holds.

  Attributes:
    params: φ.
    optimizer: the state of the optimizer.
    step: int32, steps taken. Every random choice of a step is made from the
      run's key and this number, so it is the position in the data as well.
    best_params: φ of the best validation so far.
    best_objective: its objective, inf before the first validation.
    best_step: when that was.
  """

  params: Params
  optimizer: optax.OptState
  step: jax.Array
  best_params: Params
  best_objective: jax.Array
  best_step: jax.Array


def init_state(
  params: Params, optimizer: optax.GradientTransformation
) -> TrainState:
  state = TrainState(
    params=params,
    optimizer=optimizer.init(params),
    step=jnp.zeros((), jnp.int32),
    best_params=params,
    best_objective=jnp.full((), jnp.inf),
    best_step=jnp.zeros((), jnp.int32),
  )
  # Copies: a step gives its argument's buffers away, each only once. And with
  # types that are not weak, or the second step would be compiled again.
  return jax.tree.map(lambda a: jnp.array(a, a.dtype), state)


def keep_best(state: TrainState, objective: jax.Array) -> TrainState:
  """Notes the validation objective of `state.params`."""
  better = objective < state.best_objective

  def choose(new, old):
    return jnp.where(better, new, old)

  return state._replace(
    best_params=jax.tree.map(choose, state.params, state.best_params),
    best_objective=choose(objective, state.best_objective),
    best_step=choose(state.step, state.best_step),
  )


class Objective(NamedTuple):
  """What a metanetwork is trained to do; its loss is a mean over networks.

  Attributes:
    draw: (key, step, data) -> (batch, shared): what each network of a step
      gets, a pytree of [B, ...], and what all of them get. Drawn by index from
      data that is on the device; `step` is the number of steps taken.
    loss: (params, one of the batch, shared) -> (scalar, metrics), of one
      network.
  """

  draw: Callable[[jax.Array, jax.Array, Any], tuple[Any, Any]]
  loss: Callable[[Params, Any, Any], tuple[jax.Array, dict[str, jax.Array]]]


def gradient(
  task: Objective, *, chunk: int | None = None
) -> Callable[..., tuple[Params, dict[str, jax.Array]]]:
  """(params, key, step, data) -> (gradient, metrics), means over the networks.

  Args:
    task: see `Task`.
    chunk: networks differentiated at a time; it divides their number. None for
      all at once, as an accelerator wants it. On 2 CPU cores one at a time is
      1.5 to 2.3 times faster: its features stay in the cache, and a gradient of
      weights is a product of two matrices, which XLA does not transpose first.
  """
  value_and_grad = jax.value_and_grad(task.loss, has_aux=True)

  def of_all(params, batch, shared):
    def mean(params):
      values, metrics = jax.vmap(task.loss, (None, 0, None))(
        params, batch, shared
      )
      return values.mean(), metrics

    found, metrics = jax.grad(mean, has_aux=True)(params)
    return found, jax.tree.map(lambda m: m.mean(), metrics)

  def in_chunks(params, batch, shared, count):
    def one(item):
      (_, metrics), found = value_and_grad(params, item, shared)
      return found, metrics

    def several(items):
      # Mapped gradients, not the gradient of a mapped loss: see above.
      return jax.tree.map(lambda a: a.sum(0), jax.vmap(one)(items))

    if chunk == 1:
      of_chunk = one
    else:
      of_chunk = several
      batch = jax.tree.map(
        lambda a: a.reshape(count // chunk, chunk, *a.shape[1:]), batch
      )
    shape = jax.eval_shape(of_chunk, jax.tree.map(lambda a: a[0], batch))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)

    def add(total, items):
      return jax.tree.map(jnp.add, total, of_chunk(items)), None

    total, _ = jax.lax.scan(add, zeros, batch)
    return jax.tree.map(lambda a: a / count, total)

  def compute(params, key, step, data):
    batch, shared = task.draw(key, step, data)
    count = jax.tree.leaves(batch)[0].shape[0]
    if chunk is None or count == chunk > 1:
      return of_all(params, batch, shared)
    if count % chunk:
      raise ValueError(f"chunks of {chunk} do not divide {count} networks")
    return in_chunks(params, batch, shared, count)

  return compute


def make_step(
  task: Objective,
  optimizer: optax.GradientTransformation,
  *,
  chunk: int | None = None,
) -> Callable[[TrainState, jax.Array, Any], tuple[TrainState, dict]]:
  """(state, run key, data) -> (state, metrics), jitted.

  The buffers of the state that goes in are given to the one that comes out.
  `chunk` is that of `gradient`.
  """
  gradient_of = gradient(task, chunk=chunk)

  def step(state, key, data):
    found, metrics = gradient_of(
      state.params, jax.random.fold_in(key, state.step), state.step, data
    )
    updates, inner = optimizer.update(found, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = metrics | {
      "gradient_norm": optax.tree.norm(found),
      "update_norm": optax.tree.norm(updates),
      "parameter_norm": optax.tree.norm(params),
    }
    return state._replace(
      params=params, optimizer=inner, step=state.step + 1
    ), metrics

  return jax.jit(step, donate_argnums=0)
