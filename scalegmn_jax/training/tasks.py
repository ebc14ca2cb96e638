"""What metanetworks are trained to do."""

from collections.abc import Callable

import jax

from scalegmn_jax.base import MetaNetwork
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
