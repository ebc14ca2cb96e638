"""Training objectives, their gradients, and one step of training."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from scalegmn_jax import batched, devices
from scalegmn_jax.base import InputError, Params


class TrainState(NamedTuple):
  """The state of a training, and the content of a checkpoint.

  Attributes:
    params: φ, the parameters of the metanetwork.
    optimizer: state of the optimizer.
    step: steps taken, int32. Every random choice of a step depends on the run's
      key and this number alone, so it is also the position in the data.
    best_params: φ of the best validation so far.
    best_objective: validation objective of `best_params`; inf before the first
      validation.
    best_step: step of the best validation.
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
  """The state before the first step."""
  state = TrainState(
    params=params,
    optimizer=optimizer.init(params),
    step=jnp.zeros((), jnp.int32),
    best_params=params,
    best_objective=jnp.full((), jnp.inf),
    best_step=jnp.zeros((), jnp.int32),
  )
  # Copies, as donated buffers may not alias; with strong dtypes, as weak ones
  # would compile the second step again.
  return jax.tree.map(lambda a: jnp.array(a, a.dtype), state)


def to_stored(state: TrainState) -> TrainState:
  """The state as checkpoints hold it, on the host.

  Arrays of the optimizer that have a number per number of φ, such as moments,
  have the structure of φ there, whether the optimizer joins its leaves or not.
  """
  state = jax.device_get(state)
  leaves, structure = jax.tree.flatten(state.params)
  ends = np.cumsum([leaf.size for leaf in leaves])

  def one(a):
    if a.shape != (ends[-1],):
      return a
    parts = np.split(a, ends[:-1])
    return structure.unflatten(
      part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )

  return state._replace(optimizer=jax.tree.map(one, state.optimizer))


def from_stored(stored: TrainState, like: TrainState) -> TrainState:
  """The state that `to_stored` was given; `like` has its shapes."""

  def one(a, part):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(part)]
    return np.concatenate([leaf.ravel() for leaf in leaves]).reshape(a.shape)

  return stored._replace(
    optimizer=jax.tree.map(one, like.optimizer, stored.optimizer)
  )


def keep_best(state: TrainState, objective: jax.Array) -> TrainState:
  """Replaces the best φ by `state.params` if its objective is less.

  Args:
    state: state after a step.
    objective: validation objective of `state.params`.
  """
  better = objective < state.best_objective

  def choose(new, old):
    return jnp.where(better, new, old)

  return state._replace(
    best_params=jax.tree.map(choose, state.params, state.best_params),
    best_objective=choose(objective, state.best_objective),
    best_step=choose(state.step, state.best_step),
  )


class Objective(NamedTuple):
  """A training objective of a metanetwork: a mean of losses over networks.

  Attributes:
    draw: (key, step, data) -> (batch, shared): the inputs of each network of a
      step, a pytree of [B, ...], and the inputs shared by all networks. Draws
      by index from data on the device; `step` is the number of steps taken.
    loss: (params, item of the batch, shared) -> (scalar, metrics) of one
      network. A `Networks` in the batch is a `Network` in the item.
  """

  draw: Callable[[jax.Array, jax.Array, Any], tuple[Any, Any]]
  loss: Callable[[Params, Any, Any], tuple[jax.Array, dict[str, jax.Array]]]


def gradient(
  objective: Objective, *, grad_chunk: int | None = None
) -> Callable[..., tuple[Params, dict[str, jax.Array]]]:
  """The gradient of an objective.

  Args:
    objective: the training objective.
    grad_chunk: networks differentiated at a time; a divisor of the number of
      networks. None for all at once, which suits accelerators. On 2 CPU cores
      one at a time is 1.5 to 2.3 times faster: the features stay in the cache,
      and a gradient of weights is a product of two matrices that XLA need not
      transpose first.

  Returns:
    (params, key, step, data) -> (gradient, metrics), means over the networks.
    It raises InputError if `grad_chunk` does not divide the networks of a step.
  """

  def loss(params, item, shared):
    return objective.loss(params, batched.as_network(item), shared)

  value_and_grad = jax.value_and_grad(loss, has_aux=True)

  def of_all(items, params, shared):
    """Sums of the gradients and metrics of the networks in a batch."""
    batch, counts = items

    def total(params):
      values, metrics = jax.vmap(loss, (None, 0, None))(params, batch, shared)
      return _count(values, counts).sum(), metrics

    grads, metrics = jax.grad(total, has_aux=True)(params)
    return grads, jax.tree.map(lambda m: _count(m, counts).sum(0), metrics)

  def in_chunks(chunk, items, params, shared):
    """The same sums, with `chunk` networks at a time."""

    def one(item):
      network, counts = item
      (_, metrics), grads = value_and_grad(params, network, shared)
      return jax.tree.map(lambda a: _count(a, counts), (grads, metrics))

    def several(items):
      # Mapped gradients, not the gradient of a mapped loss: see `grad_chunk`.
      return jax.tree.map(lambda a: a.sum(0), jax.vmap(one)(items))

    if chunk == 1:
      of_chunk = one
    else:
      of_chunk = several
      items = jax.tree.map(
        lambda a: a.reshape(a.shape[0] // chunk, chunk, *a.shape[1:]), items
      )
    shape = jax.eval_shape(of_chunk, jax.tree.map(lambda a: a[0], items))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)

    def add(total, items):
      return jax.tree.map(jnp.add, total, of_chunk(items)), None

    return jax.lax.scan(add, zeros, items)[0]

  def compute(params, key, step, data):
    batch, shared = objective.draw(key, step, data)
    count = jax.tree.leaves(batch)[0].shape[0]
    if grad_chunk is not None and count % grad_chunk:
      raise InputError(
        f"grad_chunk is {grad_chunk}, expected a divisor of {count} networks"
      )
    # A batch of graphs of several architectures is one item.
    shards = devices.shards() if count > 1 else 1
    local = -(-count // shards)
    counts = None
    if local * shards > count:
      counts = jnp.arange(local * shards) < count
      batch = devices.fill_up(batch, shards)
    chunk = None if grad_chunk is None else math.gcd(grad_chunk, local)
    if chunk is None or local == chunk > 1:
      sums = of_all
    else:
      sums = functools.partial(in_chunks, chunk)
    if shards > 1:
      total = devices.sum_shards(sums, (batch, counts), params, shared)
    else:
      total = sums((batch, counts), params, shared)
    # As one vector: leaf by leaf, a mean is hundreds of small kernels.
    joined, split = ravel_pytree(total[0])
    return split(joined / count), jax.tree.map(lambda a: a / count, total[1])

  return compute


def _count(values: jax.Array, counts: jax.Array | None) -> jax.Array:
  """Values of networks, 0 for those that do not count; None: all count."""
  if counts is None:
    return values
  return jnp.where(
    counts.reshape(*counts.shape, *(1,) * (values.ndim - counts.ndim)),
    values,
    0,
  )


def _norm(tree: Any) -> jax.Array:
  """The Euclidean norm of all leaves as one vector, in few kernels."""
  return jnp.linalg.norm(ravel_pytree(tree)[0])


def make_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  grad_chunk: int | None = None,
) -> Callable[[TrainState, jax.Array, Any], tuple[TrainState, dict]]:
  """One step of training, jitted.

  Args:
    objective: the training objective.
    optimizer: updates φ.
    grad_chunk: networks differentiated at a time, see `gradient`.

  Returns:
    (state, key of the run, data) -> (state, metrics). The buffers of the state
    that goes in are donated.
  """
  gradient_of = gradient(objective, grad_chunk=grad_chunk)

  def step(state, key, data):
    grads, metrics = gradient_of(
      state.params, jax.random.fold_in(key, state.step), state.step, data
    )
    updates, inner = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = metrics | {
      "gradient_norm": _norm(grads),
      "update_norm": _norm(updates),
      "parameter_norm": _norm(params),
    }
    return state._replace(
      params=params, optimizer=inner, step=state.step + 1
    ), metrics

  return jax.jit(step, donate_argnums=0)
