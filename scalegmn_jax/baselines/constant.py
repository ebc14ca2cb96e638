"""Baselines whose result does not depend on the input network.

If all networks of a zoo are trained on the same labels, nothing in the
objective forces an operator to look at its input. Tables of results therefore
show the best constant too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Operator, TargetNetwork, Weights
from scalegmn_jax.inner.finetune import FineTuner
from scalegmn_jax.inner.objective import kl_divergence, target_probs
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry.spec import keep_statistics, output_size


def best_network(networks: Networks, objectives: jax.Array) -> Networks:
  """The network with the lowest objective [B], as `Networks` of size 1."""
  best = np.nanargmin(np.asarray(objectives))
  return jax.device_put(
    jax.tree.map(lambda a: a[best][None], jax.device_get(networks))
  )


def mean_objectives(
  target: TargetNetwork, *, l1: float
) -> Callable[[Networks, Networks, jax.Array, jax.Array], jax.Array]:
  """Makes a function that rates networks as constant baselines.

  Args:
    target: the architecture.
    l1: λ.

  Returns:
    (networks, supervision, images, labels) -> [B]: for each network, the mean
    of cross-entropy + λ·balanced L1 over the target probabilities of all
    networks in `supervision`.
  """

  outputs = output_size(target.spec)

  def probs_of_one(data, network):
    images, labels = data
    return target_probs(target.apply, network, images, labels, outputs)

  probs_of = batched.apply_batched(probs_of_one, in_turn=True)

  def measure_one(shared, network):
    images, probs = shared
    logits = target.apply(network.weights, images, network.activation)
    divergences = jax.vmap(kl_divergence, (None, 0))(logits, probs)
    norm = gauge.balanced_l1(target.spec, network.weights, network.activation)
    return divergences.mean() + l1 * norm

  measure_all = batched.apply_batched(measure_one, in_turn=True)

  def measure(networks, supervision, images, labels):
    probs = probs_of((images, labels), supervision)
    return measure_all((images, probs), networks)

  return measure


def constant_operator(target: TargetNetwork) -> Operator:
  """θ' = θ + φ: the same update for all networks. The initial φ is zero.

  Running statistics are not updated.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))

  def init(key):
    del key
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def apply(params, weights, activation: jax.Array | int = 0):
    del activation
    edited = jax.tree.map(jnp.add, weights, params)
    return keep_statistics(target.spec, weights, edited)

  return Operator(init, apply)


def repeat_network(network: Any, count: int) -> Any:
  """Repeats a pytree with leaves [1, ...]: leaves [count, ...]."""
  host = jax.device_get(network)  # without a program per leaf
  return jax.device_put(
    jax.tree.map(lambda a: np.repeat(a, count, axis=0), host)
  )


def replace_all(network: Networks, networks: Networks) -> Networks:
  """Replaces every network by one network; labels and teachers stay.

  Args:
    network: the replacement, `Networks` of size 1.
    networks: the networks to be replaced.
  """
  weights, activation = repeat_network(
    (network.weights, network.activation), networks.size
  )
  return networks._replace(weights=weights, activation=activation)


def train_offline(
  tuner: FineTuner,
  start: Networks,
  rates: Sequence[float],
  epochs: int,
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  evaluate: Callable[[Networks], jax.Array],
  on_epoch: Callable[[], Any] = lambda: None,
  partial: Partial = NOTHING,
) -> Weights:
  """Trains one network at several rates and keeps the best on validation.

  Args:
    tuner: the fine-tuning method.
    start: the initial network, `Networks` of size 1.
    rates: learning rates.
    epochs: number of epochs.
    key: decides the minibatches.
    data: training (images, labels).
    evaluate: networks -> objectives [B] on validation images.
    on_epoch: called after every epoch.
    partial: keeps the trajectories.

  Returns:
    The weights, leaves [1, ...].
  """
  copies = repeat_network(start, len(rates))
  results = tuner.run(
    copies, jnp.array(rates), [epochs], key, data, on_epoch, partial
  )
  trained = copies._replace(weights=results[epochs])
  return best_network(trained, evaluate(trained)).weights
