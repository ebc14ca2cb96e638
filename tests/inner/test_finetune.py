"""Iterative baselines: tuned, and as good as they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.baselines import constant
from scalegmn_jax.eval import scores
from scalegmn_jax.inner import finetune, losses
from scalegmn_jax.targets import mlp

TARGET = mlp.mlp((4, 6, 3))


def problem():
  keys = jax.random.split(jax.random.key(0), 3)
  zoo = Networks(jax.vmap(TARGET.init)(keys), jnp.zeros(3, jnp.int32))
  x = jax.random.normal(jax.random.key(1), (48, 4))
  return zoo, (x, x[:, :3].argmax(1).astype(jnp.int32))


def tuner(schedule="constant", optimizer="adam"):
  return finetune.fine_tuner(
    TARGET, optimizer=optimizer, schedule=schedule, l1=1e-3, batch_size=16
  )


@pytest.mark.parametrize("schedule", finetune.SCHEDULES)
def test_the_grid_grows_towards_the_best_rate(schedule):
  """From rates that are all too small."""
  zoo, data = problem()
  score = scores.make_scorer(TARGET, l1=1e-3)

  def objective(zoo):
    return jnp.asarray(score(zoo, *data).objective)

  key = jax.random.key(2)
  tuned = finetune.tune_learning_rates(
    tuner(schedule), zoo, (1e-4, 1e-3), (1, 4), key, data, objective,
    extensions=2,
  )  # fmt: skip
  np.testing.assert_allclose(sorted(tuned.objective), [1e-4, 1e-3, 1e-2, 0.1])
  assert tuned.rates[4] >= 1e-2
  for horizon, rate in tuned.rates.items():
    best = min(values[horizon] for values in tuned.objective.values())
    assert tuned.objective[rate][horizon] == best
  results = finetune.run_at_tuned_rates(tuner(schedule), tuned, zoo, key, data)
  assert list(results) == [1, 4]
  # The same networks and minibatches as in tuning: the same objective.
  again = objective(zoo._replace(weights=results[4])).mean()
  assert float(again) == pytest.approx(
    tuned.objective[tuned.rates[4]][4], rel=1e-4
  )
  assert float(again) < float(objective(zoo).mean())


def test_constants():
  zoo, data = problem()
  score = scores.make_scorer(TARGET, l1=1e-3)

  def objective(zoo):
    return jnp.asarray(score(zoo, *data).objective)

  values = objective(zoo)
  best = constant.best_network(zoo, values)
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


def test_a_constant_is_measured_on_the_tasks_of_others():
  zoo, (x, y) = problem()
  classes = jnp.array([[1, 2, 0], [2, 0, 1], [0, -1, 1]])
  tasks = zoo._replace(class_to_output=classes)
  found = constant.mean_objectives(TARGET, l1=1e-3)(zoo, tasks, x, y)
  measure = losses.finetune_losses(TARGET, l1=1e-3)
  for i in range(3):
    one = jax.tree.map(lambda a, i=i: a[i : i + 1], zoo)
    one = constant.replace_all(one, tasks)
    np.testing.assert_array_equal(one.class_to_output, classes)
    each = jax.lax.map(lambda n: measure(n, x, y).objective, one)
    np.testing.assert_allclose(found[i], each.mean(), 1e-5)


def test_a_network_for_the_tasks_of_others_answers_as_often_as_they():
  """Classes 0 and 1 are exchanged in a quarter of the tasks, 2 in none."""
  zoo, (x, y) = problem()
  zoo = jax.tree.map(lambda a: a[:1], zoo)
  tasks = constant.repeat_network(zoo, 4)
  classes = jnp.array([[1, 0, 2], *[[0, 1, 2]] * 3])
  mixed = finetune.fine_tuner(
    TARGET, optimizer="adam", schedule="cosine", l1=0.0, batch_size=16,
    tasks=tasks._replace(class_to_output=classes),
  )  # fmt: skip
  weights = mixed.run(zoo, jnp.array([0.05]), [150], jax.random.key(0), (x, y))[
    150
  ]
  logits = TARGET.apply(jax.tree.map(lambda a: a[0], weights), x)
  p = np.asarray(jax.nn.softmax(logits))
  means = np.stack([p[np.asarray(y) == k].mean(0) for k in range(3)])
  expected = [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]]
  np.testing.assert_allclose(means, expected, atol=0.12)
