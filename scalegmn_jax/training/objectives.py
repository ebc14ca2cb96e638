"""Training objectives of metanetworks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import (
  BatchFunctional,
  ConditionalOperator,
  Functional,
  InputError,
  Operator,
  TargetNetwork,
  Weights,
  random_array,
)
from scalegmn_jax.inner import objective as inner_objective
from scalegmn_jax.inner.losses import Losses
from scalegmn_jax.training.step import Objective


def amortized_objective(
  operator: Operator,
  losses: Callable[..., Losses],
  *,
  batch_networks: int,
  batch_images: int,
  ramp: tuple[float, float] = (0, 0),
  image_noise: float = 0.0,
) -> Objective:
  """Amortized fine-tuning: the objective of random networks after one edit.

  The penalty can be phased in. At the start of training, weights that the
  operator writes have little effect on the loss, and a full penalty would drive
  most of them to zero.

  Args:
    operator: weights -> better weights.
    losses: see `inner.losses.finetune_losses`.
    batch_networks: networks drawn per step, with replacement.
    batch_images: images drawn per step, the same for all networks; for networks
      with labels of their own (`class_to_output`), images drawn for each
      network among its classes.
    ramp: (begin, end) steps: the weight of the penalty grows linearly from 0 at
      `begin` to 1 at `end`; (0, 0) for 1 throughout. Metrics always have the
      full penalty.
    image_noise: standard deviation of the Gaussian noise that is added to the
      pixels, the same noise for all networks of a step; 0 for none.

  Returns:
    An objective whose data are (networks, images [N, ...], labels [N]).
  """

  def draw(key, step, data):
    networks, x, y = data
    weight = penalty_weight(step)
    k_rows, k_images, k_noise = jax.random.split(key, 3)
    rows = jax.random.randint(k_rows, (batch_networks,), 0, networks.size)
    networks = networks.take(rows)
    noise = jnp.zeros((), x.dtype)
    if image_noise > 0:
      shape = (batch_images, *x.shape[1:])
      noise = image_noise * random_array(
        jax.random.normal, k_noise, shape, dtype=x.dtype
      )
    if networks.class_to_output is None:
      indices = jax.random.randint(k_images, (batch_images,), 0, x.shape[0])
      return (networks, None), (x[indices], y[indices], noise, weight)
    keys = jax.random.split(k_images, batch_networks)
    indices = jax.vmap(labelled_images, (0, 0, None))(keys, networks, y)
    return (networks, indices), (x, y, noise, weight)

  def penalty_weight(step):
    begin, end = ramp
    if end <= 0:
      return jnp.ones(())
    return jnp.clip((step - begin) / max(end - begin, 1), 0, 1)

  def labelled_images(key, network, labels):
    """Indices [batch_images] of images that the network has an output for."""
    output = inner_objective.output_labels(network, labels)
    inside = jnp.cumsum(output >= 0)
    numbers = jax.random.randint(key, (batch_images,), 0, inside[-1])
    return jnp.searchsorted(inside, numbers, side="right")

  def loss(params, item, shared):
    network, indices = item
    x, y, noise, weight = shared
    if indices is not None:
      x, y = x[indices], y[indices]
    edited = operator.apply(params, network.weights, network.activation)
    result = losses(network._replace(weights=edited), x + noise, y)
    ce, objective = result.cross_entropy, result.objective
    return ce + weight * (objective - ce), result._asdict()

  return Objective(draw, loss)


REGRESSION: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  # Both are minimal at the expected value, with bounded gradients in the logit.
  "cross_entropy": optax.sigmoid_binary_cross_entropy,
  "squared_error": lambda logit, value: (jax.nn.sigmoid(logit) - value) ** 2,
}
"""Losses: (logit, value in [0, 1]) -> loss."""


def _regression_loss(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
  if name not in REGRESSION:
    raise InputError(
      f"loss is {name!r}, expected one of {', '.join(REGRESSION)}"
    )
  return REGRESSION[name]


def regression_objective(
  functional: Functional,
  *,
  batch_networks: int,
  loss: str = "cross_entropy",
) -> Objective:
  """Regression of a value in [0, 1] per network, such as its test accuracy.

  The prediction is the sigmoid of the functional's output.

  Args:
    functional: weights -> logit [1]. The loss is invariant if it is invariant.
    batch_networks: networks drawn per step, with replacement.
    loss: a key of `REGRESSION`.

  Returns:
    An objective whose data are (networks, values [B]).

  Raises:
    InputError: unknown loss.
  """
  loss_of = _regression_loss(loss)

  def draw(key, step, data):
    del step
    networks, values = data
    rows = jax.random.randint(key, (batch_networks,), 0, values.shape[0])
    return (networks.take(rows), values[rows]), ()

  def loss_of_network(params, item, shared):
    del shared
    network, value = item
    (logit,) = functional.apply(params, network.weights, network.activation)
    objective = loss_of(logit, value)
    error = jax.nn.sigmoid(logit) - value
    return objective, {"objective": objective, "squared_error": error**2}

  return Objective(draw, loss_of_network)


def classification_objective(
  functional: Functional,
  *,
  batch_networks: int,
  vary: Callable[[jax.Array, Weights], Weights] | None = None,
) -> Objective:
  """Classification of networks, such as the class of the image they render.

  Args:
    functional: weights -> logits [K]. The loss is invariant if it is invariant.
    batch_networks: networks drawn per step, with replacement.
    vary: (key, weights of one network) -> weights of another network with the
      same class, see `augmentation`; None to train on the networks as they are.

  Returns:
    An objective whose data are (networks, labels [B]).
  """

  def draw(key, step, data):
    del step
    networks, labels = data
    k_rows, k_vary = jax.random.split(key)
    rows = jax.random.randint(k_rows, (batch_networks,), 0, labels.shape[0])
    networks, labels = networks.take(rows), labels[rows]
    if vary is not None:
      keys = jax.random.split(k_vary, batch_networks)
      varied = jax.vmap(vary)(keys, networks.weights)
      networks = networks._replace(weights=varied)
    return (networks, labels), ()

  def loss_of_network(params, item, shared):
    del shared
    network, label = item
    logits = functional.apply(params, network.weights, network.activation)
    objective = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    accuracy = (logits.argmax() == label).astype(logits.dtype)
    return objective, {"objective": objective, "accuracy": accuracy}

  return Objective(draw, loss_of_network)


def rendering_objective(
  operator: ConditionalOperator, target: TargetNetwork, *, batch_networks: int
) -> Objective:
  """Mean squared error between outputs of edited networks and values.

  Args:
    operator: makes E edits, see `gmn.conditional`. The loss is invariant if it
      is equivariant, as the function of a network is invariant.
    target: the edited networks.
    batch_networks: networks drawn per step, with replacement, and an edit for
      each of them.

  Returns:
    An objective whose data are (networks, values [E, B, P, C], inputs [P, d]):
    the desired outputs of each network after each of E edits, at the inputs,
    which all networks share.
  """

  def draw(key, step, data):
    del step
    networks, values, inputs = data
    edits, count = values.shape[:2]
    rows = jax.random.randint(key, (batch_networks,), 0, count)
    edit = jax.random.randint(
      jax.random.fold_in(key, 1), (batch_networks,), 0, edits
    )
    return (networks.take(rows), edit, values[edit, rows]), inputs

  def loss_of_network(params, item, inputs):
    network, edit, values = item
    edited = operator.apply(params, network.weights, network.activation, edit)
    outputs = target.apply(edited, inputs, network.activation)
    objective = jnp.mean((outputs - values) ** 2)
    return objective, {"objective": objective}

  return Objective(draw, loss_of_network)


def batch_regression_objective(
  functional: BatchFunctional, *, loss: str = "cross_entropy"
) -> Objective:
  """Regression of a value per network, on batches of several architectures.

  A whole batch is one item of the objective. The data of a step are the batch
  itself, made on the host; the value of each network is "value" in its
  `globals`.

  Args:
    functional: `graph.batch.pack.GraphBatch` -> logits [G, 1].
    loss: a key of `REGRESSION`.

  Returns:
    An objective whose data are a `GraphBatch`.

  Raises:
    InputError: unknown loss.
  """
  loss_of = _regression_loss(loss)

  def draw(key, step, batch):
    del key, step
    return jax.tree.map(lambda a: a[None], batch), ()

  def loss_of_batch(params, batch, shared):
    del shared
    graphs: Any = batch.graph.globals
    logits = functional.apply(params, batch)[:, 0]
    count = graphs["real"].sum()

    def mean(values):
      return jnp.where(graphs["real"], values, 0).sum() / count

    objective = mean(loss_of(logits, graphs["value"]))
    error = jax.nn.sigmoid(logits) - graphs["value"]
    return objective, {"objective": objective, "squared_error": mean(error**2)}

  return Objective(draw, loss_of_batch)
