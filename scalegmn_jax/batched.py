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
"""Default numbers of networks per device and compiled call."""

_CPU_BATCH_BYTES = 1 << 24
"""Networks that are computed one by one fill a block of this size at most, as
places without a network take memory too; a block has at least one network."""


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


def _map_first(
  f: Callable[..., Any], stacked: Any, shared: Any, rounds: jax.Array
) -> Any:
  """Maps f over the first networks of each device, one after another.

  Args:
    f: (shared, network) -> a pytree.
    stacked: a pytree with leaves [B, ...].
    shared: a pytree that all networks share.
    rounds: the number of networks per device, a traced integer.

  Returns:
    The results of f with leaves [B, ...]; zeros for the other networks.
  """

  def of_shard(stacked, shared_and_rounds):
    shared, rounds = shared_and_rounds

    @functools.partial(jax.jit, inline=True)  # traced once
    def one(stacked, i):
      item = jax.tree.map(
        lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), stacked
      )
      return f(shared, as_network(item))

    count = jax.tree.leaves(stacked)[0].shape[0]
    results = jax.tree.map(
      lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype),
      jax.eval_shape(one, stacked, rounds),
    )

    def update(i, results):
      return jax.tree.map(
        lambda a, new: jax.lax.dynamic_update_index_in_dim(a, new, i, 0),
        results, one(stacked, i),
      )  # fmt: skip

    return jax.lax.fori_loop(0, rounds, update, results)

  return devices.map_shards(of_shard, stacked, shared=(shared, rounds))


def apply_batched(
  f: Callable[..., Any],
  *,
  batch_size: int | None = None,
  in_turn: bool | None = None,
) -> Callable[..., Any]:
  """Compiles f for batches of networks and loops over the batches.

  Args:
    f: (shared, network) -> a pytree. `network` is a `Network`, or any pytree
      without its axis [B].
    batch_size: networks per device and call of the compiled program; None for
      a default that is fast on the device.
    in_turn: whether each device computes one network after another; None for
      what is fast on the device, one after another on a CPU. One program then
      serves any number of networks. Side by side, each number of networks
      below the batch size has a program of its own, and memory grows with it.

  Returns:
    (shared, networks with leaves [B, ...]) -> the results with leaves
    [B, ...]. Networks are sent to the device one batch at a time.
  """
  if in_turn is None:
    in_turn = jax.default_backend() == "cpu"
  default = CPU_BATCH if in_turn else ACCELERATOR_BATCH

  @jax.jit
  def compiled(shared, stacked, rounds):
    count = jax.tree.leaves(stacked)[0].shape[0]
    alone = count <= devices.shards()
    if in_turn and not alone:
      return _map_first(f, stacked, shared, rounds)
    # A vmap over one network is slow on any device.
    return map_networks(
      lambda item, shared: f(shared, item),
      stacked,
      shared=(shared,),
      vmap_size=1 if alone else None,
    )

  def apply(shared, stacked):
    leaves, shards = jax.tree.leaves(stacked), devices.shards()
    count = leaves[0].shape[0]
    per_device = batch_size or default
    if in_turn and not batch_size:
      each = sum(leaf.nbytes for leaf in leaves) // max(count, 1)
      per_device = max(1, min(per_device, _CPU_BATCH_BYTES // max(each, 1)))
    size = per_device * shards
    if count in (0, size) or (count < size and not in_turn):
      return compiled(shared, stacked, per_device)
    shared, stacked = devices.replicate(shared), jax.device_get(stacked)
    parts = []
    for start in range(0, count, size):
      end = min(start + size, count)
      if in_turn:
        # Neighbours are on different devices, which have as many to compute.
        places = np.arange(size).reshape(per_device, shards).T.ravel()
        rows = np.minimum(start + places, count - 1)
        kept = np.argsort(places)[: end - start]
      else:
        # The last batch overlaps the one before: all have the same shape.
        rows = np.arange(end - size, end)
        kept = start - rows[0] + np.arange(end - start)
      rounds = -(-(end - start) // shards)
      part = compiled(shared, _take(stacked, rows), rounds)
      parts.append(jax.tree.map(lambda a, k=kept: np.asarray(a)[k], part))
    # `jnp.asarray` would compile a program per shape.
    return jax.device_put(jax.tree.map(lambda *a: np.concatenate(a), *parts))

  return apply


def _take(stacked: Any, rows: Any) -> Any:
  """Rows of leaves in host memory, without a program for each of them."""

  def take(leaf):
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return np.asarray(leaf)[rows]
    data = jax.device_put(np.asarray(jax.random.key_data(leaf))[rows])
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

  return jax.tree.map(take, stacked)


CALL_SECONDS = 4.0
"""Seconds between two safe points of `update_in_turn`, at most."""


def update_in_turn(f: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles an update of one network and applies it to many, one by one.

  The host can stop every few seconds. The bits do not depend on where it stops,
  nor on the number of networks. Each device of `devices.spread` updates its
  share.

  Args:
    f: (item, network, *shared) -> the item, updated. `item` and `network` are
      pytrees without the axis [B]; a `Networks` becomes a `Network`.

  Returns:
    (items, networks, *shared, done, on_call) -> the items, updated; leaves
    [B, ...]. The first `done` of them are left as they are. `on_call(items,
    done)` is called whenever more are.
  """
  apply = apply_batched(lambda shared, item: f(*item, *shared), in_turn=True)

  def run(items, networks, *shared, done=0, on_call=lambda items, done: None):
    total = jax.tree.leaves(items)[0].shape[0]
    shared, size = devices.replicate(shared), devices.shards()
    while done < total:
      start, end = time.monotonic(), min(done + size, total)
      some = _take((items, networks), slice(done, end))
      items = jax.tree.map(
        lambda a, new, b=done, e=end: np.concatenate(
          [np.asarray(a)[:b], new, np.asarray(a)[e:]]
        ),
        items, apply(shared, some),
      )  # fmt: skip
      seconds = time.monotonic() - start
      each = processes.first(lambda s=seconds: s) / (end - done)
      # A multiple of the number of devices.
      size = max(1, int(CALL_SECONDS / each / devices.shards()))
      done, size = end, size * devices.shards()
      on_call(items, done)
    return jax.device_put(items)

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
