"""Symmetry of whole metanetworks, and changes that break it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.symmetry import actions, gauge, kernels
from scalegmn_jax.targets import cnn, mlp
from tests.gmn.parameters import random_params

SMALL = {"width": 8, "depth": 2}
MASK = {"writes": "mask", "sparsity": 0.5}
QUANTIZED = {"writes": "quantized", "bits": 3}


TARGETS = {
  "cnn average": functools.partial(
    cnn.cnn, (6, 6, 1), (3, 4), padding="SAME", classes=3
  ),
  "cnn flatten": functools.partial(
    cnn.cnn,
    (6, 6, 2),
    (2, 3),
    kernel_size=(3, 2),
    stride=(2, 1),
    pool="flatten",
    classes=3,
  ),  # fmt: skip
  "cnn pooled": functools.partial(
    cnn.cnn, (6, 6, 1), (2,), 3, 1, 1, "flatten", 3, pool_size=2, dense=(3,)
  ),
  "mlp": functools.partial(mlp.mlp, (4, 5, 3, 4, 2)),
}
ACTIVATIONS = ("relu", "tanh", "gelu", ("relu", "tanh", "silu"))


@functools.cache
def random_and_trained(name):
  """Weights of two random networks, and of the first one after training for a
  few epochs on random labels, whatever the activations."""
  target = TARGETS[name]()
  shapes = jax.eval_shape(target.init, jax.random.key(0))

  def random(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
      lambda s: np.float32(rng.normal(size=s.shape) * 0.5), shapes
    )

  inputs = np.random.default_rng(2).normal(size=(3, 8, *target.input_shape))
  inputs, labels = np.float32(inputs), np.arange(24).reshape(3, 8)
  labels = labels % shapes[-1]["bias"].size
  optimizer = optax.adam(0.02)

  @jax.jit
  def train(weights):
    def loss(weights, x, y):
      logits = target.apply(weights, x)
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry, batch):
      weights, state = carry
      gradient = jax.grad(loss)(weights, *batch)
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(weights, updates), state), None

    batches = [np.concatenate([a] * 3) for a in (inputs, labels)]
    state = optimizer.init(weights)
    return jax.lax.scan(step, (weights, state), batches)[0][0]

  first = random(0)
  return first, random(1), jax.device_get(train(first))


def population(name):
  """Six networks, [6, ...]: two random ones, a trained one, and variants of it
  with zero biases, with dead neurons, and with pruned weights. On the host, in
  the default type of numbers."""
  first, second, ready = random_and_trained(name)
  zero_bias = tuple(layer | {"bias": layer["bias"] * 0} for layer in ready)
  dead = jax.tree.map(np.copy, ready)
  # Neuron 0 of the first layer receives nothing; neuron 1 sends nothing; neuron
  # 0 of the second layer does neither.
  dead[0]["kernel"][..., 0] = 0
  dead[0]["bias"][0] = 0
  dead[1]["kernel"][..., 1, :] = 0
  dead[1]["kernel"][..., 0] = 0
  dead[1]["bias"][0] = 0
  dead[2]["kernel"][..., 0, :] = 0
  pruned = jax.tree.map(lambda w: np.where(np.abs(w) < 0.2, 0, w), ready)
  networks = first, second, ready, zero_bias, dead, pruned
  dtype = jax.dtypes.canonicalize_dtype(float)
  return jax.tree.map(lambda *w: np.stack(w).astype(dtype), *networks)


def elements(target, activation, decades):
  """A group element of an activation for each network of `population`."""
  rng = np.random.default_rng(3)
  return [
    actions.sample_on_host(rng, target.spec, activation, decades=decades)
    for _ in range(6)
  ]


def transformed(target, gs, networks):
  """The networks [6, ...], each transformed by its group element."""
  each = [jax.tree.map(lambda w, i=i: w[i], networks) for i in range(6)]
  images = [
    actions.act(g, target.spec, w) for g, w in zip(gs, each, strict=True)
  ]
  return jax.tree.map(lambda *w: np.stack(w), *images)


def operator_errors(name, target, operator, decades):
  """[(errors {tensor: of the worst network}, updates [6, ...])] for each
  activation: ‖g⁻¹Δ(gθ) - Δ(θ)‖/‖Δ(θ)‖ of each tensor. Tensors that are small
  because of a dead neuron are measured like all others."""
  networks = population(name)
  params = random_params(operator)

  @jax.jit
  def update(networks, activation):
    def one(weights):
      edited = operator.apply(params, weights, activation)
      return jax.tree.map(jnp.subtract, edited, weights)

    return jax.vmap(one)(networks)

  results = []
  for index in range(len(target.activations)):
    gs = elements(target, index, decades)
    images = transformed(target, gs, networks)
    updates, at_g = jax.device_get(
      (update(networks, index), update(images, index))
    )
    back = transformed(target, [actions.inverse(g) for g in gs], at_g)
    worst = {}
    for i, (a, b) in enumerate(
      zip(jax.tree.leaves(updates), jax.tree.leaves(back), strict=True)
    ):
      a, b = (x.reshape(6, -1) for x in (a, b))
      norms = np.linalg.norm(a, axis=1)
      errors = np.linalg.norm(a - b, axis=1)
      # Where pruning leaves nothing to read or write, both are exactly zero.
      nothing = (norms == 0) & (errors == 0)
      worst[i] = (errors / np.where(nothing, 1, norms)).max()
    results.append((worst, updates))
  return results


ALL = ACTIVATIONS[-1]
# Every group in every direction on one kind of target. What CNNs add does not
# depend on both: each group once, each direction, other shapes, and other
# groups before a pool.
CASES = [
  *(("mlp", a, direction) for a in ACTIVATIONS for direction in (False, True)),
  *(("cnn average", "relu", direction) for direction in (False, True)),
  ("cnn average", "tanh", True),
  ("cnn average", "gelu", False),
  ("cnn average", ALL, True),
  *(("cnn flatten", "relu", direction) for direction in (False, True)),
  ("cnn pooled", ALL, True),
]


@pytest.mark.parametrize(("name", "activation", "bidirectional"), CASES)
def test_operator_is_equivariant_float64(x64, name, activation, bidirectional):
  target = TARGETS[name](activation=activation)
  operator = metanetworks.operator(target, bidirectional=bidirectional, **SMALL)
  for worst, updates in operator_errors(name, target, operator, 2.0):
    for update in jax.tree.leaves(updates):
      assert np.abs(update).max() > 1e-3  # there is an update to measure
    assert max(worst.values()) <= 1e-10, worst


@pytest.mark.parametrize(
  ("name", "activation", "depth"),
  [
    *(("mlp", a, 1) for a in ACTIVATIONS),
    ("cnn flatten", "relu", 1),
    ("mlp", ALL, 0),
  ],
)
def test_prototypes_are_written_equivariantly(x64, name, activation, depth):
  target = TARGETS[name](activation=activation)
  operator = metanetworks.operator(
    target, prototypes=2, **SMALL | {"depth": depth}
  )
  for worst, updates in operator_errors(name, target, operator, 2.0):
    for update in jax.tree.leaves(updates):
      assert np.abs(update).max() > 1e-3
    assert max(worst.values()) <= 1e-10, worst


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_basis_is_written_equivariantly(x64, activation):
  target = TARGETS["mlp"](activation=activation)
  operator = metanetworks.operator(
    target, prototypes=1, basis=3, probes=5, **SMALL | {"depth": 0}
  )
  for worst, updates in operator_errors("mlp", target, operator, 2.0):
    for update in jax.tree.leaves(updates):
      assert np.abs(update).max() > 1e-3
    assert max(worst.values()) <= 1e-10, worst


@pytest.mark.parametrize(
  ("name", "activation"), [("mlp", ACTIVATIONS[-1]), ("cnn flatten", "relu")]
)
def test_masks_are_equivariant(x64, name, activation):
  """Also those of networks with dead neurons, whose scores are equal."""
  target = TARGETS[name](activation=activation)
  operator = metanetworks.operator(
    target, writes="mask", sparsity=0.6, width=4, depth=1
  )
  for worst, updates in operator_errors(name, target, operator, 2.0):
    assert max(worst.values()) <= 1e-10, worst
    for layer in updates:
      assert np.abs(layer["kernel"]).max() > 1e-3
      assert not layer["bias"].any()


def test_a_mask_begins_with_the_smallest_weights_and_learns_others():
  """The same entries that pruning by magnitude removes, until φ moves."""
  target = TARGETS["mlp"]()
  weights = jax.jit(target.init)(jax.random.key(1))
  entries = kernels.count(target.spec, weights)
  operator = metanetworks.operator(
    target, writes="mask", sparsity=0.6, width=4, depth=0
  )
  params = jax.jit(operator.init)(jax.random.key(0))
  apply = jax.jit(operator.apply)
  edited = apply(params, weights)

  @jax.jit
  def pruned(weights):
    squares = kernels.balanced_powers(target.spec, weights)
    ones = jax.tree.map(jnp.ones_like, weights)
    count = round(0.6 * entries)
    mask = kernels.keep_highest(target.spec, squares, ones, count)
    return jax.tree.map(jnp.multiply, weights, mask)

  jax.tree.map(np.testing.assert_array_equal, edited, pruned(weights))

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    """What is removed from the first layer."""
    kernel = operator.apply(params, weights)[0]["kernel"]
    return ((kernel - weights[0]["kernel"]) ** 2).sum()

  first, _ = loss(params)
  for _ in range(20):
    gradient = loss(params)[1]["score"]
    score = jax.tree.map(lambda p, g: p - 0.5 * g, params["score"], gradient)
    params = params | {"score": score}
  after = apply(params, weights)
  assert loss(params)[0] < 0.5 * first
  removed = sum(int((layer["kernel"] == 0).sum()) for layer in after)
  assert removed == round(0.6 * entries)


def with_gates_of_one(params):
  """Changes φ so that nothing of the weights remains."""
  out = params["prototypes"]["gates"]["out"]
  out["kernel"] = np.zeros_like(out["kernel"])
  out["bias"] = np.full_like(out["bias"], 99.0)


def test_what_a_basis_writes_depends_on_the_answers(x64):
  """With gates of one, nothing else of the network is read."""
  target = TARGETS["mlp"]()
  operator = metanetworks.operator(
    target, prototypes=1, basis=3, probes=5, width=4, depth=0
  )
  params = random_params(operator)
  with_gates_of_one(params)
  x = np.random.default_rng(6).normal(size=(7, *target.input_shape))
  networks = jax.tree.map(lambda w: w[:2], population("mlp"))

  @jax.jit
  def distance(params):
    a, b = jax.vmap(
      lambda weights: target.apply(operator.apply(params, weights), x)
    )(networks)
    return jnp.abs(a - b).max()

  assert distance(params) > 1e-5
  coefficients = params["prototypes"]["coefficients"]["out"]
  coefficients["kernel"] = np.zeros_like(coefficients["kernel"])
  assert distance(params) < 1e-5


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_prototype_is_one_function_in_any_network(x64, activation):
  """With gates of one, nothing of the network remains but its symmetry."""
  target = TARGETS["mlp"](activation=activation)
  networks = jax.tree.map(lambda w: w[:3], population("mlp"))
  operator = metanetworks.operator(target, prototypes=1, **SMALL | {"depth": 1})
  params = random_params(operator)
  with_gates_of_one(params)
  x = np.random.default_rng(6).normal(size=(7, *target.input_shape))

  @jax.jit
  def outputs_of(networks, index):
    def outputs(weights):
      return target.apply(operator.apply(params, weights, index), x, index)

    return jax.vmap(outputs)(networks)

  for index in range(len(target.activations)):
    outputs = np.asarray(outputs_of(networks, index))
    assert np.ptp(outputs[0]) > 1e-2
    for other in outputs[1:]:
      np.testing.assert_allclose(other, outputs[0], 1e-9, 1e-9)


def test_the_order_of_outputs_is_kept(x64):
  """An operator commutes with permutations of the outputs if and only if it has
  classes; it is equivariant either way."""
  target = TARGETS["mlp"]()
  outputs = target.spec.spaces["output"].size
  order = np.roll(np.arange(outputs), 1)

  def reordered(weights):
    last = jax.tree.map(lambda w: w[..., order], weights[-1])
    return (*weights[:-1], last)

  for arguments in (
    {"classes": 5, "probes": 6, "depth": 1},
    {"classes": 5, "probes": 6, "class_combinations": True, "depth": 0},
    {"classes": 0, "depth": 0},
  ):
    arguments = SMALL | arguments
    operator = metanetworks.operator(target, prototypes=2, **arguments)
    weights = jax.tree.map(lambda w: w[2], population("mlp"))
    params = random_params(operator)
    apply = jax.jit(operator.apply)
    expected = reordered(jax.device_get(apply(params, weights)))
    edited = jax.device_get(apply(params, reordered(weights)))
    errors = jax.tree.map(lambda a, b: np.abs(a - b).max(), edited, expected)
    commutes = max(jax.tree.leaves(errors)) < 1e-12
    assert commutes == (arguments["classes"] > 0)
    if arguments["classes"]:
      for worst, _ in operator_errors("mlp", target, operator, 2.0):
        assert max(worst.values()) <= 1e-10, worst


def test_prototypes_depend_on_class_combinations():
  """A bias has a learned part per class, half of it where the class is present
  and minus half where not, and one per pair of classes at one output."""
  target = mlp.mlp((3, 3, 3))
  operator = metanetworks.operator(
    target, width=4, depth=0, prototypes=1, classes=3, probes=3,
    class_combinations=True,
  )  # fmt: skip
  shapes = jax.eval_shape(operator.init, jax.random.key(0))
  params = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
  head = params["prototypes"]
  head["gates"]["out"]["bias"] += 50
  head["classes"]["probes"] = jnp.eye(3)
  head["classes"]["keys"] = 50 * jnp.eye(3)
  # A class is present unless its outputs rather belong to other classes.
  there = head["classes"]["there"]
  side = jnp.tile(jnp.array([1.0, -1.0]), 8)
  there["in"]["kernel"] = there["in"]["kernel"].at[-1].set(side)
  there["norm"]["scale"] += 1
  there["out"]["kernel"] = 10 * jnp.maximum(side, 0)[:, None]
  there["out"]["bias"] += 10
  order = ["00", "01", "02", "11", "12", "22"]
  parts = 2.0 ** jnp.arange(len(order))
  head["changes_0"] += parts[None, :, None]
  apply = jax.jit(operator.apply)
  # Classes (columns) of the outputs (rows), and the parts that they add.
  for class_at_output, present in (
    ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "00 11 22"),
    ([[1, 1, 0], [0, 0, 1], [0, 0, 0]], "00 11 22 01"),
    ([[0, 0, 0], [1, 1, 1], [0, 0, 0]], "00 11 22 01 02 12"),
    ([[0, 0, 1], [0, 0, 0], [0, 1, 0]], "11 22"),
  ):
    weights = (
      {"kernel": jnp.eye(3), "bias": jnp.zeros(3)},
      {"kernel": 50.0 * jnp.array(class_at_output).T, "bias": jnp.zeros(3)},
    )
    edited = apply(params, weights)
    expected = sum(2.0 ** order.index(m) for m in present.split())
    expected -= sum(2.0 ** order.index(m) for m in ("00", "11", "22")) / 2
    np.testing.assert_allclose(edited[0]["bias"], expected, 1e-3)


# Multipliers of signs and orders are exact in every type of numbers.
@pytest.mark.parametrize("activation", ["relu", ALL])
def test_operator_is_equivariant_float32(activation):
  target = TARGETS["mlp"](activation=activation)
  operator = metanetworks.operator(target, **SMALL)
  for worst, _ in operator_errors("mlp", target, operator, 1.0):
    assert max(worst.values()) <= 1e-4, worst


def test_blocks_of_edges_change_nothing(x64):
  """The update and its gradient, with a last block that is not full: 7 rows of
  the first kernel, 3 at a time."""
  target = mlp.mlp((7, 4, 3), ("relu", "tanh"))
  weights = random_params(target)
  one_layer = SMALL | {"depth": 1}
  params = random_params(metanetworks.operator(target, **one_layer))

  def results(edge_block):
    operator = metanetworks.operator(target, edge_block=edge_block, **one_layer)

    def loss(params):
      edited = operator.apply(params, weights)
      return sum((w**2).sum() for w in jax.tree.leaves(edited)), edited

    return jax.jit(jax.grad(loss, has_aux=True))(params)

  whole, blocks = (jax.tree.leaves(results(n)) for n in (None, 12))
  for a, b in zip(whole, blocks, strict=True):
    np.testing.assert_allclose(a, b, 1e-9, 1e-12)


def test_vector_inverse_is_equivariant_too(x64):
  target = TARGETS["mlp"](activation="relu")
  operator = metanetworks.operator(target, backward="inverse", **SMALL)
  ((worst, _),) = operator_errors("mlp", target, operator, 2.0)
  assert max(worst.values()) <= 1e-10, worst


def test_permutation_only_model_fails_under_scaling(x64):
  target = TARGETS["mlp"](activation="relu")
  operator = metanetworks.operator(
    target, symmetry="permutation", **SMALL | {"depth": 1}
  )
  ((worst, _),) = operator_errors("mlp", target, operator, 1.0)
  assert min(worst.values()) > 1e-2, worst


def test_the_edge_itself_is_no_backward_edge(x64):
  """The reference's mistake (its bidirectional relu model)."""
  target = TARGETS["mlp"](activation="relu")
  operator = metanetworks.operator(
    target, backward=lambda e, s, r: e, **SMALL | {"depth": 1}
  )
  ((worst, _),) = operator_errors("mlp", target, operator, 1.0)
  assert max(worst.values()) > 1e-2, worst


def functional_errors(name, target, functional, decades):
  """[(error, spread over networks)] for each activation."""
  networks = population(name)
  params = random_params(functional)
  f = jax.jit(
    jax.vmap(lambda w, index: functional.apply(params, w, index), (0, None))
  )
  results = []
  for index in range(len(target.activations)):
    images = transformed(target, elements(target, index, decades), networks)
    values, at_g = jax.device_get((f(networks, index), f(images, index)))
    spread = values.std(0)
    error = np.abs(at_g - values).max(0) / spread
    results.append((error.max(), spread.min()))
  return results


@pytest.mark.parametrize(
  ("name", "activation", "bidirectional"),
  # Its messages are those of an operator; its head meets every group, direction
  # and kind of target.
  [
    ("mlp", "relu", True),
    ("mlp", "tanh", False),
    ("mlp", "gelu", True),
    ("mlp", ALL, False),
    ("cnn average", "relu", False),
    ("cnn flatten", "relu", True),
    ("cnn pooled", ALL, True),
  ],
)
def test_functional_is_invariant(x64, name, activation, bidirectional):
  target = TARGETS[name](activation=activation)
  functional = metanetworks.functional(
    target, outputs=2, bidirectional=bidirectional, **SMALL
  )
  for error, spread in functional_errors(name, target, functional, 2.0):
    assert spread > 1e-3
    assert error <= 1e-10


def test_functional_is_invariant_float32():
  target = TARGETS["mlp"](activation=ALL)
  functional = metanetworks.functional(target, **SMALL)
  for error, spread in functional_errors("mlp", target, functional, 1.0):
    assert spread > 1e-3
    assert error <= 1e-4


@pytest.mark.parametrize(
  ("activation", "arguments"),
  [
    ("relu", {"backward": "inverse", "depth": 2}),
    (("relu", "tanh"), {"backward": "carrier", "depth": 2}),
    (("relu", "tanh"), {"prototypes": 2, "depth": 1}),
  ],
)
def test_gradients_are_finite_at_zeros(activation, arguments):
  """Zero biases, dead neurons and pruned weights."""
  target = TARGETS["cnn average"](activation=activation)
  operator = metanetworks.operator(target, **SMALL | arguments)
  params = random_params(operator)

  @jax.jit
  def gradients(params, networks):
    def loss(params, networks):
      edited = jax.vmap(lambda w: operator.apply(params, w))(networks)
      return sum((w * w).sum() for w in jax.tree.leaves(edited))

    return jax.grad(loss, argnums=(0, 1))(params, networks)

  for gradient in jax.tree.leaves(gradients(params, population("cnn average"))):
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("prototypes", [0, 1])
def test_neurons_that_decayed_stay_finite_float32(prototypes):
  """Sizes whose squares and quotients are out of the range of float32."""
  target = TARGETS["mlp"](activation="relu")
  networks = population("mlp")
  networks[1]["kernel"][:, :, 0] *= 1e-33
  networks[1]["bias"][:, 0] *= 1e-33
  networks[2]["kernel"][:, 0] *= 1e-35
  operator = metanetworks.operator(target, prototypes=prototypes, **SMALL)
  params = random_params(operator)

  @jax.jit
  @jax.vmap
  def results(weights):
    edited = operator.apply(params, weights)
    return edited, gauge.balance(target.spec, edited)

  for weight in jax.tree.leaves(results(networks)):
    assert np.isfinite(weight).all()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"symmetry": "scale"}, "^symmetry is 'scale'"),
    ({"backward": "edge"}, "^backward is 'edge'"),
    ({"edge_block": 0}, "^edge_block is 0"),
    ({"dtype": "float16"}, "^dtype is 'float16'"),
    ({"prototypes": -1}, "^prototypes is -1"),
    ({"depth": -1}, "^depth is -1"),
    ({"width": 0}, "^width is 0"),
    ({"prototypes": 1, "classes": 3, "probes": 0}, "^probes is 0"),
    (
      {"prototypes": 1, "classes": 1, "class_combinations": True},
      "^class_combinations is True with classes=1",
    ),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    metanetworks.operator(TARGETS["mlp"](), **arguments)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"backward": "inverse", "bidirectional": False}, "bidirectional=False"),
    ({"backward": "inverse", "depth": 0}, "depth=0"),
    ({"backward": "inverse", "symmetry": "permutation"}, "permutation"),
    ({"backward": lambda e, s, r: e, "activation": "tanh"}, "scaling"),
    ({"probes": 7}, "^probes is 7, which has no effect with prototypes=0"),
    ({"sparsity": 0.5}, 'sparsity .* no effect with writes="free"'),
    (MASK | {"step": 0.1}, 'step .* no effect with writes="mask"'),
    (MASK | {"prototypes": 1}, 'prototypes .* no effect with writes="mask"'),
    (MASK | {"classes": 3}, 'classes .* no effect with writes="mask"'),
    (MASK | {"sparsity": 1}, "sparsity is 1 .* expected above 0, below 1"),
    ({"writes": "mask"}, "sparsity is 0.0 .* expected above 0, below 1"),
    ({"writes": "all"}, "'all', expected free or mask or quantized"),
    (QUANTIZED | {"sparsity": 0.5}, "sparsity .* no effect with writes="),
    (QUANTIZED | {"prototypes": 1}, "prototypes .* no effect with writes="),
    (QUANTIZED | {"bits": 1}, "bits is 1, expected 2 to 8"),
    ({"writes": "quantized"}, "bits is 0, expected 2 to 8"),
    ({"bits": 3}, 'bits .* no effect with writes="free"'),
    (MASK | {"per_channel": True}, 'per_channel .* effect with writes="mask"'),
    ({"probes": 7, "classes": 2}, "prototypes=0"),
    ({"probes": 7, "prototypes": 1}, "classes=0"),
    ({"class_combinations": True, "classes": 2}, "prototypes=0"),
  ],
)
def test_arguments_without_effect_are_refused(arguments, message):
  arguments = {"activation": "relu"} | arguments
  target = TARGETS["mlp"](activation=arguments.pop("activation"))
  with pytest.raises(InputError, match=message):
    metanetworks.operator(target, **arguments)


def test_a_functional_refuses_them_too():
  with pytest.raises(InputError, match="backward .* no effect with depth=0"):
    metanetworks.functional(TARGETS["mlp"](), depth=0, backward="inverse")
  with pytest.raises(InputError, match="outputs is 0"):
    metanetworks.functional(TARGETS["mlp"](), outputs=0)
