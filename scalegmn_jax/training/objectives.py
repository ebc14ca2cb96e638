"""What metanetworks are trained to do."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import (
  BatchFunctional,
  Functional,
  InputError,
  Operator,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.inner import objective
from scalegmn_jax.inner.losses import Losses
from scalegmn_jax.training.step import Objective


def amortized_objective(
  operator: Operator,
  losses: Callable[..., Losses],
  *,
  networks: int,
  images: int,
  ramp: tuple[float, float] = (0, 0),
  noise: float = 0.0,
) -> Objective:
  """The amortized objective on random networks and images.

  The penalty can come in late. What an operator writes from nothing has little
  to set against it: before anything is learned most of it would be zero.

  Args:
    operator: weights -> better weights.
    losses: see `losses.task_losses`.
    networks: drawn per step, with replacement.
    images: drawn per step, the same for all networks; for networks with tasks
      of their own, for each network those of its task.
    ramp: steps from which the penalty begins to count and from which all of it
      does, in between a part that grows linearly. Metrics have all of it.

  Returns:
    A task whose data are (zoo, images, labels).
  """

  def draw(key, step, data):
    zoo, x, y = data
    counted = share(step)
    k_rows, k_images, k_noise = jax.random.split(key, 3)
    size = zoo.activation.shape[0]
    rows = jax.random.randint(k_rows, (networks,), 0, size)
    zoo = jax.tree.map(lambda a: a[rows], zoo)
    added = jnp.zeros((), x.dtype)
    if noise > 0:
      shape = (images, *x.shape[1:])
      added = noise * jax.random.normal(k_noise, shape, x.dtype)
    if zoo.class_to_output is None:
      chosen = jax.random.randint(k_images, (images,), 0, x.shape[0])
      return (zoo, None), (x[chosen], y[chosen], added, counted)
    keys = jax.random.split(k_images, networks)
    chosen = jax.vmap(own_images, (0, 0, None))(keys, zoo, y)
    return (zoo, chosen), (x, y, added, counted)

  def share(step):
    begin, end = ramp
    if end <= 0:
      return jnp.ones(())
    return jnp.clip((step - begin) / max(end - begin, 1), 0, 1)

  def own_images(key, network, labels):
    """Positions [images] of images of the network's task."""
    inside = jnp.cumsum(objective.output_labels(network, labels) >= 0)
    numbers = jax.random.randint(key, (images,), 0, inside[-1])
    return jnp.searchsorted(inside, numbers, side="right")

  def loss(params, item, shared):
    network, chosen = item
    x, y, added, counted = shared
    if chosen is not None:
      x, y = x[chosen], y[chosen]
    edited = operator.apply(params, network.weights, network.activation)
    result = losses(network._replace(weights=edited), x + added, y)
    ce, objective = result.cross_entropy, result.objective
    return ce + counted * (objective - ce), result._asdict()

  return Objective(draw, loss)


REGRESSION: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  # Both are least at the expected value, and bounded gradients of logits.
  "cross_entropy": optax.sigmoid_binary_cross_entropy,
  "squared_error": lambda logit, value: (jax.nn.sigmoid(logit) - value) ** 2,
}
"""Losses of (logit, value in [0, 1])."""


def _regression(loss: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
  if loss not in REGRESSION:
    raise InputError(
      f"loss.name is {loss!r}, expected one of {', '.join(REGRESSION)}"
    )
  return REGRESSION[loss]


def regression_objective(
  functional: Functional,
  *,
  networks: int,
  loss: str = "cross_entropy",
) -> Objective:
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
  of_pair = _regression(loss)

  def draw(key, step, data):
    del step
    zoo, values = data
    rows = jax.random.randint(key, (networks,), 0, values.shape[0])
    return jax.tree.map(lambda a: a[rows], (zoo, values)), ()

  def one(params, item, shared):
    del shared
    network, value = item
    (logit,) = functional.apply(params, network.weights, network.activation)
    objective = of_pair(logit, value)
    error = jax.nn.sigmoid(logit) - value
    return objective, {"objective": objective, "squared_error": error**2}

  return Objective(draw, one)


def classification_objective(
  functional: Functional,
  *,
  networks: int,
  vary: Callable[[jax.Array, Weights], Weights] | None = None,
) -> Objective:
  """The class of every network, such as that of the image that it renders.

  Args:
    functional: weights -> logits [K]; the task's loss is invariant if it is.
    networks: drawn per step, with replacement.
    vary: (key, weights of one network) -> weights of another network of the
      same class, see `augmentation`; None to show networks as they are.

  Returns:
    A task whose data are (zoo, labels [B]).
  """

  def draw(key, step, data):
    del step
    zoo, labels = data
    k_rows, k_vary = jax.random.split(key)
    rows = jax.random.randint(k_rows, (networks,), 0, labels.shape[0])
    zoo, labels = jax.tree.map(lambda a: a[rows], (zoo, labels))
    if vary is not None:
      keys = jax.random.split(k_vary, networks)
      zoo = zoo._replace(weights=jax.vmap(vary)(keys, zoo.weights))
    return (zoo, labels), ()

  def one(params, item, shared):
    del shared
    network, label = item
    logits = functional.apply(params, network.weights, network.activation)
    objective = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    accuracy = (logits.argmax() == label).astype(logits.dtype)
    return objective, {"objective": objective, "accuracy": accuracy}

  return Objective(draw, one)


def rendering_objective(
  operator: Operator, target: TargetNetwork, *, networks: int
) -> Objective:
  """Edited networks are to give other values: the mean squared error.

  Args:
    operator: weights -> edited weights; the loss is invariant if it is
      equivariant, for the function of a network is.
    target: the networks that are edited.
    networks: drawn per step, with replacement.

  Returns:
    A task whose data are (zoo, values [B, P, C], inputs [P, d]): for each
    network what it is to give at the inputs, which are those of all.
  """

  def draw(key, step, data):
    del step
    zoo, values, inputs = data
    rows = jax.random.randint(key, (networks,), 0, values.shape[0])
    return jax.tree.map(lambda a: a[rows], (zoo, values)), inputs

  def one(params, item, inputs):
    network, values = item
    edited = operator.apply(params, network.weights, network.activation)
    found = target.apply(edited, inputs, network.activation)
    objective = jnp.mean((found - values) ** 2)
    return objective, {"objective": objective}

  return Objective(draw, one)


def batch_regression_objective(
  functional: BatchFunctional, *, loss: str = "cross_entropy"
) -> Objective:
  """`regression_task` on batches of several architectures.

  To the loop a batch is one item. Its data are the batch itself, made on the
  host for every step; the value of each network is "value" in its `globals`.

  Args:
    functional: `graph.packing.Batch` -> logits [G, 1].
    loss: a key of `REGRESSION`.

  Raises:
    InputError: no such loss.
  """
  of_pair = _regression(loss)

  def draw(key, step, batch):
    del key, step
    return jax.tree.map(lambda a: a[None], batch), ()

  def mean(params, batch, shared):
    del shared
    given: Any = batch.graph.globals
    logits = functional.apply(params, batch)[:, 0]
    count = given["real"].sum()

    def over_networks(values):
      return jnp.where(given["real"], values, 0).sum() / count

    objective = over_networks(of_pair(logits, given["value"]))
    error = jax.nn.sigmoid(logits) - given["value"]
    return objective, {
      "objective": objective, "squared_error": over_networks(error**2)
    }  # fmt: skip

  return Objective(draw, mean)
