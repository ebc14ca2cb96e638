"""Operators and functionals of traced networks of many architectures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import Axes, InputError
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.graph.batch.schema import architecture_graph
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets import resnet
from tests.gmn.parameters import random_params
from tests.graph.traced import element, network, with_dead_neurons
from tests.symmetry.trace import test_networks

ONE_LAYER = {"width": 4, "depth": 1}
TWO_LAYERS = {"width": 4, "depth": 2}

# One per kind of part and of group: normalizations with running statistics,
# depthwise kernels and gates, concatenations after normalizations, attention
# with a tied embedding, neurons that keep their place, groups, recurrence.
NAMES = (
  "cnn",
  "resnet",
  "mobile",
  "dense_block",
  "gpt",
  "rotary",
  "shuffled",
  "lstm",
)


def on_host(f):
  """f, compiled, with results that are arrays of numpy: what is done with them
  compiles nothing."""
  compiled = jax.jit(f)
  return lambda *arguments: jax.device_get(compiled(*arguments))


def results_of(target, prototypes=0, **options):
  """weights -> (update of the operator, outputs of the functional). The layers
  of the functional are those of the operator, so it has only one."""
  operator = metanetworks.operator(target, prototypes=prototypes, **options)
  functional = metanetworks.functional(
    target, outputs=2, **options | {"depth": 1}
  )
  writes, reads = random_params(operator), random_params(functional)

  @on_host
  def results(weights):
    edited = operator.apply(writes, weights)
    return (
      jax.tree.map(jnp.subtract, edited, weights),
      functional.apply(reads, weights),
    )

  return results


def errors(target, results, weights, other, decades=1.0):
  """(error of each update, of the outputs in units of their spread)."""
  g = element(target.spec, 3, decades)
  update, outputs = results(weights)
  at_g, outputs_at_g = results(actions.act(g, target.spec, weights))
  moved = actions.act(g, target.spec, update)
  spread = np.std([outputs, *(results(w)[1] for w in other)], axis=0).min()
  assert spread > 1e-4
  for leaf in specs.trained(target.spec, update):
    assert np.abs(leaf).max() > 1e-3  # there is an update to measure
  return (
    jax.tree.leaves(jax.tree.map(relative, at_g, moved)),
    float(np.abs(outputs_at_g - outputs).max() / spread),
  )


def relative(a, b):
  """The relative difference of two arrays, 0 of zeros."""
  return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1))


def others(weights):
  rng = np.random.default_rng(5)
  return [
    jax.tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape), weights)
    for _ in range(3)
  ]


@pytest.mark.parametrize("name", NAMES)
def test_operators_and_functionals_have_the_symmetry(x64, name):
  target, weights = network(name)
  results = results_of(target, **TWO_LAYERS)
  for case in (weights, with_dead_neurons(target, weights)):
    updates, outputs = errors(target, results, case, others(weights), 2.0)
    assert max(updates) <= 1e-10 and outputs <= 1e-10


@pytest.mark.parametrize(
  ("bidirectional", "prototypes"), [(False, 0), (True, 0), (True, 1)]
)
def test_residual_networks_float32(bidirectional, prototypes):
  """With dead neurons and scales of zero, and in one direction as well."""
  target, weights = network("preactivation")
  dead = with_dead_neurons(target, weights)
  weights, dead, *more = jax.tree.map(
    np.float32, (weights, dead, *others(weights))
  )
  results = results_of(
    target,
    prototypes=prototypes,
    bidirectional=bidirectional,
    **ONE_LAYER if prototypes else TWO_LAYERS,
  )
  for case in (weights, dead):
    updates, outputs = errors(target, results, case, more)
    assert max(updates) <= 1e-4 and outputs <= 1e-4


@pytest.mark.parametrize("prototypes", [0, 1])
def test_gradients_are_finite_with_dead_neurons_and_scales_of_zero(
  x64, prototypes
):
  target, weights = network("preactivation")
  operator = metanetworks.operator(
    target, prototypes=prototypes, **ONE_LAYER if prototypes else TWO_LAYERS
  )
  params = random_params(operator)

  @jax.jit
  def gradients(params, weights):
    def loss(params, weights):
      edited = operator.apply(params, weights)
      return sum((w**2).sum() for w in jax.tree.leaves(edited))

    return jax.grad(loss, argnums=(0, 1))(params, weights)

  zeros = jax.tree.map(np.zeros_like, weights)
  for case in (with_dead_neurons(target, weights), zeros):
    for gradient in jax.tree.leaves(gradients(params, case)):
      assert np.isfinite(gradient).all()


def wrong_exponent(target):
  """The bias after a normalization as if it were before it."""
  before = target.spec.axes["stem"].axes[1]
  axes = {**target.spec.axes, "b": Axes((before,))}
  return target._replace(spec=dataclasses.replace(target.spec, axes=axes))


@pytest.mark.parametrize(
  ("change", "options"),
  [(wrong_exponent, {}), (lambda t: t, {"symmetry": "permutation"})],
  ids=["exponent", "permutation"],
)
def test_control_other_symmetries_fail(x64, change, options):
  target, weights = network("preactivation")
  functional = metanetworks.functional(change(target), **ONE_LAYER, **options)
  params = random_params(functional)
  read = on_host(lambda weights: functional.apply(params, weights))
  g = element(target.spec, 3)
  values = [read(w)[0] for w in (weights, *others(weights))]
  error = abs(read(actions.act(g, target.spec, weights))[0] - values[0])
  assert error > 1e-2 * np.std(values)


def with_gates(params, logit):
  """φ that replaces the same share of every weight."""
  gates = params["prototypes"]["gates"]
  out = jax.tree.map(np.zeros_like, gates["out"])
  out = out | {"bias": np.full_like(out["bias"], logit)}
  head = params["prototypes"] | {"gates": gates | {"out": out}}
  return params | {"prototypes": head}


# Normalizations with running statistics, an untied and a tied gauge before and
# after them; groups; a product of branches; heads and their dimensions; both
# ends of a concatenation.
WRITTEN = ("resnet", "preactivation", "group_norm", "gated", "vit", "dense_net")


@pytest.mark.parametrize("name", WRITTEN)
def test_prototypes_have_the_symmetry(x64, name):
  """Also with dead neurons. With gates of one, all networks have one function
  afterwards: nothing of a network remains but its symmetry."""
  target, weights = network(name)
  operator = metanetworks.operator(
    target, prototypes=1, width=4, depth=1, bidirectional=name != "resnet"
  )
  params, edit = random_params(operator), on_host(operator.apply)
  for case in (weights, with_dead_neurons(target, weights)):
    g = element(target.spec, 3, 2.0)
    at_g = edit(params, actions.act(g, target.spec, case))
    edited = edit(params, case)
    moved = actions.act(g, target.spec, edited)
    change = jax.tree.map(relative, edited, case)
    assert min(jax.tree.leaves(change)) > 1e-3
    assert max(jax.tree.leaves(jax.tree.map(relative, at_g, moved))) <= 1e-10
    for _, weight, axes in specs.leaves(target.spec, edited):
      assert not axes.statistic or weight.max() > 0

  *_, inputs, _ = test_networks.draw(name)
  replaced = with_gates(params, 99.0)
  edited = [edit(replaced, w) for w in (weights, *others(weights)[:1])]
  function = on_host(target.apply)
  # Functions of users add vectors to arrays of a higher rank.
  with jax.numpy_rank_promotion("allow"):
    expected, outputs = (function(w, inputs) for w in edited)
  assert np.ptp(expected) > 1e-2
  assert relative(outputs, expected) <= 1e-9


@pytest.mark.parametrize(
  ("change", "options"),
  [(wrong_exponent, {}), (lambda t: t, {"symmetry": "permutation"})],
  ids=["exponent", "permutation"],
)
def test_control_prototypes_of_other_symmetries_fail(x64, change, options):
  target, weights = network("preactivation")
  operator = metanetworks.operator(
    change(target), prototypes=1, width=4, depth=0, **options
  )
  params, edit = random_params(operator), on_host(operator.apply)
  g = element(target.spec, 3)
  at_g = edit(params, actions.act(g, target.spec, weights))
  moved = actions.act(g, target.spec, edit(params, weights))
  assert max(jax.tree.leaves(jax.tree.map(relative, at_g, moved))) > 1e-2


def test_running_statistics():
  """Messages leave them as they are; those of a prototype are as before
  training, and variances stay positive in between."""
  target = resnet.resnet((8, 8, 1), 3, (4,))
  rng = np.random.default_rng(0)
  weights = jax.tree.map(
    lambda w, axes: np.float32(rng.uniform(0.01, 9, w.shape))
    if axes.statistic else w,
    random_params(target), target.spec.axes,
  )  # fmt: skip

  def statistics(tree):
    return [
      (name, np.asarray(w))
      for name, w, axes in specs.leaves(target.spec, tree)
      if axes.statistic
    ]

  messages = metanetworks.operator(target, width=4, depth=1)
  edited = on_host(messages.apply)(random_params(messages), weights)
  for (_, new), (_, old) in zip(
    statistics(edited), statistics(weights), strict=True
  ):
    np.testing.assert_array_equal(new, old)
  assert relative(edited["stem"]["scale"], weights["stem"]["scale"]) > 1e-3

  operator = metanetworks.operator(target, width=4, depth=0, prototypes=1)
  params = jax.jit(operator.init)(jax.random.key(1))
  edit = on_host(operator.apply)
  for logit in (0.0, 99.0):
    written = edit(with_gates(params, logit), weights)
    for name, new in statistics(written):
      if name.endswith("variance"):
        assert (new > 0).all()
      if logit:
        expected = 1.0 if name.endswith("variance") else 0.0
        np.testing.assert_allclose(new, expected, 1e-6, 1e-6)
  # An untrained prototype is a reasonable network.
  x = np.float32(rng.normal(size=(20, 8, 8, 1)))
  outputs = on_host(target.apply)(written, x)
  assert 0.05 < outputs.std(0).mean() < 5 and np.abs(outputs).max() < 20


@pytest.mark.parametrize("name", ["resnet", "cnn"])
def test_batches_need_plain_networks_and_refuse_others_by_name(name):
  target, _ = network(name)
  with pytest.raises(InputError, match="^batches of several .*: weight "):
    architecture_graph(target)


def test_outputs_in_an_order_of_their_own_are_whole_axes():
  target, _ = network("gpt")
  with pytest.raises(InputError, match="^classes: no kernel ends at the last"):
    metanetworks.operator(target, prototypes=1, classes=3, probes=2)
