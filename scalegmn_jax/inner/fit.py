"""Minibatch training of many target networks, each with its own settings.

Zoo generation and the fine-tuning baselines use this trainer.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scalegmn_jax import batched, devices
from scalegmn_jax.base import Network, Networks, Weights
from scalegmn_jax.inner import objective
from scalegmn_jax.partial import NOTHING, Partial, Result

Hyper = Any
"""A pytree of settings with leaves [B, ...]; without the axis [B] inside a
function of one network."""


class LossFn(Protocol):
  """The training loss of one network, and its weights.

  The weights are those of the network, except for running statistics, which
  may have moved, see `TargetNetwork.train`.
  """

  def __call__(
    self,
    network: Network,
    images: jax.Array,
    labels: jax.Array,
    hyper: Hyper,
    key: jax.Array,
    /,
  ) -> tuple[jax.Array, Weights]:
    """(network, images [N, ...], labels [N], settings, key) -> (scalar,
    weights)."""
    ...


class FitState(NamedTuple):
  """Networks in training.

  Attributes:
    weights: leaves [B, ...].
    optimizer: the optimizer state of each network, leaves [B, ...].
  """

  weights: Weights
  optimizer: optax.OptState


class Fit(NamedTuple):
  """A trainer of B networks: a pair of functions.

  Attributes:
    init: (weights [B, ...], hyper) -> `FitState`.
    epoch: (state, hyper, networks, keys [B], images [N, ...], labels [N], done,
      on_call) -> `FitState` after one pass over the images, or several; the key
      of each network decides the order. `networks` gives the activation, the
      labels and the teacher of each network; the weights come from `state`.
      Images and labels are shared by all networks. If networks have different
      classes, the network with the most images sets the number of steps. `done`
      networks have had this epoch already (default 0), and `on_call(state,
      done)` is called whenever more have; networks side by side have it at
      once.
  """

  init: Callable[..., FitState]
  epoch: Callable[..., FitState]


def fit(
  loss: LossFn,
  optimizer: Callable[[Hyper], optax.GradientTransformation],
  *,
  batch_size: int,
  fraction: Callable[[Hyper], jax.Array] | None = None,
  vmap_size: int | None = None,
  passes: int = 1,
  stop: float | None = None,
) -> Fit:
  """Makes a trainer of many networks.

  A step whose result is not finite leaves the network and its optimizer
  unchanged: a diverging run keeps its last finite weights.

  Args:
    loss: the loss of one network.
    optimizer: settings of one network -> its optimizer. Settings may be traced;
      their effect must not change shapes.
    batch_size: images per step. Images that do not fill a last batch are left
      out of the epoch.
    fraction: settings of one network -> share of the images that it is trained
      on, the first ones; None for all. The number of steps per epoch does not
      depend on it.
    vmap_size: networks trained side by side, None for all. On a CPU, 1 is twice
      as fast where a step has many images: the features of one network stay in
      the cache.
    passes: passes over the images that `Fit.epoch` makes, one by default. More
      save the time between calls where a pass is a few steps; results round
      differently.
    stop: a step that finds a loss of at most this leaves the network unchanged.
      With all images in one step, such a network has stopped for good. None:
      no network stops.
  """

  def init(weights, hyper):
    def init_one(w, h):
      return FitState(w, optimizer(h).init(w))

    return batched.map_networks(init_one, weights, hyper, vmap_size=None)

  def step(network, state, hyper, images, labels, key):
    """One step of one network; `network` has the weights of `state`."""

    def loss_of(weights):
      return loss(network._replace(weights=weights), images, labels, hyper, key)

    (value, moved), gradient = jax.value_and_grad(loss_of, has_aux=True)(
      state.weights
    )
    updates, inner = optimizer(hyper).update(
      gradient, state.optimizer, state.weights
    )
    new = FitState(optax.apply_updates(moved, updates), inner)
    moves = jnp.isfinite(optax.tree.norm(new.weights))
    if stop is not None:
      moves &= value > stop
    return jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, state)

  def epoch_of_one(count, network, state, hyper, key, images, labels):
    """All passes of one network over the first `count` of its images."""
    if passes == 1:
      return pass_of_one(count, network, state, hyper, key, images, labels)

    def scanned(state, i):
      own = jax.random.fold_in(key, i)
      state = pass_of_one(count, network, state, hyper, own, images, labels)
      return state, None

    return jax.lax.scan(scanned, state, jnp.arange(passes))[0]

  def pass_of_one(count, network, state, hyper, key, images, labels):
    """One pass of one network over the first `count` of its images."""
    steps = max(count // batch_size, 1)
    k_order, k_loss = jax.random.split(key)
    rows = None
    # The order of the images within a single batch has no effect.
    ordered = batch_size < count or network.class_to_output is not None
    if ordered or fraction is not None:
      share = None if fraction is None else fraction(hyper)
      order = jax.random.permutation(k_order, count)[: steps * batch_size]
      order = _image_rows(order, network, labels, count, share)
      rows = order.reshape(steps, -1)

    def scanned(state, inputs):
      rows, i = inputs
      x = images if rows is None else images[rows]
      y = labels if rows is None else labels[rows]
      key = jax.random.fold_in(k_loss, i)
      return step(network, state, hyper, x, y, key), None

    return jax.lax.scan(scanned, state, (rows, jnp.arange(steps)))[0]

  @functools.cache
  def in_turn(count):
    def update(state, inputs, images, labels):
      network, hyper, key = inputs
      network = network._replace(weights=state.weights)
      return epoch_of_one(count, network, state, hyper, key, images, labels)

    return batched.update_in_turn(update)

  @functools.partial(jax.jit, static_argnums=6)
  def side_by_side(state, hyper, networks, keys, images, labels, count):
    return batched.map_networks(
      functools.partial(epoch_of_one, count),
      networks,
      state,
      hyper,
      keys,
      shared=(images, labels),
      vmap_size=vmap_size,
    )

  def epoch(
    state, hyper, networks, keys, images, labels, *, done=0, on_call=_no_call
  ):
    count = _max_images(networks, labels)
    if vmap_size == 1:
      inputs = networks._replace(weights=None), hyper, keys
      return in_turn(count)(
        state, inputs, images, labels, done=done, on_call=on_call
      )
    networks = networks._replace(weights=state.weights)
    state = side_by_side(state, hyper, networks, keys, images, labels, count)
    on_call(jax.block_until_ready(state), networks.size)
    return state

  return Fit(init, epoch)


def run_epochs(
  trainer: Fit,
  state: FitState,
  hyper: Hyper,
  networks: Networks,
  keys: Callable[[int], jax.Array],
  data: tuple[jax.Array, jax.Array],
  ends: Sequence[int],
  *,
  partial: Partial = NOTHING,
  on_epoch: Callable[[], Any] = lambda: None,
) -> dict[int, Weights]:
  """Trains networks for several epochs and keeps their weights after some.

  Args:
    trainer: see `fit`.
    state: before the first epoch.
    hyper: settings, leaves [B, ...].
    networks: see `Fit.epoch`.
    keys: number of an epoch, from 1 -> keys [B].
    data: (images [N, ...], labels [N]).
    ends: numbers of epochs after which weights are kept; 0 for the initial
      ones.
    partial: keeps the state now and then, and the result.
    on_epoch: called after every epoch.

  Returns:
    {epochs: weights [B, ...]}, in ascending order.

  Raises:
    Interrupted: `on_epoch` or `partial.check` raised it.
  """
  ends = sorted(ends)
  kept: dict[int, Weights] = {0: state.weights} if 0 in ends else {}
  first, done = 1, 0
  found = partial.load(_STATE)
  if found is not None:
    first, done = found.values["epoch"], found.values["done"]
    kept = {
      end: _from_arrays(found.arrays, f"weights.{end}", state.weights)
      for end in found.values["kept"]
    }
    state = _from_arrays(found.arrays, "state", state)
    for _ in range(1, first):
      on_epoch()

  def result(epoch: int, done: int, state: FitState) -> Result:
    arrays = _to_arrays("state", state)
    for end, weights in kept.items():
      arrays |= _to_arrays(f"weights.{end}", weights)
    return Result(arrays, {"epoch": epoch, "done": done, "kept": list(kept)})

  for epoch in range(first, ends[-1] + 1):

    def on_call(state, done, epoch=epoch):
      partial.safe_point(_STATE, lambda: result(epoch, done, state))

    if done < networks.size:
      state = trainer.epoch(
        state, hyper, networks, keys(epoch), *data, done=done, on_call=on_call
      )
    done = 0
    if epoch in ends:
      kept[epoch] = state.weights
    on_epoch()
  if first <= ends[-1]:
    partial.save(_STATE, result(ends[-1] + 1, 0, state))
  return kept


_STATE = "state"


def _to_arrays(name: str, tree: Any) -> dict[str, np.ndarray]:
  leaves = enumerate(jax.tree.leaves(jax.device_get(tree)))
  return {f"{name}.{i}": leaf for i, leaf in leaves}


def _from_arrays(
  arrays: Mapping[str, np.ndarray], name: str, template: Any
) -> Any:
  leaves, structure = jax.tree.flatten(template)
  found = [arrays[f"{name}.{i}"] for i in range(len(leaves))]
  return devices.replicate(jax.tree.unflatten(structure, found))


def _no_call(state: FitState, done: int) -> None:
  del state, done


def _max_images(networks: Networks, labels: jax.Array) -> int:
  """The number of images of the network that has the most."""
  if networks.class_to_output is None:
    return labels.shape[0]
  classes = np.asarray(networks.class_to_output)
  images_per_class = np.bincount(np.asarray(labels), minlength=classes.shape[1])
  return int(((classes >= 0) @ images_per_class).max())


def _image_rows(
  order: jax.Array,
  network: Network,
  labels: jax.Array,
  count: int,
  share: jax.Array | None,
) -> jax.Array:
  """Image rows [M] of positions [M] among the images of one network.

  Args:
    order: positions, each in [0, count).
    network: only images of its classes are used.
    labels: [N], classes of the image set.
    count: the number of images if the network has all classes.
    share: share of the images to be used, the first ones; None for all.
  """
  if network.class_to_output is not None:
    has_class = objective.output_labels(network, labels) >= 0
    first = jnp.argsort(~has_class, stable=True)
    used = (1.0 if share is None else share) * has_class.sum()
    used = jnp.floor(used).astype(int)
    return first[order % jnp.maximum(used, 1)]
  if share is not None:
    used = jnp.floor(share * count).astype(int)
    return order % jnp.maximum(used, 1)
  return order
