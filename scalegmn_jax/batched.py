"""Functions of one network, mapped over many: the only place that maps."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import devices, processes
from scalegmn_jax.base import (
  Functional,
  Network,
  Networks,
  Operator,
  Params,
  Weights,
)

EditFn = Callable[[Params, Networks], Networks]
"""(φ, networks) -> edited networks."""

ReadFn = Callable[[Params, Networks], jax.Array]
"""(φ, networks) -> [B, K]."""

CPU_BATCH, ACCELERATOR_BATCH = 16, 64
"""Default numbers of networks per compiled call. Each smaller number of
networks compiles one more program."""


def as_network(tree: Any) -> Any:
  """The same pytree with every `Networks` as a `Network`."""
  return jax.tree.map(
    lambda node: Network(*node) if isinstance(node, Networks) else node,
    tree,
    is_leaf=lambda node: isinstance(node, Networks),
  )


def map_networks(
  f: Callable[..., Any],
  *stacked: Any,
  shared: tuple[Any, ...] = (),
  vmap_size: int | None = 1,
) -> Any:
  """Maps f over networks; to be called inside `jax.jit`.

  Networks are spread over the devices of `devices.spread`.

  Args:
    f: (*arguments without the axis [B], *shared) -> a pytree; a `Networks`
      becomes a `Network`. It must not close over traced arrays: on several
      devices, each has its own program.
    *stacked: pytrees with leaves [B, ...].
    shared: pytrees that all networks share, such as images.
    vmap_size: networks that a device computes side by side by `vmap`; None for
      all. With 1, networks are computed one after another: memory does not grow
      with B, and on a CPU the features of one network stay in the cache.

  Returns:
    The results of f with leaves [B, ...].
  """

  def of_shard(*stacked_and_shared):
    *stacked, shared = stacked_and_shared

    def one(items):
      return f(*as_network(items), *shared)

    stacked = tuple(stacked)
    if vmap_size is None:
      return jax.vmap(one)(stacked)
    # A batch size of 1 would add a vmap over an axis of one.
    batch_size = vmap_size if vmap_size > 1 else None
    return jax.lax.map(one, stacked, batch_size=batch_size)

  return devices.map_shards(of_shard, *stacked, shared=shared)


def apply_batched(
  f: Callable[..., Any], *, batch_size: int | None = None
) -> Callable[..., Any]:
  """Compiles f for batches of networks and loops over the batches.

  Args:
    f: (shared, network) -> a pytree. `network` is a `Network`, or any pytree
      without its axis [B].
    batch_size: networks per device and call of the compiled program; None for
      a default that is fast on the device. With 1, one program serves any
      number of networks.

  Returns:
    (shared, networks with leaves [B, ...]) -> the results with leaves
    [B, ...]. Networks are sent to the device one batch at a time.
  """
  cpu = jax.default_backend() == "cpu"
  per_device = batch_size or (CPU_BATCH if cpu else ACCELERATOR_BATCH)

  @jax.jit
  def compiled(shared, stacked):
    count = jax.tree.leaves(stacked)[0].shape[0]
    # One network at a time is as fast on a CPU, and a vmap over one network is
    # slow on any device.
    vmap_size = 1 if cpu or count <= devices.shards() else None
    return map_networks(
      lambda item, shared: f(shared, item),
      stacked,
      shared=(shared,),
      vmap_size=vmap_size,
    )

  def apply(shared, stacked):
    count = jax.tree.leaves(stacked)[0].shape[0]
    size = per_device * devices.shards()
    if count <= size:
      return compiled(shared, stacked)
    host = jax.device_get(stacked)
    shared = devices.replicate(shared)
    parts = []
    for start in range(0, count, size):
      # The last batch overlaps the one before: all have the same shape.
      begin = min(start, count - size)
      batch = jax.tree.map(lambda a, b=begin: a[b : b + size], host)
      part = compiled(shared, jax.device_put(batch))
      parts.append(jax.tree.map(lambda a, b=start - begin: a[b:], part))
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)

  return apply


CALL_SECONDS = 4.0
"""Seconds that a call of a program of `update_in_turn` should take."""


def update_in_turn(f: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles an update of one network and applies it to many, one by one.

  A call of the program updates as many networks as take a few seconds, so that
  the host can stop in between. The bits do not depend on where it stops. Each
  device of `devices.spread` updates its share, one network at a time.

  Args:
    f: (item, network, *shared) -> the item, updated. `item` and `network` are
      pytrees without the axis [B]; a `Networks` becomes a `Network`.

  Returns:
    (items, networks, *shared, done, on_call) -> the items, updated; leaves
    [B, ...]. The first `done` of them are left as they are. `on_call(items,
    done)` is called after each call of the program.
  """

  def of_shard(count, items, networks, index, shared_and_ends):
    """Updates the items of one of `count` devices, of index begin to end."""
    shared, begin, end = shared_and_ends

    def update(i, items):
      item, network = as_network(
        jax.tree.map(lambda a: a[i], (items, networks))
      )
      inside = (begin <= index[i]) & (index[i] < end)
      return jax.tree.map(
        lambda a, old, new: a.at[i].set(jnp.where(inside, new, old)),
        items, item, f(item, network, *shared),
      )  # fmt: skip

    return jax.lax.fori_loop(begin // count, -(-end // count), update, items)

  @jax.jit
  def compiled(items, networks, shared, begin, end):
    total, count = jax.tree.leaves(items)[0].shape[0], devices.shards()
    args = shared, begin, end
    if count == 1:
      return of_shard(1, items, networks, jnp.arange(total), args)
    # Neighbours are on different devices: the first ones are done first.
    rounds = -(-total // count)
    index = np.arange(rounds * count).reshape(rounds, count).T.ravel()
    place = np.argsort(index)[:total]
    items, networks = jax.tree.map(
      lambda a: a[np.minimum(index, total - 1)], (items, networks)
    )
    updated = devices.map_shards(
      functools.partial(of_shard, count), items, networks, jnp.asarray(index),
      shared=args,
    )  # fmt: skip
    return jax.tree.map(lambda a: a[place], updated)

  def run(items, networks, *shared, done=0, on_call=lambda items, done: None):
    total = jax.tree.leaves(items)[0].shape[0]
    size = devices.shards()
    while done < total:
      start, end = time.monotonic(), min(done + size, total)
      items = jax.block_until_ready(
        compiled(items, networks, shared, done, end)
      )
      seconds = time.monotonic() - start
      each = processes.first(lambda s=seconds: s) / (end - done)
      # A multiple of the number of devices.
      size = max(1, int(CALL_SECONDS / each / devices.shards()))
      done, size = end, size * devices.shards()
      on_call(items, done)
    return items

  return run


def edit_networks(operator: Operator) -> EditFn:
  """Maps an operator over any number of networks, see `apply_batched`.

  The result is equivariant in each network.
  """

  def edit(params: Params, network: Network) -> Weights:
    return operator.apply(params, network.weights, network.activation)

  apply = apply_batched(edit)

  def edit_all(params, networks):
    inputs = Networks(networks.weights, networks.activation)
    return networks._replace(weights=apply(params, inputs))

  return edit_all


def read_networks(functional: Functional) -> ReadFn:
  """Maps a functional over any number of networks, see `apply_batched`.

  The result is invariant in each network.
  """

  def read(params: Params, network: Network) -> jax.Array:
    return functional.apply(params, network.weights, network.activation)

  return apply_batched(read)
