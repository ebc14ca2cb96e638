"""The static graph: counts, ranges and ids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Space,
  Split,
  SymmetrySpec,
  TargetNetwork,
)
from scalegmn_jax.graph.batch.schema import architecture_graph
from scalegmn_jax.graph.topology import BOTH, topology_of
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.traced import trace
from tests.graph.traced import NAMES, at_edges, at_vertices, element, network
from tests.symmetry.trace.test_networks import conv


def with_kernels(sizes, kernels):
  """A target with these spaces and a kernel per (sender, receiver)."""
  spec = SymmetrySpec(
    {
      name: Space(n, ("scale",) if name.startswith("h") else ())
      for name, n in sizes.items()
    },
    {
      name: Axes((Axis(sender, -1), Axis(receiver, 1)))
      for name, (sender, receiver) in kernels.items()
    },
  )

  def init(key):
    return {
      name: jax.random.normal(key, (sizes[s], sizes[r]))
      for name, (s, r) in kernels.items()
    }

  return TargetNetwork(init, lambda *args: None, spec, (3,), ("relu",), {})


SKIPPING = with_kernels(
  {"out": 2, "h2": 5, "in": 3, "h1": 4},
  {
    "a": ("h2", "out"),
    "b": ("in", "h1"),
    "c": ("in", "out"),
    "d": ("h1", "h2"),
    "e": ("h1", "out"),
    "f": ("in", "h2"),
  },
)
"""All kinds of kernels, not in the order of the layers."""


def indices(part):
  return list(range(part.start, part.stop))


def assert_ranges_are_right(topology):
  hidden = np.zeros(topology.vertices, bool)
  for stage, vertices in topology.stages.items():
    sizes = [topology.spec.spaces[name].size for name in stage.spaces]
    assert vertices.stop - vertices.start == np.prod(sizes or stage.shape)
    fixed = [topology.spec.spaces[name].fixed for name in stage.spaces]
    hidden[vertices] = not all(fixed)
  assert indices(topology.hidden) == list(np.flatnonzero(hidden))
  # Edges into hidden vertices are one range, and so are edges out of them.
  for ends in (topology.receivers, topology.senders):
    rows = np.flatnonzero(hidden[ends])
    assert (np.diff(rows) == 1).all()
  tiled = [i for b in topology.blocks for i in indices(b.edges)]
  assert tiled == list(range(topology.edges))
  leaves = {x.leaf for x in (*topology.biases, *topology.blocks)}
  assert leaves == {*range(len(jax.tree.leaves(topology.shapes)))}


def test_small_cnn_of_the_zoo():
  topology = topology_of(cnn())
  assert (topology.vertices, topology.edges) == (59, 688)
  assert (topology.vertex_width, topology.edge_width) == (1, 9)
  assert np.unique(topology.vertex_type).tolist() == list(range(14))
  assert np.unique(topology.edge_type).tolist() == list(range(13))
  assert indices(topology.hidden) == list(range(1, 49))
  assert topology.groups.shape == (1, 59)
  assert_ranges_are_right(topology)


def test_ranges_cover_the_hidden_spaces(target):
  topology = topology_of(target)
  assert_ranges_are_right(topology)
  assert topology.groups.shape == (len(target.activations), topology.vertices)
  for name, vertices in topology.spaces.items():
    expected = target.spec.spaces[name].groups or [""] * len(topology.groups)
    assert (topology.groups[:, vertices].T == expected).all()
  n = topology.hidden
  assert (topology.groups[:, : n.start] == "").all()
  assert (topology.groups[:, n.stop :] == "").all()


def test_ranges_do_not_depend_on_the_order_of_the_weights():
  topology = topology_of(SKIPPING)
  assert_ranges_are_right(topology)
  ranks = [name[0] for name in topology.spaces]
  assert ranks == ["i", "h", "h", "o"]


def test_edges_connect_every_sender_with_every_receiver():
  topology = topology_of(mlp((2, 3, 1)))
  pairs = list(zip(topology.senders, topology.receivers, strict=True))
  assert pairs[:6] == [(i, j) for i in (0, 1) for j in (2, 3, 4)]
  assert pairs[6:] == [(2, 5), (3, 5), (4, 5)]
  assert topology.senders.dtype == topology.receivers.dtype == np.int32


def test_inputs_and_outputs_have_distinct_ids_and_hidden_neurons_do_not():
  topology = topology_of(mlp((2, 3, 3, 2)))
  assert topology.vertex_type.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 4, 5]
  assert topology.edge_type.tolist() == (
    [0, 0, 0, 1, 1, 1] + [2] * 9 + [3, 4] * 3
  )


def test_edges_from_inputs_to_outputs_have_an_id_per_pair():
  topology = topology_of(mlp((2, 3)))
  assert topology.edge_type.tolist() == list(range(6))
  assert indices(topology.hidden) == []


def test_ids_of_a_hidden_space_are_shared_by_its_writers(residual_mlp):
  topology = topology_of(residual_mlp)
  types = topology.vertex_type
  for name, vertices in topology.spaces.items():
    fixed = topology.spec.spaces[name].fixed
    assert np.unique(types[vertices]).size == (
      vertices.stop - vertices.start if fixed else 1
    )
  blocks = [set(topology.edge_type[b.edges]) for b in topology.blocks]
  assert [len(b) for b in blocks] == [3, 1, 1, 2]
  assert len(set.union(*blocks)) == 7


def test_biases_of_one_space_have_distinct_slots(residual_mlp):
  topology = topology_of(residual_mlp)
  assert topology.vertex_width == 2
  slots = [
    b.slot for b in topology.biases if b.vertices == topology.spaces["stream"]
  ]
  assert slots == [0, 1]


def one_weight(shape, *axes, groups=("scale",)):
  """A target with spaces in, h, heads, out of 2, 3, 4, 5 neurons; a kernel and
  a weight "w" with the given axes."""
  spec = SymmetrySpec(
    {
      "in": Space(2),
      "h": Space(3, groups),
      "heads": Space(4, groups),
      "out": Space(5),
    },
    {"k": Axes((Axis("in", -1), Axis("h", 1))), "w": Axes(axes)},
  )

  def init(key):
    del key
    return {"k": jnp.zeros((2, 3)), "w": jnp.zeros(shape)}

  return TargetNetwork(init, lambda *args: None, spec, (2,), ("relu",), {})


@pytest.mark.parametrize(
  ("target", "message"),
  [
    (
      one_weight((2, 4, 3), Axis("in", -1), Axis("heads", 1), Axis("h", 1)),
      r"weight w has 3 axes of powers \[-1, 1, 1\]",
    ),
    (
      one_weight((4, 3, 5), Axis("heads", -1), Axis("h", -1), Axis("out", 1)),
      r"weight w has 3 axes of powers \[-1, -1, 1\]",
    ),
    # The variance of BatchNorm, and a scalar temperature.
    (one_weight((3,), Axis("h", 2)), r"weight w has 1 axes of powers \[2\]"),
    (one_weight(()), r"weight w has 0 axes of powers \[\]"),
    (one_weight((3,), Axis("h", -1)), r"weight w has 1 axes of powers \[-1\]"),
    (
      one_weight((3, 7), Axis("h", 1), None),
      r"weight w has 2 axes of powers \[1\], expected a bias",
    ),
    (
      one_weight((6, 5), Split(((2, Axis("h", -1)),)), Axis("out", 1)),
      r"weight w: axis 0 is split \(2 x h\), expected one space",
    ),
  ],
)
def test_batches_of_architectures_refuse_other_weights_by_name(target, message):
  assert_ranges_are_right(topology_of(target))
  message = f"^batches of several architectures: {message}"
  with pytest.raises(InputError, match=message) as error:
    architecture_graph(target)
  assert "\n" not in str(error.value)


def test_plain_weights_are_not_refused(target):
  architecture_graph(target)


def test_a_space_without_a_group_for_each_activation_is_refused():
  target = one_weight((3,), Axis("h", 1), groups=("scale", "sign"))
  with pytest.raises(InputError, match="'h' has 2 groups, expected one for"):
    topology_of(target)


def convolutions(weights, x):
  """As `cnn` with average pooling, by `jax.lax`."""
  *layers, last = weights
  for layer in layers:
    x = jax.nn.relu(conv(x, layer["kernel"]) + layer["bias"])
  return x.mean((1, 2)) @ last["kernel"] + last["bias"]


@pytest.mark.parametrize(
  ("target", "apply"),
  [
    (mlp((3, 4, 5, 2)), mlp((3, 4, 5, 2)).apply),
    (cnn((8, 8, 2), (3, 4), 3, 1, "SAME", "average"), convolutions),
  ],
  ids=["mlp", "cnn"],
)
def test_a_traced_chain_has_the_graph_of_its_maker(target, apply):
  weights = target.init(jax.random.key(0))
  x = jnp.zeros((2, *target.input_shape))
  with jax.numpy_rank_promotion("allow"):
    traced = topology_of(trace(apply, weights, x, verify=False))
  ours = topology_of(target)
  assert list(ours.stages.values()) == list(traced.stages.values())
  for name in ("senders", "receivers", "vertex_type", "edge_type", "groups"):
    np.testing.assert_array_equal(getattr(ours, name), getattr(traced, name))
  assert ours.hidden == traced.hidden and ours.features == traced.features
  for a, b in zip(
    ours.biases + ours.blocks, traced.biases + traced.blocks, strict=True
  ):
    assert a.part.ends == b.part.ends and a.part.shape == b.part.shape
    assert a.leaf == b.leaf
  assert ours.ties == traced.ties == ()


@pytest.mark.parametrize("name", NAMES)
def test_ranges_and_ids_of_traced_networks(name):
  target, _ = network(name)
  topology = topology_of(target)
  assert_ranges_are_right(topology)
  types = topology.vertex_type, topology.edge_type
  for ids in types:
    assert np.unique(ids).tolist() == list(range(ids.max() + 1))
  # No permutation changes an id.
  order, _ = at_vertices(topology, element(target.spec, 0))
  np.testing.assert_array_equal(types[0][order], types[0])
  edges = at_edges(topology, order)
  np.testing.assert_array_equal(types[1][edges], types[1])
  np.testing.assert_array_equal(topology.groups[:, order], topology.groups)


def test_the_group_of_a_vertex_is_that_of_the_exponents_of_its_stage():
  topology = topology_of(network("resnet")[0])
  groups = {
    stage.powers: {*topology.groups[0, rows]}
    for stage, rows in topology.stages.items()
    if stage.spaces == ("k1[3]",)
  }
  assert groups == {((1, 0, 1),): {BOTH}, ((0, 1, 0),): {"scale"}}
  assert {*topology.permutation_only().groups.ravel()} == {"", "permutation"}


def test_neurons_that_keep_their_place_have_ids_of_their_own():
  topology = topology_of(network("rotary")[0])
  for stage, rows in topology.stages.items():
    if "q[1].2" in stage.spaces:
      types = topology.vertex_type[rows].reshape(-1, 2)
      assert len(np.unique(types)) == 2 and (types == types[0]).all()


def test_neurons_with_several_vertices_are_tied():
  topology = topology_of(network("fused_attention")[0])
  # The heads of queries, keys and values, and the dimensions of the first two.
  heads, dimensions = sorted(topology.ties, key=len, reverse=True)
  assert [tie[1:] for tie in heads] == [(1, 2, 3)] * 3
  assert [tie[1:] for tie in dimensions] == [(2, 3, 1)] * 2


def test_a_network_without_kernels_is_refused():
  spec = SymmetrySpec({"out": Space(2)}, {"b": Axes((Axis("out", 1),))})
  target = TargetNetwork(
    lambda key: {"b": jnp.zeros(2)}, lambda *args: None, spec, (1,), (), {}
  )
  with pytest.raises(InputError, match="expected a kernel"):
    topology_of(target)


def test_weights_that_do_not_fit_their_spec_are_refused():
  target = mlp((2, 3, 1))
  wrong = target._replace(init=mlp((2, 4, 1)).init)
  with pytest.raises(InputError, match="'hidden_1' has 3 neurons"):
    topology_of(wrong)


def test_shapes_are_the_shapes_of_the_weights(target):
  shapes = topology_of(target).shapes
  assert shapes == jax.eval_shape(target.init, jax.random.key(0))
  assert jax.tree.leaves(shapes)[0].dtype == jnp.float32
