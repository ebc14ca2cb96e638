"""Gradient descent on each network, at the best learning rate of a grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import InputError, Networks, TargetNetwork, Weights
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.inner import tune_grid
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import gauge

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  "adam": optax.adam,
  "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
}


SCHEDULES = ("constant", "cosine")


class _Hyper(NamedTuple):
  """Per network: peak learning rate, and steps until it is zero (0: never)."""

  rate: jax.Array
  decay_steps: jax.Array


class FineTuner(NamedTuple):
  """Fine-tuning of many networks side by side.

  Attributes:
    name: for tables.
    run: (zoo, rates [B], horizons, key, data, on_epoch) -> {epochs: weights
      [B, ...]}, the networks after each horizon of one trajectory, or of one
      trajectory per horizon if the rate decays.
  """

  name: str
  run: Callable[..., dict[int, Weights]]


def fine_tuner(
  target: TargetNetwork,
  *,
  optimizer: str,
  schedule: str,
  l1: float,
  batch_size: int,
  tasks: Networks | None = None,
  together: int | None = None,
) -> FineTuner:
  """Fine-tuning on cross-entropy + λ‖θ‖₁ from the balanced network.

  The penalty is the plain norm, whose gradient in the balanced gauge is that
  of the balanced norm; the start in that gauge is what helps gradient descent
  most. Minibatches are the same for all networks.

  Args:
    target: the architecture.
    optimizer: a key of `OPTIMIZERS`.
    schedule: "constant", or "cosine" to zero at each horizon.
    l1: λ.
    batch_size: images per step.
    tasks: networks of whose tasks another one is to be learned at every step;
      None: each network learns its own.
    together: networks trained side by side, see `fit.fit`.

  Raises:
    InputError: no such optimizer or schedule.
  """
  if optimizer not in OPTIMIZERS or schedule not in SCHEDULES:
    raise InputError(
      f"baseline {optimizer!r} with schedule {schedule!r}: expected one of "
      f"{', '.join(OPTIMIZERS)} with one of {', '.join(SCHEDULES)}"
    )
  losses = finetune_losses(target, l1=l1, penalty="plain")

  def loss(network, images, labels, hyper, key):
    del hyper
    if tasks is not None:
      row = jax.random.randint(key, (), 0, tasks.activation.shape[0])
      network = jax.tree.map(lambda a: a[row], tasks)._replace(
        weights=network.weights, activation=network.activation
      )
    return losses(network, images, labels).objective

  def transformation(hyper):
    def rate(count):
      done = jnp.minimum(count / jnp.maximum(hyper.decay_steps, 1), 1)
      cosine = 0.5 * (1 + jnp.cos(jnp.pi * done))
      return hyper.rate * jnp.where(hyper.decay_steps > 0, cosine, 1)

    return OPTIMIZERS[optimizer](rate)

  trainer = fits.fit(
    loss, transformation, batch_size=batch_size, chunk=together
  )
  init = jax.jit(trainer.init)
  balance = gauge.balance_networks(target)

  def run(zoo, rates, horizons, key, data, on_epoch=lambda: None):
    start = balance(zoo)
    count = zoo.activation.shape[0]
    steps = max(data[0].shape[0] // batch_size, 1)
    ends = sorted(horizons)
    results = {}
    for plan in [ends] if schedule == "constant" else [[h] for h in ends]:
      decay = 0 if schedule == "constant" else plan[-1] * steps
      hyper = _Hyper(rates, jnp.full(count, decay))
      state = init(start.weights, hyper)
      for epoch in range(1, plan[-1] + 1):
        keys = jnp.broadcast_to(jax.random.fold_in(key, epoch), (count,))
        state = trainer.epoch(state, hyper, zoo, keys, *data)
        jax.block_until_ready(state)
        on_epoch()
        if epoch in plan:
          results[epoch] = state.weights
    return results

  label = {"adam": "Adam", "sgd": "SGD"}[optimizer]
  name = label if schedule == "constant" else f"{label} (cosine)"
  return FineTuner(name, run)


class TunedRates(NamedTuple):
  """Attributes:
  rates: {epochs: the best rate at that horizon}.
  objective: {rate: {epochs: mean objective of the validation networks}}.
  """

  rates: dict[int, float]
  objective: dict[float, dict[int, float]]


def tune_learning_rates(
  tuner: FineTuner,
  zoo: Networks,
  rates: Sequence[float],
  horizons: Sequence[int],
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  evaluate: Callable[[Networks], jax.Array],
  *,
  extensions: int = 2,
  on_epoch: Callable[[], Any] = lambda: None,
) -> TunedRates:
  """The best learning rate at each horizon on validation networks.

  The grid of rates grows where the best one is at its edge (`grid.search`).

  Args:
    tuner: the method.
    zoo: validation networks.
    rates: the grid, ascending.
    horizons: epochs.
    key: of the minibatches.
    data: training (images, labels).
    evaluate: zoo -> objectives [B] on validation images.
    extensions: times that the grid may grow.
    on_epoch: called after every epoch.
  """
  count = zoo.activation.shape[0]

  def values(points):
    # All new rates at once: more networks side by side.
    copies = len(points)
    many = jax.tree.map(lambda a: jnp.concatenate([a] * copies), zoo)
    new = jnp.array([rate for (rate,) in points])
    results = tuner.run(
      many, jnp.repeat(new, count), horizons, key, data, on_epoch
    )
    means = {
      h: evaluate(many._replace(weights=weights)).reshape(copies, -1).mean(1)
      for h, weights in results.items()
    }
    return [{h: float(means[h][i]) for h in means} for i in range(copies)]

  found = tune_grid.tune_grid(values, [rates], extensions=extensions)
  return TunedRates(
    {h: found.best[h][0] for h in horizons},
    {rate: found.objective[(rate,)] for (rate,) in found.objective},
  )


def run_at_tuned_rates(
  tuner: FineTuner,
  tuned: TunedRates,
  zoo: Networks,
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  on_epoch: Callable[[], Any] = lambda: None,
) -> Mapping[int, Weights]:
  """{epochs: weights [B, ...]}, each horizon at its own best rate."""
  count = zoo.activation.shape[0]
  results: dict[int, Weights] = {}
  for rate in sorted(set(tuned.rates.values())):
    ends = [h for h, r in tuned.rates.items() if r == rate]
    results |= tuner.run(zoo, jnp.full(count, rate), ends, key, data, on_epoch)
  return dict(sorted(results.items()))
