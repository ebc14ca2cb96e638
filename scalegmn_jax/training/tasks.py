"""What metanetworks are trained to do."""

from collections.abc import Callable

import jax
import optax

from scalegmn_jax.base import InputError, MetaNetwork
from scalegmn_jax.training.losses import Losses
from scalegmn_jax.training.step import Task


def amortized_task(
  operator: MetaNetwork,
  losses: Callable[..., Losses],
  *,
  networks: int,
  images: int,
) -> Task:
  """The amortized objective on random networks and images.

  Args:
    operator: weights -> better weights.
    losses: see `losses.task_losses`.
    networks: drawn per step, with replacement.
    images: drawn per step, the same for all networks.

  Returns:
    A task whose data are (zoo, images, labels).
  """

  def draw(key, data):
    zoo, x, y = data
    k_rows, k_images = jax.random.split(key)
    size = zoo.activation.shape[0]
    rows = jax.random.randint(k_rows, (networks,), 0, size)
    chosen = jax.random.randint(k_images, (images,), 0, x.shape[0])
    return jax.tree.map(lambda a: a[rows], zoo), (x[chosen], y[chosen])

  def loss(params, network, shared):
    weights, activation = network
    edited = operator.apply(params, weights, activation)
    result = losses(edited, activation, *shared)
    return result.objective, result._asdict()

  return Task(draw, loss)


REGRESSION: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  # Both are least at the expected value, and bounded gradients of logits.
  "cross_entropy": optax.sigmoid_binary_cross_entropy,
  "squared_error": lambda logit, value: (jax.nn.sigmoid(logit) - value) ** 2,
}
"""Losses of (logit, value in [0, 1])."""


def regression_task(
  functional: MetaNetwork,
  *,
  networks: int,
  loss: str = "cross_entropy",
) -> Task:
  """A value in [0, 1] of every network, such as its test accuracy.

  The prediction is the sigmoid of the functional's output.

  Args:
    functional: weights -> logit [1]; the task's loss is invariant if it is.
    networks: drawn per step, with replacement.
    loss: a key of `REGRESSION`.

  Returns:
    A task whose data are (zoo, values [B]).

  Raises:
    InputError: no such loss.
  """
  if loss not in REGRESSION:
    raise InputError(
      f"loss.name is {loss!r}, expected one of {', '.join(REGRESSION)}"
    )

  def draw(key, data):
    zoo, values = data
    rows = jax.random.randint(key, (networks,), 0, values.shape[0])
    return jax.tree.map(lambda a: a[rows], (zoo, values)), ()

  def one(params, item, shared):
    del shared
    network, value = item
    (logit,) = functional.apply(params, *network)
    objective = REGRESSION[loss](logit, value)
    error = jax.nn.sigmoid(logit) - value
    return objective, {"objective": objective, "squared_error": error**2}

  return Task(draw, one)
