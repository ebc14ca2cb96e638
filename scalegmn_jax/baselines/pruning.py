"""Pruning: sets most weights of a network to zero and fine-tunes the rest.

Methods differ in how they edit a network first (`PruneMethod.edit`), in which
weights they keep (`PruneMethod.score`, see `importance`) and in how they divide
their epochs (`PruneMethod.phases`).

Fine-tuning starts from the balanced gauge (`symmetry.gauge.balance`). If the
score of a method is invariant, the resulting function therefore does not depend
on the gauge of the stored network.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax import batched
from scalegmn_jax.base import (
  Network,
  Networks,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.baselines import importance
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.inner.objective import training_divergence
from scalegmn_jax.partial import NOTHING, Partial
from scalegmn_jax.symmetry import gauge, kernels
from scalegmn_jax.symmetry.spec import keep_statistics

PruneSettings = Mapping[str, float]
"""{setting: value} for the settings in `PruneMethod.axes`."""


class Phase(NamedTuple):
  """A pruning step followed by fine-tuning.

  Attributes:
    cut: progress of pruning, from 0 (none) to 1 (final sparsity s). The share
      1 - (1 - s)^cut of the weights is zero: the logarithm of the kept share is
      linear in `cut`.
    epochs: epochs of fine-tuning.
    penalized: whether fine-tuning minimizes cross-entropy + λ‖θ‖₁ or only
      cross-entropy.
  """

  cut: float
  epochs: int
  penalized: bool = False


def unedited(networks: Networks, settings: PruneSettings) -> Networks:
  """Returns the networks unchanged, the default of `PruneMethod.edit`."""
  del settings
  return networks


class PruneMethod(NamedTuple):
  """A pruning method.

  Attributes:
    phases: run in order; pruned weights stay zero.
    score: applied to the network at the start of each phase.
    axes: {setting: candidate values}; "rate", the learning rate of Adam, if
      there are epochs; "l1", λ, if a phase is penalized; settings of `edit`.
    edit: (networks, settings) -> networks, applied before the first phase.
    data_passes: passes over the training images by `edit` and `score`, per
      network.
  """

  phases: tuple[Phase, ...]
  score: importance.Score
  axes: Mapping[str, Sequence[float]] = {}
  edit: Callable[[Networks, PruneSettings], Networks] = unedited
  data_passes: float = 0.0

  @property
  def epochs(self) -> int:
    """Epochs of fine-tuning in all phases."""
    return sum(phase.epochs for phase in self.phases)


def once(epochs: int) -> tuple[Phase, ...]:
  """Prunes in one step, then fine-tunes."""
  return (Phase(1, epochs),)


def in_rounds(count: int) -> tuple[Phase, ...]:
  """Prunes in several steps with scores of what is left, without fine-tuning.

  Each step removes the same share of the remaining weights.
  """
  return tuple(Phase((i + 1) / count, 0) for i in range(count))


def gradually(epochs: int, rounds: int) -> tuple[Phase, ...]:
  """Alternates pruning and fine-tuning.

  Each round removes the same share of the remaining weights.

  Args:
    epochs: epochs of fine-tuning in all rounds.
    rounds: number of rounds; at most one per epoch is used.
  """
  rounds = max(min(rounds, epochs), 1)
  ends = [epochs * i // rounds for i in range(rounds + 1)]
  return tuple(
    Phase((i + 1) / rounds, ends[i + 1] - ends[i]) for i in range(rounds)
  )


def penalized_first(epochs: int) -> tuple[Phase, ...]:
  """Fine-tunes with an L1 penalty for half of the epochs, then prunes."""
  half = epochs // 2
  return (Phase(0, half, penalized=True), Phase(1, epochs - half))


class _Hyper(NamedTuple):
  """Learning rate [B], λ [B], and the masks of the weights, leaves [B, ...]."""

  rate: jax.Array
  l1: jax.Array
  mask: Weights


def pruner(
  target: TargetNetwork, *, batch_size: int, vmap_size: int | None = None
) -> Callable[..., Weights]:
  """Makes a function that runs a pruning method.

  Args:
    target: the architecture.
    batch_size: images per step.
    vmap_size: networks trained side by side, None for all. On one CPU core, 1
      is 2.3 times faster than 5 (architecture of the Small CNN Zoo).

  Returns:
    (method, networks, share, settings, key, data, on_epoch, partial) ->
    weights, leaves [B, ...]. The given share of the kernel entries of each
    network is exactly zero (more if more were zero at the start); Adam
    fine-tunes the rest at a constant rate. `settings` has a value for each of
    the method's axes. `data`
    is training (images, labels); the key decides the minibatches, which all
    networks share. The caller applies `method.edit`, which does not depend on
    the share. `on_epoch(count=B)` is called after every epoch. `partial` keeps
    the state of the fine-tuning.
  """

  def loss(network, images, labels, hyper, key):
    del key
    ce, moved = training_divergence(target, network, images, labels)
    # In the balanced gauge, plain and balanced norm have the same gradient.
    return ce + hyper.l1 * gauge.l1(target.spec, network.weights), moved

  def masked_adam(hyper):
    return optax.chain(
      optax.adam(hyper.rate),
      optax.stateless(
        lambda updates, _: jax.tree.map(jnp.multiply, updates, hyper.mask)
      ),
    )

  trainer = fits.fit(
    loss, masked_adam, batch_size=batch_size, vmap_size=vmap_size
  )
  init = jax.jit(trainer.init)

  @functools.cache
  def cut(score):
    def cut_one(shared, network_and_mask):
      count, images, labels = shared
      network, kept = network_and_mask
      scores = score(network, images, labels)
      mask = kernels.keep_highest(target.spec, scores, kept, count)
      balanced = gauge.balance(target.spec, network.weights, network.activation)
      return jax.tree.map(jnp.multiply, balanced, mask), mask

    return batched.apply_batched(cut_one, in_turn=True)

  def run(
    method: PruneMethod,
    networks: Networks,
    share: float,
    settings: PruneSettings,
    key: jax.Array,
    data: tuple[jax.Array, jax.Array],
    on_epoch: Callable[..., Any] = lambda count: None,
    partial: Partial = NOTHING,
  ) -> Weights:
    entries = kernels.count(target.spec, networks.take(0).weights)
    size = networks.size
    masks = jax.tree.map(jnp.ones_like, networks.weights)
    before = 0
    for number, phase in enumerate(method.phases):
      pruned = 1 - (1 - share) ** phase.cut
      count = round(pruned * entries)
      weights, masks = cut(method.score)((count, *data), (networks, masks))
      networks = networks._replace(weights=weights)
      if not phase.epochs:
        continue
      hyper = _Hyper(
        jnp.full(size, settings["rate"]),
        jnp.full(size, settings["l1"] if phase.penalized else 0.0),
        masks,
      )

      def keys(epoch, before=before):
        folded = jax.random.fold_in(key, before + epoch)
        return jnp.broadcast_to(folded, (size,))

      trained = fits.run_epochs(
        trainer,
        init(weights, hyper),
        hyper,
        networks,
        keys,
        data,
        [phase.epochs],
        partial=partial.of(f"phase {number}"),
        on_epoch=lambda: on_epoch(count=size),
      )
      networks = networks._replace(weights=trained[phase.epochs])
      before += phase.epochs
    return networks.weights

  return run


def ascent(
  target: TargetNetwork,
  value: Callable[[Params, Weights, jax.Array], jax.Array],
  *,
  steps: int,
) -> Callable[[Params, Network, float, float], Weights]:
  """Makes a function that maximizes value - λ·balanced L1 over the weights.

  The value is the prediction of a metanetwork, such as the accuracy of the
  network. Adam starts from the balanced network; a step whose result is not
  finite ends the ascent. If the value is invariant, the function of the result
  does not depend on the gauge of the network. Running statistics stay those of
  the balanced network.

  Args:
    target: the architecture.
    value: (φ, weights, activation) -> scalar.
    steps: steps of Adam.

  Returns:
    (φ, network, learning rate, λ) -> weights, jitted.
  """

  @jax.jit
  def climb(params, network, rate, l1):
    adam = optax.adam(rate)

    def loss(weights):
      norm = gauge.balanced_l1(target.spec, weights, network.activation)
      return l1 * norm - value(params, weights, network.activation)

    def step(state, _):
      weights, inner = state
      updates, inner = adam.update(jax.grad(loss)(weights), inner, weights)
      moved = optax.apply_updates(weights, updates)
      new = (keep_statistics(target.spec, weights, moved), inner)
      finite = jnp.isfinite(optax.tree.norm(new[0]))
      return jax.tree.map(
        lambda a, b: jnp.where(finite, a, b), new, state
      ), None

    start = gauge.balance(target.spec, network.weights, network.activation)
    return jax.lax.scan(step, (start, adam.init(start)), length=steps)[0][0]

  return climb
