"""Methods that do the same whatever network they are given.

In a zoo of one task nothing in the objective asks an operator to look at its
input, so the best constant is a rival that a table has to show.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from scalegmn_jax.base import Networks, Operator, TargetNetwork, Weights
from scalegmn_jax.inner import objective
from scalegmn_jax.inner.finetune import FineTuner
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import output_size


def best_network(zoo: Networks, objective: jax.Array) -> Networks:
  """The network of least objective [B], as a zoo of one."""
  best = jnp.nanargmin(objective)
  return jax.tree.map(lambda a: a[best][None], zoo)


def mean_objectives(
  target: TargetNetwork, *, l1: float
) -> Callable[[Networks, Networks, jax.Array, jax.Array], jax.Array]:
  """(zoo, tasks, images, labels) -> [B], of each network in place of others.

  That of network b is the mean of cross-entropy + λ·balanced L1 over the tasks
  of the networks `tasks`.
  """

  @jax.jit
  def measure(zoo, tasks, images, labels):
    outputs = output_size(target.spec)
    wanted = jax.lax.map(
      lambda n: objective.target_probs(
        target.apply, n, images, labels, outputs
      ),
      tasks,
    )

    def one(network):
      logits = target.apply(network.weights, images, network.activation)
      found = jax.vmap(objective.kl_divergence, (None, 0))(logits, wanted)
      norm = gauge.balanced_l1(target.spec, network.weights, network.activation)
      return found.mean() + l1 * norm

    return jax.lax.map(one, zoo)

  return measure


def constant_operator(target: TargetNetwork) -> Operator:
  """θ' = θ + φ: one update for all networks. φ begins at zero."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))

  def init(key):
    del key
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    return jax.tree.map(jnp.add, weights, params)

  return Operator(init, apply)


def repeat_network(zoo: Any, count: int) -> Any:
  """A zoo of one network, `count` times."""
  return jax.tree.map(lambda a: jnp.repeat(a, count, axis=0), zoo)


def replace_all(network: Networks, zoo: Networks) -> Networks:
  """A zoo of one network in place of each of another, whose tasks it gets."""
  count = zoo.activation.shape[0]
  weights, activation = repeat_network(
    (network.weights, network.activation), count
  )
  return zoo._replace(weights=weights, activation=activation)


def train_offline(
  tuner: FineTuner,
  start: Networks,
  rates: Sequence[float],
  epochs: int,
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  evaluate: Callable[[Networks], jax.Array],
  on_epoch: Callable[[], Any] = lambda: None,
) -> Weights:
  """One network trained for long: the best over rates on validation images.

  Args:
    tuner: how it is trained.
    start: a zoo of one network.
    rates: of which the best is kept.
    epochs: of training.
    key: of the minibatches.
    data: training (images, labels).
    evaluate: zoo -> objectives on validation images.
    on_epoch: called after every epoch.

  Returns:
    The weights, with a leading axis of one.
  """
  many = repeat_network(start, len(rates))
  trained = tuner.run(many, jnp.array(rates), [epochs], key, data, on_epoch)[
    epochs
  ]
  zoo = many._replace(weights=trained)
  return best_network(zoo, evaluate(zoo)).weights
