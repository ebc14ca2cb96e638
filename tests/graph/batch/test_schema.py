"""Ids and slots that several architectures share."""

import jax
import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.graph import topology
from scalegmn_jax.graph.batch.schema import architecture_graph, schema_of
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.resnet import resnet


def test_one_architecture_has_the_ids_of_its_topology():
  for target in (mlp((3, 4, 5, 2)), cnn((8, 8, 2), (3, 4), classes=3)):
    graph = topology.topology_of(target)
    one = architecture_graph(target)
    schema = schema_of([one])
    np.testing.assert_array_equal(one.vertex_type(schema), graph.vertex_type)
    np.testing.assert_array_equal(one.edge_type(schema), graph.edge_type)
    assert schema.features == graph.features
    assert schema.group == "scale"


def test_ids_have_one_meaning_in_all_architectures(several):
  architectures = [architecture_graph(t) for t in several]
  schema = schema_of(architectures)
  assert schema[:6] == (3, 3, 3, 2, 2, (5, 5))
  assert schema.group is None
  meanings: dict = {}
  for a in architectures:
    types = a.vertex_type(schema)
    for i, depth in enumerate(a.position):
      meaning = (a.kind[i], depth)
      assert meanings.setdefault(("vertex", types[i]), meaning) == meaning
    ends = zip(a.topology.senders, a.topology.receivers, strict=True)
    for (s, r), edge_type in zip(ends, a.edge_type(schema), strict=True):
      end = r if a.kind[s] == 1 and a.kind[r] == 2 else s
      meaning = (a.kind[end], a.position[end])
      assert meanings.setdefault(("edge", edge_type), meaning) == meaning
  # Different ids have different meanings.
  for kind in ("vertex", "edge"):
    unique = [m for (k, _), m in meanings.items() if k == kind]
    assert len(unique) == len(set(unique))
  assert len(meanings) == schema.features.vertex_types + (
    schema.features.edge_types
  )


def test_kernels_are_centred_in_the_window(random_weights):
  """A slot is an offset from the centre of a kernel with SAME padding."""
  sizes = (1, 2, 3, 4, 5)
  targets = [cnn((5, 5, 1), (3,), k, 1, "SAME", classes=2) for k in sizes]
  schema = schema_of([architecture_graph(t) for t in targets])
  for k, target in zip(sizes, targets, strict=True):
    one = architecture_graph(target)
    weights = jax.device_get(random_weights(target, 0, dead=False))
    leaves = jax.tree.leaves(weights)
    kernels = one.kernels(leaves, schema.window).reshape(-1, 5, 5)
    conv, dense = kernels[:3], kernels[3:]
    first = 2 - (k - 1) // 2
    inside = conv[:, first : first + k, first : first + k]
    np.testing.assert_array_equal(
      inside, np.moveaxis(weights[0]["kernel"][:, :, 0], -1, 0)
    )
    assert np.count_nonzero(conv) == np.count_nonzero(inside) == 3 * k * k
    np.testing.assert_array_equal(dense[:, 2, 2], weights[1]["kernel"].ravel())
    assert np.count_nonzero(dense) == 6
    biases = np.concatenate([[0], *(w["bias"] for w in weights)])
    np.testing.assert_array_equal(one.biases(leaves, 1)[:, 0], biases)


def test_networks_without_hidden_neurons_are_refused():
  with pytest.raises(InputError, match="no hidden neurons"):
    architecture_graph(mlp((3, 2)))
  with pytest.raises(InputError, match="no architectures"):
    schema_of([])


def test_several_multipliers_are_refused_by_name():
  message = r"batches .*: weight \S+: space '\S+' has \d multipliers per neuron"
  with pytest.raises(InputError, match=message):
    architecture_graph(resnet((4, 4, 1), widths=(2,)))
