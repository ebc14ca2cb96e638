"""Traced targets of all kinds for tests of graphs and metanetworks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import scalegmn_jax as sg
from scalegmn_jax.symmetry import actions
from tests.symmetry.trace import test_networks

NAMES = tuple(test_networks.NETWORKS)


@functools.cache
def network(name):
  """(target, weights in float64) of a network of `test_networks`."""
  apply, params, inputs, _ = test_networks.draw(name)
  # Functions of users add vectors to arrays of a higher rank.
  with jax.numpy_rank_promotion("allow"):
    target = sg.trace(
      apply, params, inputs, statistics=("mean", "var"), verify=False
    )

  def init(key):
    del key
    return jax.tree.map(lambda w: jnp.zeros(w.shape), params)

  return target._replace(init=init), params


def element(spec, seed, decades=1.0):
  """A random element of the whole group, on the host."""
  rng = np.random.default_rng(seed)
  return actions.sample_on_host(rng, spec, decades=decades)


def at_vertices(topology, g):
  """(order [V], q [V]) of a group element: new vertex i is old vertex order[i],
  multiplied by q[i]."""
  order = np.arange(topology.vertices)
  multiplier = np.ones(topology.vertices)
  for stage, rows in topology.stages.items():
    index = np.arange(stage.size).reshape(stage.shape or -1)
    q = np.ones(index.shape)
    for i, (name, powers) in enumerate(
      zip(stage.spaces, stage.powers, strict=True)
    ):
      if name not in g:
        continue
      permutation, qs = g[name]
      index = index.take(permutation, axis=i)
      factor = np.ones(len(permutation))
      qs = qs if np.ndim(qs) > 1 else np.asarray(qs)[None]
      for power, multipliers in zip(powers, qs, strict=False):
        if power:
          factor = factor * multipliers ** (
            power if isinstance(power, int) else float(power)
          )
      shape = [1] * q.ndim
      shape[i] = -1
      q = q * factor.reshape(shape)
    order[rows] = rows.start + index.ravel()
    multiplier[rows] = q.ravel()
  return order, multiplier


def at_edges(topology, order):
  """[E], new edge e is old edge result[e], for an order of the vertices."""
  result = np.empty(topology.edges, int)
  for block in topology.blocks:
    old = topology.senders[block.edges], topology.receivers[block.edges]
    number = {pair: e for e, pair in enumerate(zip(*old, strict=True))}
    new = zip(order[old[0]], order[old[1]], strict=True)
    result[block.edges] = block.edges.start + np.array([number[p] for p in new])
  return result


def with_dead_neurons(target, weights):
  """Weights in which each hidden neuron 0 has no weights of its own, and each
  hidden neuron 1 is scaled by 0, as by the γ of a normalization."""

  def clear(weight, axes):
    weight = np.array(weight)
    for position, axis in enumerate(axes.axes):
      if isinstance(axis, sg.Axis) and not target.spec.spaces[axis.space].fixed:
        along = np.moveaxis(weight, position, 0)
        along[0] = 0
        if axis.role == "scales":
          along[1] = 0
    return weight

  return jax.tree.map(clear, weights, target.spec.axes)
