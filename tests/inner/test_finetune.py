"""Fine-tuning by gradient descent and constant baselines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import constant
from scalegmn_jax.eval import scores
from scalegmn_jax.inner import finetune, losses
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.targets import mlp, resnet

TARGET = mlp.mlp((4, 6, 3))


def problem():
  keys = jax.random.split(jax.random.key(0), 3)
  networks = Networks(jax.vmap(TARGET.init)(keys), jnp.zeros(3, jnp.int32))
  x = jax.random.normal(jax.random.key(1), (48, 4))
  return networks, (x, x[:, :3].argmax(1).astype(jnp.int32))


def tuner(schedule="constant", optimizer="adam"):
  return finetune.fine_tuner(
    TARGET, optimizer=optimizer, schedule=schedule, l1=1e-3, batch_size=16
  )


@pytest.mark.parametrize("schedule", finetune.SCHEDULES)
def test_the_grid_grows_towards_the_best_rate(schedule):
  """The initial rates are all too small."""
  networks, data = problem()
  score = scores.make_scorer(TARGET, l1=1e-3)

  def objective(networks):
    return jnp.asarray(score(networks, *data).objective)

  key = jax.random.key(2)
  tuned = finetune.tune_learning_rates(
    tuner(schedule), networks, (1e-4, 1e-3), (1, 4), key, data, objective,
    extensions=2,
  )  # fmt: skip
  np.testing.assert_allclose(sorted(tuned.objective), [1e-4, 1e-3, 1e-2, 0.1])
  assert tuned.rates[4] >= 1e-2
  for horizon, rate in tuned.rates.items():
    best = min(values[horizon] for values in tuned.objective.values())
    assert tuned.objective[rate][horizon] == best
  results = finetune.run_at_tuned_rates(
    tuner(schedule), tuned, networks, key, data
  )
  assert list(results) == [1, 4]
  # The same networks and minibatches as in tuning: the same objective.
  again = objective(networks._replace(weights=results[4])).mean()
  assert float(again) == pytest.approx(
    tuned.objective[tuned.rates[4]][4], rel=1e-4
  )
  assert float(again) < float(objective(networks).mean())


def test_constants():
  networks, data = problem()
  score = scores.make_scorer(TARGET, l1=1e-3)

  def objective(networks):
    return jnp.asarray(score(networks, *data).objective)

  values = objective(networks)
  best = constant.best_network(networks, values)
  assert objective(best)[0] == values.min()
  weights = constant.train_offline(
    tuner(), best, (1e-3, 1e-2), 5, jax.random.key(0), data, objective
  )
  assert objective(best._replace(weights=weights))[0] < values.min()
  assert constant.repeat_network(best, 4).activation.shape == (4,)


def test_unknown_methods():
  with pytest.raises(InputError, match="'lbfgs'"):
    tuner(optimizer="lbfgs")
  with pytest.raises(InputError, match="'linear'"):
    tuner(schedule="linear")


def test_mean_objectives_over_labels_of_other_networks():
  networks, (x, y) = problem()
  classes = jnp.array([[1, 2, 0], [2, 0, 1], [0, -1, 1]])
  others = networks._replace(class_to_output=classes)
  means = constant.mean_objectives(TARGET, l1=1e-3)(networks, others, x, y)
  measure = losses.finetune_losses(TARGET, l1=1e-3)
  for i in range(3):
    one = constant.replace_all(networks.take(slice(i, i + 1)), others)
    np.testing.assert_array_equal(one.class_to_output, classes)
    values = jax.lax.map(lambda n: measure(n, x, y).objective, one)
    np.testing.assert_allclose(means[i], values.mean(), 1e-5)


def test_supervision_by_other_networks_gives_their_mean():
  """A quarter of the networks exchanges classes 0 and 1."""
  networks, (x, y) = problem()
  networks = networks.take(slice(1))
  others = constant.repeat_network(networks, 4)
  classes = jnp.array([[1, 0, 2], *[[0, 1, 2]] * 3])
  mixed = finetune.fine_tuner(
    TARGET, optimizer="adam", schedule="cosine", l1=0.0, batch_size=16,
    supervision=others._replace(class_to_output=classes),
  )  # fmt: skip
  weights = mixed.run(
    networks, jnp.array([0.05]), [150], jax.random.key(0), (x, y)
  )[150]
  logits = TARGET.apply(jax.tree.map(lambda a: a[0], weights), x)
  p = np.asarray(jax.nn.softmax(logits))
  means = np.stack([p[np.asarray(y) == k].mean(0) for k in range(3)])
  expected = [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]]
  np.testing.assert_allclose(means, expected, atol=0.12)


def test_running_statistics_follow_the_images():
  """Without a step of the other weights they move to those of the images."""
  target = resnet.resnet((3, 3, 1), 2, widths=(2,))
  x = 5 + jax.random.normal(jax.random.key(1), (32, 3, 3, 1))
  weights = target.init(jax.random.key(0))
  networks = Networks(
    jax.tree.map(lambda w: w[None], weights), jnp.zeros(1, jnp.int32)
  )
  still = finetune.fine_tuner(
    target, optimizer="adam", schedule="constant", l1=1e-3, batch_size=32
  )
  after = still.run(
    networks, jnp.zeros(1), [150], jax.random.key(2), (x, jnp.arange(32) % 2)
  )[150]
  after = jax.tree.map(lambda w: w[0], after)
  balanced = gauge.balance(target.spec, weights)
  expected = target.in_training(balanced, x)[0]
  np.testing.assert_allclose(target.apply(after, x), expected, 1e-3, 1e-4)
  assert not np.allclose(target.apply(balanced, x), expected, rtol=0.1)
