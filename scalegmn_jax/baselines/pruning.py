"""Pruning: most weights of a network set to zero, and the rest fine-tuned.

Methods differ in what they do to a network before (`Method.edit`), in which
weights they keep (`Method.score`, of `importance`) and in how they divide the
epochs that all of them have (`Method.phases`).

Fine-tuning starts from the balanced gauge (`symmetry.gauge.balance`), so that a
method whose score is invariant returns the same function whatever the gauge in
which a network was stored.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from scalegmn_jax.base import Networks, Params, TargetNetwork, Weights
from scalegmn_jax.baselines import importance
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.symmetry import gauge

PruneSettings = Mapping[str, float]
"""Values of `Method.axes`: "rate", of Adam; "l1", λ; and those of an edit."""


class Phase(NamedTuple):
  """Pruning, then fine-tuning.

  Attributes:
    cut: how far to prune, 0 (nothing) to 1 (all the way), linear in the
      logarithm of the share of weights that are kept: 1 - (1 - s)^cut are zero
      where s are in the end.
    epochs: of fine-tuning.
    penalized: whether fine-tuning is on cross-entropy + λ‖θ‖₁, or on
      cross-entropy alone.
  """

  cut: float
  epochs: int
  penalized: bool = False


def unedited(zoo: Networks, settings: PruneSettings) -> Networks:
  del settings
  return zoo


class PruneMethod(NamedTuple):
  """Attributes:
  phases: one after the other; weights that are zero stay zero.
  score: of the network at the start of each phase.
  axes: {setting: values to choose from}; "rate" if there are epochs, "l1" if a
    phase is penalized.
  edit: (zoo, settings) -> zoo, before the first phase.
  data_passes: over the training images by edit and score, for one network.
  """

  phases: tuple[Phase, ...]
  score: importance.Score
  axes: Mapping[str, Sequence[float]] = {}
  edit: Callable[[Networks, PruneSettings], Networks] = unedited
  data_passes: float = 0.0

  @property
  def epochs(self) -> int:
    return sum(phase.epochs for phase in self.phases)


def once(epochs: int) -> tuple[Phase, ...]:
  """Prune, then fine-tune."""
  return (Phase(1, epochs),)


def gradually(epochs: int, rounds: int) -> tuple[Phase, ...]:
  """Prune a little and fine-tune a little, `rounds` times, at most once per
  epoch; each round removes the same share of what is left."""
  rounds = max(min(rounds, epochs), 1)
  ends = [epochs * i // rounds for i in range(rounds + 1)]
  return tuple(
    Phase((i + 1) / rounds, ends[i + 1] - ends[i]) for i in range(rounds)
  )


def penalized_first(epochs: int) -> tuple[Phase, ...]:
  """Half of the epochs with an L1 penalty, then prune, then the rest."""
  half = epochs // 2
  return (Phase(0, half, penalized=True), Phase(1, epochs - half))


class _Hyper(NamedTuple):
  """Per network: learning rate, λ, and the mask of its weights."""

  rate: jax.Array
  l1: jax.Array
  mask: Weights


def pruner(
  target: TargetNetwork, *, batch_size: int, chunk: int | None = None
) -> Callable[..., Weights]:
  """(method, zoo, share, settings, key, data, on_epoch) -> pruned weights.

  `share` of the kernel entries of each network are exactly zero in the end
  (more if some were zero before), the rest is fine-tuned by Adam at a constant
  rate. `settings` has a value for each of the method's axes. `data` are
  training (images, labels); minibatches depend on the key and are the same for
  all networks. The method's edit is not applied: it does not depend on `share`,
  so its caller does it once. `on_epoch` is called once per network and epoch.

  Args:
    target: the architecture.
    batch_size: images per step.
    chunk: networks trained side by side, None for all. On a CPU core one at a
      time is 2.3 times faster than five (the Small CNN Zoo's architecture).
  """

  def loss(network, images, labels, hyper, key):
    del key
    ce, _, _ = fits.evaluate_network(target.apply, network, images, labels)
    # Plain: in the balanced gauge its gradient is that of the balanced norm.
    return ce + hyper.l1 * gauge.l1(network.weights)

  def masked_adam(hyper):
    return optax.chain(
      optax.adam(hyper.rate),
      optax.stateless(
        lambda updates, _: jax.tree.map(jnp.multiply, updates, hyper.mask)
      ),
    )

  trainer = fits.fit(loss, masked_adam, batch_size=batch_size, chunk=chunk)
  init = jax.jit(trainer.init)

  @functools.partial(jax.jit, static_argnums=0)
  def cut(score, zoo, masks, count, images, labels):
    def one(given):
      network, kept = given
      scores = score(network, images, labels)
      mask = importance.keep_highest(scores, kept, count)
      even = gauge.balance(target.spec, network.weights, network.activation)
      return jax.tree.map(jnp.multiply, even, mask), mask

    return jax.lax.map(one, (zoo, masks))

  def run(
    method: PruneMethod,
    zoo: Networks,
    share: float,
    settings: PruneSettings,
    key: jax.Array,
    data: tuple[jax.Array, jax.Array],
    on_epoch: Callable[..., Any] = lambda count: None,
  ) -> Weights:
    networks = zoo.activation.size
    entries = importance.kernels(jax.tree.map(lambda a: a[0], zoo.weights))
    masks = jax.tree.map(jnp.ones_like, zoo.weights)
    epoch = 0
    for phase in method.phases:
      pruned = 1 - (1 - share) ** phase.cut
      count = round(pruned * entries)
      weights, masks = cut(method.score, zoo, masks, count, *data)
      zoo = zoo._replace(weights=weights)
      if not phase.epochs:
        continue
      hyper = _Hyper(
        jnp.full(networks, settings["rate"]),
        jnp.full(networks, settings["l1"] if phase.penalized else 0.0),
        masks,
      )
      state = init(weights, hyper)
      for _ in range(phase.epochs):
        epoch += 1
        keys = jnp.broadcast_to(jax.random.fold_in(key, epoch), (networks,))
        state = trainer.epoch(state, hyper, zoo, keys, *data)
        jax.block_until_ready(state)
        on_epoch(count=networks)
      zoo = zoo._replace(weights=state.weights)
    return zoo.weights

  return run


def ascent(
  target: TargetNetwork,
  value: Callable[[Params, Weights, jax.Array], jax.Array],
  *,
  steps: int,
) -> Callable[..., Weights]:
  """(φ, one network, rate, λ) -> weights of a higher value - λ·balanced L1.

  Adam on the weights, from the balanced network: a metanetwork that predicts
  how good a network is as a differentiable objective. A step that is not finite
  ends the ascent where it was. Invariant if the value is.

  Args:
    target: the architecture.
    value: (φ, weights, activation) -> what is to grow, a scalar.
    steps: of Adam.
  """

  @jax.jit
  def climb(params, network, rate, l1):
    adam = optax.adam(rate)

    def loss(weights):
      found = value(params, weights, network.activation)
      norm = gauge.balanced_l1(target.spec, weights, network.activation)
      return l1 * norm - found

    def step(state, _):
      weights, inner = state
      updates, inner = adam.update(jax.grad(loss)(weights), inner, weights)
      new = (optax.apply_updates(weights, updates), inner)
      finite = jnp.isfinite(optax.tree.norm(new[0]))
      return jax.tree.map(
        lambda a, b: jnp.where(finite, a, b), new, state
      ), None

    even = gauge.balance(target.spec, network.weights, network.activation)
    return jax.lax.scan(step, (even, adam.init(even)), length=steps)[0][0]

  return climb
