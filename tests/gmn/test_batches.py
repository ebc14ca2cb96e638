"""Metanetworks on batches of several architectures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.gmn import batches, metanetworks
from scalegmn_jax.graph.batch import dataset, pack, schema
from scalegmn_jax.targets.mlp import mlp

SMALL = {"width": 4, "depth": 2, "outputs": 2}
COUNT = 4  # networks per architecture: two of each activation


@functools.cache
def params_of(types, symmetry="target", depth=2):
  """φ with all entries random: entries of zero would hide mistakes."""
  functional = batches.functional(
    types, symmetry=symmetry, **SMALL | {"depth": depth}
  )
  rng = np.random.default_rng(7)

  def draw(path, shape):
    # Far from linear, so that the outputs of networks differ.
    noise = rng.normal(size=shape.shape)
    if jax.tree_util.keystr(path).endswith("['kernel']"):
      return jax.device_put(1.5 * noise / shape.shape[0] ** 0.5)
    return jax.device_put(1 + 0.3 * noise)

  shapes = jax.eval_shape(functional.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture
def networks(x64, mixed_dataset):
  """(networks of each architecture, the data set of them all)."""
  return mixed_dataset


@functools.cache
def compiled(types, symmetry="target"):
  functional = batches.functional(types, symmetry=symmetry, **SMALL)
  params = params_of(types, symmetry)
  return jax.jit(functools.partial(functional.apply, params))


def read(f, networks, numbers, sections, size):
  """[n, 2] of these networks."""
  batch = networks.batch(np.asarray(numbers), sections, size)
  values = np.asarray(f(batch))
  assert values.shape == (size + 1, 2) and np.isfinite(values).all()
  return values[: len(numbers)]


def wide(networks):
  """Sections for all networks, and some more."""
  rows = networks.rows(np.arange(networks.size)) + 5
  return pack.SectionSizes(*rows.tolist())


def assert_same(a, b, tolerance=1e-10):
  np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * b.std(0).max())


def test_other_graphs_and_padding_change_nothing(networks):
  """Each network alone, in a batch of half of them, and in one of all."""
  _, networks = networks
  f, sections = compiled(networks.schema), wide(networks)
  numbers = np.arange(networks.size)
  size = len(numbers)
  together = read(f, networks, numbers, sections, size)
  assert together.std(0).min() > 1e-2
  alone = [read(f, networks, [n], sections, size)[0] for n in numbers]
  assert_same(np.stack(alone), together)
  order = np.random.default_rng(0).permutation(numbers)
  half = size // 2
  halves = [
    read(f, networks, n, sections, size) for n in (order[:half], order[half:])
  ]
  assert_same(np.concatenate(halves), together[order])


def test_an_edge_between_two_networks_changes_their_outputs(networks):
  _, networks = networks
  f = compiled(networks.schema)
  numbers = np.arange(networks.size)
  batch = networks.batch(numbers, wide(networks), len(numbers))
  graph = batch.graph
  edge = batch.sections.direct + batch.sections.into  # between hidden vertices
  first = graph.nodes["graph"][graph.senders[edge]]
  other = jnp.argmax(graph.nodes["graph"] == first + 1).astype(jnp.int32)
  crossed = pack.GraphBatch(
    graph._replace(senders=graph.senders.at[edge].set(other)),
    batch.sections,
    batch.schema,
  )
  change = jnp.abs(f(crossed) - f(batch))[:-1].max(1)
  assert change[first] > 1e-3
  untouched = np.delete(np.asarray(change), [int(first), int(first) + 1])
  assert untouched.max() < 1e-10


def transformed(zoos, several, scaled):
  """Each network transformed by an element of its group, in numpy."""
  rng = np.random.default_rng(3)

  def one(target, weights, activation):
    element = {}
    for name, space in target.spec.spaces.items():
      q = np.ones(space.size)
      if scaled and not space.fixed:
        signs = space.groups[activation] == "sign"
        q = 10 ** rng.normal(size=space.size)
        q = np.sign(np.log(q)) if signs else q
      order = np.arange(space.size)
      if not space.fixed:
        order = rng.permutation(order)
      element[name] = order, q

    def act(weight, axes):
      for position, axis in enumerate(axes.axes):
        if axis is not None:
          order, q = element[axis.space]
          shape = np.where(np.arange(weight.ndim) == position, -1, 1)
          weight = weight.take(order, position) * q.reshape(shape) ** axis.power
      return weight

    return jax.tree.map(act, weights, target.spec.axes)

  result = []
  for zoo, target in zip(zoos, several, strict=True):
    networks = [
      one(target, jax.tree.map(lambda w, i=i: w[i], zoo.weights), activation)
      for i, activation in enumerate(zoo.activation)
    ]
    weights = jax.tree.map(lambda *w: np.stack(w), *networks)
    result.append(Networks(weights, zoo.activation))
  return result


@pytest.mark.parametrize(
  ("symmetry", "scaled", "invariant"),
  (
    ("target", True, True),
    ("permutation", False, True),
    ("permutation", True, False),
  ),
)
def test_which_groups_a_batch_is_invariant_to(
  networks, several, symmetry, scaled, invariant
):
  zoos, before = networks
  after = dataset.GraphDataset(
    before.schema,
    before.architectures,
    transformed(zoos, several, scaled),
    [{"value": np.zeros(COUNT)}] * len(several),
  )
  f = compiled(before.schema, symmetry)
  numbers = np.arange(before.size)
  a, b = (
    read(f, n, numbers, wide(before), len(numbers)) for n in (after, before)
  )
  if invariant:
    assert_same(a, b)
  else:  # in every architecture, under both activations
    change = np.abs(a - b).max(1).reshape(-1, 2, 2)
    assert change.max(2).min() > 1e-3


def test_one_architecture_is_read_as_by_the_functional(x64, dataset_of):
  """For kernels of one size, with the same parameters."""
  target = mlp((3, 8, 9, 8, 2), ("relu", "tanh"))
  (zoo,), networks = dataset_of([target], COUNT)
  types = networks.schema
  one = metanetworks.functional(target, **SMALL)
  params = params_of(types)
  shapes = jax.eval_shape(one.init, jax.random.key(0))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
  expected = jax.jit(jax.vmap(functools.partial(one.apply, params)))(
    zoo.weights, zoo.activation
  )
  outputs = read(
    compiled(types), networks, np.arange(COUNT), wide(networks), COUNT
  )
  assert_same(outputs, np.asarray(expected))


def test_gradients_are_finite_and_add_up(networks):
  """With dead neurons, and padding whose gradient is zero."""
  _, networks = networks
  types, sections = networks.schema, wide(networks)
  functional = batches.functional(types, **SMALL | {"depth": 1})
  params = params_of(types, depth=1)
  everything = np.arange(networks.size)

  @jax.jit
  def gradients(params, kernels, batch):
    def loss(params, kernels):
      edges = batch.graph.edges | {"kernel": kernels}
      graph = batch.graph._replace(edges=edges)
      y = functional.apply(params, pack.GraphBatch(graph, sections, types))
      real = batch.graph.globals["real"][:, None]
      return jnp.sum(jnp.where(real, y, 0) ** 2)

    return jax.grad(loss, argnums=(0, 1))(params, kernels)

  gradients_of_params = []
  for numbers in (everything, everything[:5], everything[5:]):
    batch = networks.batch(numbers, sections, len(everything))
    of_params, of_kernels = gradients(
      params, batch.graph.edges["kernel"], batch
    )
    assert jnp.isfinite(of_kernels).all()
    graph = batch.graph.nodes["graph"][batch.graph.senders]
    assert (of_kernels[graph == len(numbers)] == 0).all()
    gradients_of_params.append(jax.tree.map(np.asarray, of_params))
  for whole, *parts in zip(
    *map(jax.tree.leaves, gradients_of_params), strict=True
  ):
    assert np.isfinite(whole).all() and np.abs(whole).max() > 0
    np.testing.assert_allclose(
      sum(parts), whole, rtol=0, atol=1e-10 * np.abs(whole).max()
    )


def test_an_epoch_compiles_no_more_programs_than_there_are_buckets(networks):
  _, networks = networks
  numbers = np.arange(networks.size)
  load = dataset.batch_loader(networks, numbers, size=3, seed=0, buckets=3)
  functional = batches.functional(
    networks.schema, width=2, depth=1, bidirectional=False
  )
  shapes = jax.eval_shape(functional.init, jax.random.key(0))
  params = jax.tree.map(lambda s: jnp.ones(s.shape), shapes)
  apply = jax.jit(functional.apply)
  shapes = set()
  for step in range(40):
    batch = load(step)
    shapes.add(batch.sections)
    apply(params, batch)
  assert 2 <= len(shapes) <= len(load.buckets) <= 3
  assert apply._cache_size() == len(shapes)


def test_batches_of_another_schema(networks, several):
  _, networks = networks
  types = schema.schema_of([schema.architecture_graph(several[0])])
  functional = batches.functional(types, **SMALL)
  with pytest.raises(ValueError, match="another schema"):
    functional.apply({}, networks.batch(np.array([0]), wide(networks), 1))
  with pytest.raises(InputError, match="^symmetry is 'scale'"):
    batches.functional(types, symmetry="scale")
  with pytest.raises(InputError, match="backward .* no effect with depth=0"):
    batches.functional(types, depth=0, backward="inverse")
