"""Training objectives: the batches that they draw, the minima of losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks, Operator
from scalegmn_jax.gmn.conditional import conditional
from scalegmn_jax.graph.batch import pack, schema
from scalegmn_jax.inner import losses
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.training import objectives, step

# A metanetwork that adds up the weights of its network, and a bias.
SUM = Operator(
  lambda key: jnp.zeros(1),
  lambda params, weights, activation: params + weights["w"].sum(),
)
# An operator that leaves networks as they are.
IDENTITY = Operator(lambda key: (), lambda params, weights, _: weights)
VALUES = jnp.array([0.1, 0.2, 0.9])


def data(weights):
  return Networks({"w": weights}, jnp.arange(3)), VALUES


def test_networks_are_drawn_with_their_values():
  objective = objectives.regression_objective(SUM, batch_networks=50)
  (networks, values), shared = objective.draw(
    jax.random.key(0), 0, data(10 * VALUES[:, None])
  )
  assert shared == ()
  np.testing.assert_allclose(networks.weights["w"][:, 0], 10 * values, 1e-6)
  np.testing.assert_array_equal(VALUES[networks.activation], values)
  assert len(set(values.tolist())) == 3


@pytest.mark.parametrize("loss", objectives.REGRESSION)
def test_the_best_constant_is_the_mean(loss):
  """Both losses predict the expected value, not a median or a mode."""
  objective = objectives.regression_objective(SUM, batch_networks=3, loss=loss)
  batch = data(jnp.zeros((3, 1)))

  def mean_loss(params):
    return jax.vmap(lambda item: objective.loss(params, item, ())[0])(
      batch
    ).mean()

  mean = VALUES.mean()
  logit = jnp.log(mean / (1 - mean))[None]
  np.testing.assert_allclose(jax.grad(mean_loss)(logit), 0, atol=1e-7)
  assert abs(jax.grad(mean_loss)(logit + 0.1)) > 1e-3


def test_metrics_say_the_error_of_the_prediction():
  objective = objectives.regression_objective(SUM, batch_networks=3)
  _, metrics = step.gradient(objective)(
    jnp.zeros(1), jax.random.key(0), 0, data(jnp.zeros((3, 1)))
  )
  (_, values), _ = objective.draw(jax.random.key(0), 0, data(jnp.zeros((3, 1))))
  np.testing.assert_allclose(
    metrics["squared_error"], np.square(values - 0.5).mean(), 1e-6
  )


def batch_of(values, real):
  """A batch with `globals` only."""
  graph = pack.blank_batch(WORDS).graph._replace(
    globals={"value": jnp.asarray(values), "real": jnp.asarray(real)}
  )
  return pack.GraphBatch(graph, pack.blank_batch(WORDS).sections, WORDS)


WORDS = schema.schema_of([schema.architecture_graph(mlp((1, 2, 1)))])
# The logit of every network is φ.
SAME = Operator(
  lambda key: jnp.zeros(()),
  lambda params, batch: jnp.full((len(batch.graph.globals["real"]), 1), params),
)


def test_of_a_batch_padding_does_not_count():
  objective = objectives.batch_regression_objective(SAME, loss="squared_error")
  compute = jax.jit(step.gradient(objective, grad_chunk=1))
  values = [*VALUES.tolist(), 0.7, 5.0]
  for real, counted in ((3, VALUES), (4, jnp.array(values[:4]))):
    batch = batch_of(values, [True] * real + [False] * (5 - real))
    result, metrics = compute(jnp.float32(0.3), jax.random.key(0), 0, batch)
    predicted = jax.nn.sigmoid(0.3)
    expected = np.square(predicted - counted).mean()
    np.testing.assert_allclose(metrics["objective"], expected, 1e-6)
    np.testing.assert_allclose(metrics["squared_error"], expected, 1e-6)
    slope = 2 * (predicted - counted.mean()) * predicted * (1 - predicted)
    np.testing.assert_allclose(result, slope, 1e-5)


@pytest.mark.parametrize(
  "objective",
  (
    functools.partial(objectives.regression_objective, batch_networks=3),
    objectives.batch_regression_objective,
  ),
)
def test_unknown_loss(objective):
  with pytest.raises(InputError, match="loss is 'l1'"):
    objective(SUM, loss="l1")


def test_classes_come_with_their_networks_and_are_varied_alone():
  """A metanetwork that outputs the class has loss 0 and accuracy 1."""
  labels = jnp.array([2, 0, 1])
  networks = Networks({"w": 10.0 * jax.nn.one_hot(labels, 3)}, jnp.arange(3))
  reads = Operator(
    lambda key: jnp.ones(()),
    lambda params, weights, activation: params * weights["w"],
  )

  def scaled(key, weights):
    return {"w": weights["w"] * jax.random.uniform(key, minval=1.0, maxval=2.0)}

  for vary in (None, scaled):
    objective = objectives.classification_objective(
      reads, batch_networks=20, vary=vary
    )
    (drawn, result), shared = objective.draw(
      jax.random.key(0), 0, (networks, labels)
    )
    np.testing.assert_array_equal(drawn.weights["w"].argmax(1), result)
    sizes = len(np.unique(drawn.weights["w"].max(1)))
    assert sizes == 1 if vary is None else sizes > 10
    batched = jax.jit(jax.vmap(objective.loss, (None, 0, None)))
    for params, accuracy in ((1.0, 1), (-1.0, 0)):
      _, values = batched(params, (drawn, result), shared)
      assert values["accuracy"].mean() == accuracy
      assert (values["objective"] < 1e-3).all() == bool(accuracy)


def test_rendering_is_measured_at_the_inputs_with_each_networks_own_values():
  target = mlp((2, 4, 1), "sine")
  keys = jax.random.split(jax.random.key(0), 3)
  networks = Networks(jax.jit(jax.vmap(target.init))(keys), jnp.zeros(3, int))
  inputs = jax.random.normal(jax.random.key(1), (7, 2))
  apply = jax.jit(jax.vmap(target.apply, (0, None)))
  values = apply(networks.weights, inputs)
  # An operator that adds φ to the last bias: the error is φ².
  operator = Operator(
    lambda key: jnp.zeros(()),
    lambda params, weights, activation: (
      weights[0],
      weights[1] | {"bias": weights[1]["bias"] + params},
    ),
  )
  objective = objectives.rendering_objective(
    conditional(operator, 1), target, batch_networks=10
  )
  items, shared = objective.draw(
    jax.random.key(2), 0, (networks, values[None], inputs)
  )
  np.testing.assert_array_equal(shared, inputs)
  batched = jax.jit(jax.vmap(objective.loss, (None, 0, None)))
  for params in (0.0, 0.3):
    result, _ = batched(params, items, shared)
    np.testing.assert_allclose(result, params**2, rtol=1e-4, atol=1e-12)
  mixed = (*items[:2], items[2][::-1])
  wrong, _ = batched(0.0, mixed, shared)
  assert wrong.mean() > 1e-4


def test_images_of_network_specific_labels():
  """Each network gets images of its own classes, and all of these."""
  target = mlp((4, 3))
  objective = objectives.amortized_objective(
    IDENTITY,
    losses.finetune_losses(target, l1=0.0),
    batch_networks=2,
    batch_images=40,
  )
  keys = jax.random.split(jax.random.key(0), 2)
  weights = jax.jit(jax.vmap(target.init))(keys)
  classes = jnp.array([[0, -1, 2], [-1, 1, 0]])
  networks = Networks(weights, jnp.arange(2), classes)
  labels = jnp.array([0, 1, 2, 1, 0, 2])
  x = jax.random.normal(jax.random.key(1), (6, 4))
  (networks, rows), shared = objective.draw(
    jax.random.key(2), 0, (networks, x, labels)
  )
  for own, chosen in zip(networks.class_to_output, rows, strict=True):
    inside = np.flatnonzero(own[labels] >= 0)
    assert sorted(set(chosen.tolist())) == inside.tolist()
  item = jax.tree.map(lambda a: a[0], (networks, rows))
  _, metrics = jax.jit(objective.loss)((), item, shared)
  own = networks.class_to_output[0][labels[rows[0]]]
  logits = target.apply(item[0].weights, x[rows[0]])
  accuracy = (logits.argmax(1) == own).mean()
  np.testing.assert_allclose(metrics["accuracy"], accuracy, 1e-6)


@pytest.mark.parametrize("own_labels", [False, True])
def test_noise_of_images(own_labels):
  """Noise with this standard deviation in each step; none for 0."""

  def of_network(network, x, y):
    del network, y
    one = jnp.float32(1)
    return losses.Losses(x.std(), x.ravel()[0], one, one)

  classes = jnp.array([[0, 1]] * 3) if own_labels else None
  networks = Networks({"w": jnp.ones((3, 1))}, jnp.zeros(3, jnp.int32), classes)
  data = (networks, jnp.zeros((4, 50)), jnp.zeros(4, jnp.int32))

  def values(key, noise):
    objective = objectives.amortized_objective(
      IDENTITY, of_network, batch_networks=2, batch_images=40, image_noise=noise
    )

    @jax.jit
    def of_batch(key):
      batch, shared = objective.draw(key, jnp.int32(0), data)
      return jax.vmap(lambda item: objective.loss((), item, shared))(batch)[1]

    metrics = of_batch(jax.random.key(key))
    return metrics["objective"], metrics["cross_entropy"]

  std, pixel = values(0, 0.3)
  assert std == pytest.approx(0.3, rel=0.1)
  assert (values(1, 0.3)[1] != pixel).all()
  assert (values(0, 0.0)[0] == 0).all()


def test_the_penalty_comes_in_late():
  def of_network(network, x, y):
    del x, y
    ce, penalty = network.weights["w"].sum(), jnp.float32(10)
    return losses.Losses(ce + 0.5 * penalty, ce, penalty, jnp.float32(1))

  networks = Networks({"w": jnp.ones((3, 1))}, jnp.zeros(3, jnp.int32))
  data = (networks, jnp.zeros((4, 2)), jnp.zeros(4, jnp.int32))

  def value(number, **ramp):
    objective = objectives.amortized_objective(
      IDENTITY, of_network, batch_networks=2, batch_images=2, **ramp
    )
    batch, shared = objective.draw(jax.random.key(0), jnp.int32(number), data)
    first = jax.tree.map(lambda a: a[0], batch)
    result, metrics = objective.loss((), first, shared)
    assert metrics["objective"] == 6
    return float(result)

  assert value(0) == 6
  counted = [value(n, ramp=(10, 20)) for n in (0, 10, 15, 20, 99)]
  assert counted == pytest.approx([1, 1, 3.5, 6, 6])
