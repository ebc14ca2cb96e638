"""Initial parameters of operators from data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scalegmn_jax as sg
from scalegmn_jax.base import InputError
from scalegmn_jax.gmn.prototypes import data_init
from scalegmn_jax.gmn.prototypes.label_reader import confidence

TARGET = sg.mlp((6, 5, 4))
KINDS, COPIES, PROBES = 3, 4, 8


@pytest.fixture(scope="module")
def images():
  return np.random.RandomState(0).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def networks():
  """Networks of three kinds, each with its outputs in another order."""
  keys = jax.random.split(jax.random.key(0), KINDS)
  kinds = jax.jit(jax.vmap(TARGET.init))(keys)

  def one(kind, key):
    weights = jax.tree.map(lambda w: 3 * w[kind], kinds)
    order = jax.random.permutation(key, 4)
    last = jax.tree.map(lambda w: w[..., order], weights[-1])
    return (*weights[:-1], last)

  kind = jnp.arange(KINDS * COPIES) % KINDS
  keys = jax.random.split(jax.random.key(1), KINDS * COPIES)
  return sg.Networks(jax.jit(jax.vmap(one))(kind, keys), jnp.zeros_like(kind))


def begin(networks, images, target=TARGET, **arguments):
  """(operator, the same with `init` from data)."""
  arguments = {"classes": 4, "probes": PROBES} | arguments
  plain = sg.operator(target, width=4, depth=1, **arguments)
  return plain, data_init.init_from_data(plain, networks, images, 0)


def test_each_kind_of_network_begins_with_its_own_prototype(networks, images):
  plain, begun = begin(networks, images, prototypes=KINDS)
  params = begun.init(jax.random.key(0))
  head = params["prototypes"]
  probes = head["classes"]["probes"]
  same = (probes[:, None] == images[None]).all(-1)
  assert (same.sum(1) == 1).all()

  def mixed(weights):
    probs = jax.nn.softmax(TARGET.apply(weights, probes))
    mixture = head["mixture"]
    logits = confidence(probs) @ mixture["kernel"] + mixture["bias"]
    return jax.nn.softmax(logits)

  shares = np.asarray(jax.jit(jax.vmap(mixed))(networks.weights))
  assert (shares.max(1) > 0.9).all()
  chosen = shares.argmax(1)
  assert set(chosen) == set(range(KINDS))
  assert (chosen == chosen[np.arange(len(chosen)) % KINDS]).all()
  # The other parameters begin as without data.
  before = plain.init(jax.random.key(0))
  for tree in (before, params):
    del tree["prototypes"]["mixture"]
    del tree["prototypes"]["classes"]["probes"]
    del tree["prototypes"]["classes"]["keys"]
  jax.tree.map(np.testing.assert_array_equal, before, params)


def test_probes_of_one_output_begin_as_one_class():
  """Networks that distinguish four kinds of inputs, at outputs in any order."""
  target = sg.mlp((4, 4), "relu")
  orders = np.stack([np.random.RandomState(i).permutation(4) for i in range(9)])
  kernels = 9 * np.eye(4, dtype=np.float32)[:, orders].swapaxes(0, 1)
  networks = sg.Networks(
    ({"bias": np.zeros((9, 4), np.float32), "kernel": kernels},),
    jnp.zeros(9, int),
  )
  kinds = np.arange(40) % 4
  images = np.eye(4, dtype=np.float32)[kinds]
  _, begun = begin(networks, images, target, prototypes=1, probes=20)
  head = begun.init(jax.random.key(0))["prototypes"]["classes"]
  kind, keys = head["probes"].argmax(1), head["keys"]
  np.testing.assert_array_equal((keys > 0).sum(1), 1)
  np.testing.assert_allclose(keys.sum(0), data_init.CONTRAST, 1e-6)
  assert len(set(zip(kind.tolist(), keys.argmax(1).tolist(), strict=True))) == 4


def test_a_network_that_overflows_changes_nothing_else(networks, images):
  broken = jax.tree.map(lambda w: w.at[0].multiply(1e38), networks.weights)
  networks = networks._replace(weights=broken)
  _, begun = begin(networks, images, prototypes=KINDS + 1)
  head = begun.init(jax.random.key(0))["prototypes"]
  assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(head))


@pytest.mark.parametrize(("prototypes", "classes"), [(1, 0), (0, 0), (0, 4)])
def test_operators_without_classes_stay_unchanged(
  networks, images, prototypes, classes
):
  plain, begun = begin(
    networks, images, prototypes=prototypes, classes=classes, probes=128
  )
  assert begun is plain


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"prototypes": 1, "probes": 51}, "^probes is 51, .* images, 50"),
    ({"prototypes": 1, "classes": 9}, "^classes is 9, .* probes, 8"),
    ({"prototypes": 13}, "^prototypes is 13, .* networks, 12"),
  ],
)
def test_too_little_data(networks, images, arguments, message):
  with pytest.raises(InputError, match=message):
    begin(networks, images, **arguments)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_prototypes_of_a_basis_begin_as_networks(networks, images, activation):
  """Their functions, in the slots and the gauge of whatever is edited."""
  target = sg.mlp((6, 5, 4), activation)
  _, begun = begin(
    networks, images, target, prototypes=1, classes=0, basis=2, probes=6
  )
  params = begun.init(jax.random.key(0))
  head = params["prototypes"]
  head["gates"]["out"]["bias"] = jnp.full_like(head["gates"]["out"]["bias"], 99)
  for i in range(4):
    head[f"basis_{i}"] = jnp.zeros_like(head[f"basis_{i}"])

  @jax.jit
  def run(params, key):
    edited = begun.apply(params, target.init(key))
    outputs = jax.vmap(lambda w: target.apply(w, images))(networks.weights)
    return target.apply(edited, images), outputs

  written, outputs = map(np.asarray, run(params, jax.random.key(5)))
  assert np.abs(outputs - written[None]).max((1, 2)).min() < 1e-4
  np.testing.assert_allclose(
    head["prober"]["generator"]["outer"]["bias"], images.mean(0), 1e-4, 1e-5
  )


def test_more_prototypes_than_networks_of_a_basis(networks, images):
  with pytest.raises(InputError, match="training networks with relu, 12"):
    begin(
      networks, images, prototypes=13, classes=0, basis=2, probes=6
    )  # fmt: skip
