"""Fine-tuning by gradient descent, with learning rates tuned on a grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import (
  InputError,
  Network,
  Networks,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.inner import tune_grid
from scalegmn_jax.inner.objective import training_divergence
from scalegmn_jax.partial import NOTHING, Partial, Result
from scalegmn_jax.symmetry import gauge

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  "adam": optax.adam,
  "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
}

SCHEDULES = ("constant", "cosine")


class _Hyper(NamedTuple):
  """Peak learning rate, and steps until the rate is zero (0: never), [B]."""

  rate: jax.Array
  decay_steps: jax.Array


class FineTuner(NamedTuple):
  """A fine-tuning method.

  Attributes:
    optimizer: a key of `OPTIMIZERS`.
    schedule: one of `SCHEDULES`.
    run: (networks, rates [B], horizons, key, data, on_epoch, partial) ->
      {epochs: weights [B, ...]}, the weights after each horizon. Horizons share
      one trajectory if the rate is constant; otherwise each horizon has its
      own. `partial` keeps each trajectory.
  """

  optimizer: str
  schedule: str
  run: Callable[..., dict[int, Weights]]

  @property
  def key(self) -> dict[str, str]:
    """The keys that identify the method in rows of results."""
    return {"method": self.optimizer, "schedule": self.schedule}


def fine_tuner(
  target: TargetNetwork,
  *,
  optimizer: str,
  schedule: str,
  l1: float,
  batch_size: int,
  supervision: Networks | None = None,
  vmap_size: int | None = None,
) -> FineTuner:
  """Fine-tuning on cross-entropy + λ‖θ‖₁ from the balanced network.

  The penalty is the plain L1 norm; in the balanced gauge its gradient equals
  the gradient of the balanced norm. The balanced start helps gradient descent
  more than the choice of the penalty. All networks share the minibatches.
  Running statistics are moved by the images, see `TargetNetwork.train`.

  Args:
    target: the architecture.
    optimizer: a key of `OPTIMIZERS`.
    schedule: "constant", or "cosine" for a rate that reaches zero at each
      horizon.
    l1: λ.
    batch_size: images per step.
    supervision: networks whose labels and teachers are drawn at random, one
      for every step; None: each network has its own.
    vmap_size: networks trained side by side, see `fit.fit`.

  Raises:
    InputError: unknown optimizer or schedule.
  """
  if optimizer not in OPTIMIZERS or schedule not in SCHEDULES:
    raise InputError(
      f"optimizer is {optimizer!r} and schedule is {schedule!r}, expected one "
      f"of {', '.join(OPTIMIZERS)} and one of {', '.join(SCHEDULES)}"
    )

  def loss(network, images, labels, hyper, key):
    del hyper
    if supervision is not None:
      row = jax.random.randint(key, (), 0, supervision.size)
      drawn = supervision.take(row)
      network = Network(
        network.weights,
        network.activation,
        drawn.class_to_output,
        drawn.teacher,
      )
    ce, moved = training_divergence(target, network, images, labels)
    return ce + l1 * gauge.l1(target.spec, network.weights), moved

  def transformation(hyper):
    def rate(count):
      done = jnp.minimum(count / jnp.maximum(hyper.decay_steps, 1), 1)
      cosine = 0.5 * (1 + jnp.cos(jnp.pi * done))
      return hyper.rate * jnp.where(hyper.decay_steps > 0, cosine, 1)

    return OPTIMIZERS[optimizer](rate)

  trainer = fits.fit(
    loss, transformation, batch_size=batch_size, vmap_size=vmap_size
  )
  init = jax.jit(trainer.init)
  balance = gauge.balance_networks(target)

  def run(
    networks,
    rates,
    horizons,
    key,
    data,
    on_epoch=lambda: None,
    partial=NOTHING,
  ):
    start = balance(networks)
    count = networks.size
    steps = max(data[0].shape[0] // batch_size, 1)
    ends = sorted(horizons)
    results = {}
    constant = schedule == "constant"

    def keys(epoch):
      return jnp.broadcast_to(jax.random.fold_in(key, epoch), (count,))

    for trajectory in [ends] if constant else [[h] for h in ends]:
      decay = 0 if constant else trajectory[-1] * steps
      hyper = _Hyper(rates, jnp.full(count, decay))
      results |= fits.run_epochs(
        trainer,
        init(start.weights, hyper),
        hyper,
        networks,
        keys,
        data,
        trajectory,
        partial=partial.of(f"{trajectory[-1]} epochs"),
        on_epoch=on_epoch,
      )
    return results

  return FineTuner(optimizer, schedule, run)


class TunedRates(NamedTuple):
  """Learning rates chosen on validation networks.

  Attributes:
    rates: {epochs: the best rate at this horizon}.
    objective: {rate: {epochs: mean objective of the validation networks}}.
  """

  rates: dict[int, float]
  objective: dict[float, dict[int, float]]


def tune_learning_rates(
  tuner: FineTuner,
  networks: Networks,
  rates: Sequence[float],
  horizons: Sequence[int],
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  evaluate: Callable[[Networks], jax.Array],
  *,
  extensions: int = 2,
  on_epoch: Callable[[], Any] = lambda: None,
  partial: Partial = NOTHING,
) -> TunedRates:
  """Chooses the learning rate at each horizon on validation networks.

  The grid grows if the best rate lies at its edge, see `tune_grid`.

  Args:
    tuner: the method.
    networks: validation networks.
    rates: the grid, ascending.
    horizons: numbers of epochs.
    key: decides the minibatches.
    data: training (images, labels).
    evaluate: networks -> objectives [B] on validation images.
    extensions: maximum number of times that the grid grows.
    on_epoch: called after every epoch.
    partial: keeps trajectories and objectives.
  """

  def values(points):
    part = partial.of(" ".join(str(rate) for (rate,) in points))
    # All new rates at once: more networks side by side.
    copies = len(points)
    many = jax.tree.map(lambda a: jnp.concatenate([a] * copies), networks)
    new = jnp.array([rate for (rate,) in points])
    results = tuner.run(
      many, jnp.repeat(new, networks.size), horizons, key, data, on_epoch, part
    )

    def means(weights):
      objectives = evaluate(many._replace(weights=weights))
      return objectives.reshape(copies, -1).mean(1).tolist()

    kept = {
      h: part.remember(
        f"objective after {h}", lambda _, w=weights: Result({}, means(w))
      ).values
      for h, weights in results.items()
    }
    return [{h: kept[h][i] for h in kept} for i in range(copies)]

  result = tune_grid.tune_grid(values, [rates], extensions=extensions)
  return TunedRates(
    {h: result.best[h][0] for h in horizons},
    {rate: means for (rate,), means in result.objective.items()},
  )


def run_at_tuned_rates(
  tuner: FineTuner,
  tuned: TunedRates,
  networks: Networks,
  key: jax.Array,
  data: tuple[jax.Array, jax.Array],
  on_epoch: Callable[[], Any] = lambda: None,
  partial: Partial = NOTHING,
) -> Mapping[int, Weights]:
  """Fine-tunes networks to each horizon at the rate chosen for this horizon.

  Args:
    tuner: the method.
    tuned: the rates.
    networks: the networks.
    key: decides the minibatches.
    data: training (images, labels).
    on_epoch: called after every epoch.
    partial: keeps trajectories.

  Returns:
    {epochs: weights [B, ...]}, in ascending order of epochs.
  """
  results: dict[int, Weights] = {}
  for rate in sorted(set(tuned.rates.values())):
    ends = [h for h, r in tuned.rates.items() if r == rate]
    rates = jnp.full(networks.size, rate)
    part = partial.of(str(rate))
    results |= tuner.run(networks, rates, ends, key, data, on_epoch, part)
  return dict(sorted(results.items()))
