"""Sizes of vertices carry their multipliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.graph import convert
from scalegmn_jax.graph.sizes import carriers, vertex_sizes
from scalegmn_jax.graph.topology import topology_of
from scalegmn_jax.symmetry import actions, gauge
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.mlp import mlp
from tests.graph.traced import (
  NAMES,
  at_vertices,
  element,
  network,
  with_dead_neurons,
)

RELU, TANH = 0, 2
"""Indices among the activations of the fixture `kind`."""

MLP = mlp((3, 8, 9, 2))


def connected(topology, graph):
  """[V], whether a vertex has weights on which its multiplier acts."""
  used = (np.asarray(graph.nodes) != 0).any(1)
  edges = (np.asarray(graph.edges) != 0).any(1)
  edges &= topology.senders != topology.receivers
  used[topology.senders[edges]] = True
  used[topology.receivers[edges]] = True
  return used


def assert_sizes_carry_multipliers(target, cases, tolerance=1e-12):
  """`cases`: {name: (weights, group element)}."""
  topology = topology_of(target)

  @jax.jit
  def sizes_of(weights):
    return vertex_sizes(topology, weights), convert.to_graph(topology, weights)

  for case, (weights, g) in cases.items():
    weights, g = jax.tree.map(np.asarray, (weights, g))
    sizes, graph = jax.device_get(sizes_of(weights))
    assert (sizes > 0).all() and np.isfinite(sizes).all(), case
    order, q = at_vertices(topology, g)
    fixed = np.ones(topology.vertices, bool)
    fixed[topology.hidden] = False
    assert (sizes[fixed] == 1).all()
    # The size of a vertex without any weight is arbitrary.
    used = connected(topology, graph)[order]
    assert used.any()
    at_g, _ = jax.device_get(sizes_of(actions.act(g, target.spec, weights)))
    expected = (np.abs(q) * sizes[order])[used]
    np.testing.assert_allclose(at_g[used], expected, tolerance, err_msg=case)


def without_inputs(spec, name, weights, neuron):
  """Removes the incoming weights of one neuron."""

  def clear(weight, axes):
    end = axes.find(1)
    if end and end[1] == name:
      index = (slice(None),) * end[0] + (neuron,)
      weight[index] = 0
    return weight

  weights = jax.tree.map(np.array, weights)
  return jax.tree.map(clear, weights, spec.axes)


def test_sizes_carry_multipliers(x64, kind, random_weights):
  cases = {}
  for group, activation in (("scale", RELU), ("sign", TANH)):
    for dead in (True, False):
      rng = np.random.default_rng(activation + dead)
      cases[f"{group}, dead neurons {dead}"] = (
        random_weights(kind, 1, dead),
        actions.sample_on_host(rng, kind.spec, activation, decades=2),
      )
  assert_sizes_carry_multipliers(kind, cases)


def test_sizes_carry_multipliers_of_chains_of_dead_neurons(x64, random_weights):
  """Neuron 1 of the first layer receives nothing, neuron 3 sends nothing."""
  g = actions.sample_on_host(np.random.default_rng(0), MLP.spec, decades=2)
  cases = {}
  for case, neuron in (("goes on", 4), ("ends", 2)):
    weights = random_weights(MLP, 2)
    weights = without_inputs(MLP.spec, "hidden_2", weights, neuron)
    weights[1]["kernel"][1, neuron] = 1.5
    cases[f"fed by a dead neuron alone, {case}"] = weights, g
  assert_sizes_carry_multipliers(MLP, cases)


def test_sizes_carry_multipliers_of_dead_neurons_at_a_skip(
  x64, residual_mlp, random_weights
):
  spec, weights = residual_mlp.spec, random_weights(residual_mlp, 3)
  inner_writes = without_inputs(spec, "stream", weights, 4)
  inner_writes["c"]["kernel"] = weights["c"]["kernel"]
  and_ends = jax.tree.map(np.array, inner_writes)
  for layer in ("b", "d"):
    and_ends[layer]["kernel"][4] = 0
  g = actions.sample_on_host(np.random.default_rng(0), spec, decades=2)
  assert_sizes_carry_multipliers(
    residual_mlp,
    {
      "only the inner layer writes": (inner_writes, g),
      "only the inner layer writes, nothing reads": (and_ends, g),
      "a dead inner neuron feeds dead ones": (
        without_inputs(spec, "inner", weights, 4),
        g,
      ),
    },
  )


def test_sizes_carry_multipliers_that_float32_cannot_square(random_weights):
  q = np.array([1e-25, 1e-22, 1, 1e22, 1e-25, 1, 1e-22, 1], np.float32)
  g = {
    "hidden_1": actions.Element(np.arange(8), q),
    "hidden_2": actions.Element(np.arange(9), np.full(9, 1e-23, np.float32)),
  }
  cases = {"tiny and huge": (random_weights(MLP, 4), g)}
  assert_sizes_carry_multipliers(MLP, cases, 1e-5)


def test_incoming_norm_is_one_after_normalization(x64, kind, random_weights):
  topology = topology_of(kind)

  @jax.jit
  def normalize(weights):
    values = vertex_sizes(topology, weights)
    sizes = {name: values[rows] for name, rows in topology.spaces.items()}
    inverse = {name: 1 / s for name, s in sizes.items()}
    return gauge.scale_axes(kind.spec, weights, inverse, sizes)

  weights = normalize(random_weights(kind, 5, dead=False))
  hidden = [name for name, s in kind.spec.spaces.items() if not s.fixed]
  squares = dict.fromkeys(hidden, 0.0)
  for name, weight, axes in specs.leaves(kind.spec, weights):
    position, receiver = axes.find(1)
    # In a space with several writers, the first kernel and all biases count.
    if receiver in squares and name != "c/kernel":
      other = tuple(i for i in range(weight.ndim) if i != position)
      squares[receiver] += np.square(weight).sum(other)
  for square in squares.values():
    np.testing.assert_allclose(square, 1, 1e-12)


def test_gradients_are_finite_with_dead_neurons(x64, kind, random_weights):
  topology = topology_of(kind)

  @jax.jit
  def gradient(weights):
    return jax.grad(lambda w: jnp.log(vertex_sizes(topology, w)).sum())(weights)

  for name, value, _ in specs.leaves(
    kind.spec, gradient(random_weights(kind, 6))
  ):
    assert np.isfinite(value).all(), name


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_traced_networks(x64, name):
  target, weights = network(name)
  g = element(target.spec, 2)
  assert_sizes_carry_multipliers(
    target,
    {
      "random": (weights, g),
      "dead neurons": (with_dead_neurons(target, weights), g),
    },
  )


def test_a_stage_is_sized_by_a_layer_that_is_computed_before_it(x64):
  """The stream of a residual network by its stem, not by its blocks."""
  target, weights = network("resnet")
  topology = topology_of(target)
  sizes = jax.jit(lambda w: vertex_sizes(topology, w))(weights)
  (rows,) = (
    rows
    for stage, rows in topology.stages.items()
    if stage.spaces == ("k2[3]",) and stage.powers == ((0, 1, 0),)
  )
  square = (weights["stem"] ** 2).sum((0, 1, 2)) + weights["n2"]["bias"] ** 2
  np.testing.assert_allclose(sizes[rows] ** 2, square, 1e-12)


def terms(name, group, spaces):
  """[(axes, {powers: exponent})] of the stages of some spaces, in order."""
  found = carriers(topology_of(network(name)[0]), group)
  return [
    (carrier.axes, {s.powers: p for s, p in carrier.terms.items()})
    for stage, carrier in found.items()
    if stage.spaces == spaces
  ]


def test_multipliers_of_stages_depend_on_each_other(x64):
  gate, branch = ((1, 0, 1, 0),), ((0, 1, 0, 1),)
  for group in ("scale", "sign"):
    # The branches of a product, and the product.
    assert terms("gated", group, ("in/3[1]",)) == [
      ((0,), {gate: 1}),
      ((0,), {branch: 1}),
      ((0,), {gate: 1, branch: 1}),
    ]
    # Keys and queries.
    (_, first), (axes, second) = terms("vit", group, ("k[1]", "k[2]"))
    (stage,) = first
    assert axes == (0, 1)
    assert second == {stage: -1 if group == "scale" else 1}
  # Before a normalization of groups, channels have the sign of their group.
  (stage,) = terms("group_norm", "sign", ("k1[3].0", "k1[3].1"))
  assert stage == ((0,), {((0, 1), (0,)): 1})
