"""Reading networks by their answers to probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.gmn import batches, metanetworks, probes
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.dataset import GraphDataset
from scalegmn_jax.graph.batch.schema import architecture_graph, schema_of
from scalegmn_jax.symmetry import actions, phase
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.targets.resnet import resnet
from scalegmn_jax.targets.traced import trace
from tests.gmn.parameters import random_params

SMALL = {"outputs": 2, "width": 4, "probes": 6}
TARGETS = {
  "cnn": cnn((6, 6, 1), (3, 4), padding="SAME", classes=3),
  "mixed": mlp((4, 5, 3, 2), ("relu", "tanh", "gelu")),
  "resnet": resnet((6, 6, 1), widths=(2, 3), classes=3),
}


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("name", TARGETS)
def test_answers_are_invariant(x64, name, depth):
  target = TARGETS[name]
  functional = metanetworks.functional(target, depth=depth, **SMALL)
  params = random_params(functional)
  weights = [random_params(target, seed) for seed in range(3)]
  apply = jax.jit(functional.apply)
  for index in range(len(target.activations)):
    values = np.stack([apply(params, w, index) for w in weights])
    assert values.std(0).min() > 1e-3
    g = actions.sample_on_host(
      np.random.default_rng(3), target.spec, index, decades=2.0
    )
    moved = actions.act(g, target.spec, jax.device_get(weights[0]))
    error = np.abs(apply(params, moved, index) - values[0]).max()
    assert error <= 1e-10 * values.std(0).max()


def test_answers_have_no_phases(x64):
  """A graph does not show the phases of a SIREN; answers do not need to."""
  omega = 3.0
  target = mlp((2, 5, 4, 1), "sine", omega)
  weights = random_params(target)

  @jax.jit
  def shift(weights):
    turns = phase.sample(jax.random.key(1), target.spec)
    return phase.shift(target.spec, weights, turns, omega)

  shifted = shift(weights)

  def distance(depth):
    functional = metanetworks.functional(target, depth=depth, **SMALL)
    params, apply = random_params(functional), jax.jit(functional.apply)
    first, second = (apply(params, w) for w in (weights, shifted))
    return float(np.abs(first - second).max())

  assert distance(depth=0) < 1e-10
  assert distance(depth=1) > 1e-3


def test_probes_alone_need_no_graph():
  """A target whose symmetry is unknown: its outputs are sorted."""

  def apply(weights, x):
    return jnp.sort(x @ weights["w"], axis=1) * weights["scale"]

  weights = {"w": jnp.ones((3, 4)), "scale": jnp.array(2.0)}
  target = trace(apply, weights, jnp.zeros((2, 3)))
  functional = metanetworks.functional(target, depth=0, **SMALL)
  params = jax.eval_shape(functional.init, jax.random.key(0))
  assert set(params) == {"prober", "out"}
  assert jax.eval_shape(functional.apply, params, weights).shape == (2,)


def test_parameters_of_probes_alone_fit_every_architecture():
  """With inputs and outputs of the same shapes."""
  first, second = (
    metanetworks.functional(TARGETS[name], depth=0, **SMALL)
    for name in ("cnn", "resnet")
  )
  weights = random_params(TARGETS["resnet"])
  values = jax.jit(second.apply)(random_params(first), weights)
  assert np.isfinite(values).all()


def test_without_probes_parameters_are_as_before():
  functional = metanetworks.functional(TARGETS["cnn"], width=4)
  params = jax.eval_shape(functional.init, jax.random.key(0))
  assert set(params) == {"body", "hidden", "out"}


def test_all_parts_of_the_generator_are_trained():
  functional = metanetworks.functional(TARGETS["cnn"], depth=0, **SMALL)
  weights = random_params(TARGETS["cnn"])

  @jax.jit
  @jax.grad
  def gradient(params):
    return functional.apply(params, weights).sum()

  found = gradient(functional.init(jax.random.key(0)))
  for leaf in jax.tree.leaves(found["prober"]["generator"]):
    assert np.abs(leaf).max() > 0


@pytest.mark.parametrize("shape", [(2,), (6, 6, 1)])
def test_probes_begin_as_inputs(shape):
  random = np.random.RandomState(0)
  # Of rank 8: the principal components hold all of it.
  flat = random.randn(40, 8) @ random.randn(8, int(np.prod(shape)))
  inputs = 3.0 + flat.reshape(40, *shape)
  target = {(2,): mlp((2, 3, 1)), (6, 6, 1): TARGETS["cnn"]}[shape]
  made = metanetworks.functional(target, depth=0, **SMALL)
  functional = probes.init_from_inputs(made, inputs, 0, probes=6)
  params = functional.init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, params["out"],
               made.init(jax.random.key(0))["out"])  # fmt: skip
  begun = np.asarray(probes.generate(params["prober"]["generator"], shape))
  distance = np.abs(begun[:, None] - inputs[None]).reshape(6, 40, -1).max(-1)
  assert distance.min(1).max() < 1e-4
  assert len(set(distance.argmin(1))) == 6


def test_more_probes_than_inputs_are_refused():
  functional = metanetworks.functional(TARGETS["cnn"], **SMALL)
  with pytest.raises(InputError, match="probes is 6, expected at most .* 5$"):
    probes.init_from_inputs(functional, np.zeros((5, 6, 6, 1)), 0, probes=6)
  same = probes.init_from_inputs(functional, np.zeros((0, 3)), 0, probes=0)
  assert same is functional


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"probes": -1}, "probes is -1, expected at least 0"),
    ({"depth": 0, "symmetry": "permutation"}, "no effect with probes and"),
    ({"depth": 0, "edge_block": 3}, "no effect with probes and depth=0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    metanetworks.functional(TARGETS["cnn"], **{**SMALL, **arguments})


def test_tokens_are_refused():
  tokens = jnp.zeros((2, 4), int)
  weights = {"table": jnp.ones((7, 3))}
  target = trace(lambda w, x: w["table"][x].sum(1), weights, tokens)
  with pytest.raises(InputError, match="array of real numbers of shape") as e:
    metanetworks.functional(target, depth=0, **SMALL)
  assert "\n" not in str(e.value)


MEMBERS = (
  cnn((6, 6, 1), (3, 4), padding="SAME", activation=("relu", "tanh"),
      classes=3),
  cnn((6, 6, 1), (5,), padding="SAME", activation="tanh", classes=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def mixed():
  """(networks of each architecture, their schema, their dataset)."""
  networks = [
    Networks(
      jax.tree.map(
        lambda *w: np.stack(w),
        *(random_params(target, 3 * i + k) for k in range(3)),
      ),
      np.arange(3) % len(target.activations),
    )
    for i, target in enumerate(MEMBERS)
  ]
  graphs = [architecture_graph(target) for target in MEMBERS]
  schema = schema_of(graphs)
  data = GraphDataset(schema, graphs, networks, [{}, {}], with_weights=True)
  return networks, schema, data


def batch_of(data, numbers):
  sections = pack.SectionSizes(*data.rows(numbers).tolist())
  return data.batch(numbers, sections, len(numbers))


def test_rows_of_a_batch_are_what_each_network_says(mixed):
  networks, schema, data = mixed
  arguments = {"depth": 0, **SMALL}
  functional = batches.functional(schema, targets=MEMBERS, **arguments)
  params = random_params(functional)
  numbers = np.array([4, 0, 5, 1])
  rows = jax.jit(functional.apply)(params, batch_of(data, numbers))
  assert rows.shape == (5, 2)  # the last one is padding
  alone = [
    jax.jit(metanetworks.functional(target, **arguments).apply)
    for target in MEMBERS
  ]
  for row, number in zip(rows, numbers, strict=False):
    member, place = divmod(int(number), 3)
    weights = jax.tree.map(lambda w, i=place: w[i], networks[member].weights)
    activation = networks[member].activation[place]
    expected = alone[member](params, weights, activation)
    np.testing.assert_allclose(row, expected, 1e-4, 1e-6)


def test_messages_and_answers_of_a_batch(mixed):
  """Both parts of the summary count, and gradients reach the probes."""
  _, schema, data = mixed
  functional = batches.functional(schema, depth=1, targets=MEMBERS, **SMALL)
  params = random_params(functional)
  batch = batch_of(data, np.array([0, 3]))

  @jax.jit
  def gradient(params):
    return jax.grad(lambda p: functional.apply(p, batch)[:2].sum())(params)

  found = gradient(params)
  assert np.abs(found["prober"]["generator"]["latents"]).max() > 0
  assert np.abs(found["hidden"]["in"]["kernel"]).max() > 0


def test_batches_that_cannot_be_probed(mixed):
  networks, schema, _ = mixed
  with pytest.raises(InputError, match="probes: no targets"):
    batches.functional(schema, **SMALL)
  other = mlp((36, 4, 3))
  with pytest.raises(InputError, match=r"\(\(6, 6, 1\), 3\), \(\(36,\), 3\)"):
    batches.functional(schema, targets=(MEMBERS[0], other), **SMALL)
  functional = batches.functional(schema, targets=MEMBERS, depth=0, **SMALL)
  params = random_params(functional)
  graphs = [architecture_graph(target) for target in MEMBERS]
  data = GraphDataset(schema, graphs, networks, [{}, {}])
  with pytest.raises(InputError, match="the batch holds no weights"):
    functional.apply(params, batch_of(data, np.array([0])))
