"""One step of training a metanetwork."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import MetaNetwork, Params
from scalegmn_jax.training.losses import Losses


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


def amortized_loss(
  operator: MetaNetwork,
  losses: Callable[..., Losses],
  *,
  networks: int,
  images: int,
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
  """The amortized objective on a random batch of networks and images.

  Args:
    operator: weights -> better weights.
    losses: see `losses.task_losses`.
    networks: drawn per step, with replacement.
    images: drawn per step, the same for all networks.

  Returns:
    (params, key, (zoo, images, labels)) -> (mean objective, metrics).
  """

  def loss(params, key, data):
    zoo, x, y = data
    k_rows, k_images = jax.random.split(key)
    size = zoo.activation.shape[0]
    rows = jax.random.randint(k_rows, (networks,), 0, size)
    chosen = jax.random.randint(k_images, (images,), 0, x.shape[0])
    batch = jax.tree.map(lambda a: a[rows], zoo)

    def one(weights, activation):
      edited = operator.apply(params, weights, activation)
      return losses(edited, activation, x[chosen], y[chosen])

    result = jax.vmap(one)(*batch)
    metrics = {k: v.mean() for k, v in result._asdict().items()}
    return metrics["objective"], metrics

  return loss


def make_step(
  loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
  optimizer: optax.GradientTransformation,
) -> Callable[[TrainState, jax.Array, Any], tuple[TrainState, dict]]:
  """(state, run key, data) -> (state, metrics), jitted.

  The buffers of the state that goes in are given to the one that comes out.
  """

  def step(state, key, data):
    gradient_of = jax.value_and_grad(loss, has_aux=True)
    (_, metrics), gradient = gradient_of(
      state.params, jax.random.fold_in(key, state.step), data
    )
    updates, inner = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = metrics | {
      "gradient_norm": optax.tree.norm(gradient),
      "update_norm": optax.tree.norm(updates),
      "parameter_norm": optax.tree.norm(params),
    }
    return state._replace(
      params=params, optimizer=inner, step=state.step + 1
    ), metrics

  return jax.jit(step, donate_argnums=0)
