"""What tasks draw, and where their losses are least."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalegmn_jax.base import InputError, MetaNetwork, Zoo
from scalegmn_jax.training import step, tasks

# A metanetwork that adds up the weights of its network, and a bias.
SUM = MetaNetwork(
  lambda key: jnp.zeros(1),
  lambda params, weights, activation: params + weights["w"].sum(),
)
VALUES = jnp.array([0.1, 0.2, 0.9])


def data(weights):
  return Zoo({"w": weights}, jnp.arange(3)), VALUES


def test_networks_are_drawn_with_their_values():
  task = tasks.regression_task(SUM, networks=50)
  (zoo, values), shared = task.draw(
    jax.random.key(0), data(10 * VALUES[:, None])
  )
  assert shared == ()
  np.testing.assert_allclose(zoo.weights["w"][:, 0], 10 * values, 1e-6)
  np.testing.assert_array_equal(VALUES[zoo.activation], values)
  assert len(set(values.tolist())) == 3


@pytest.mark.parametrize("loss", tasks.REGRESSION)
def test_the_best_constant_is_the_mean(loss):
  """So both losses predict the expected value, not a median or a mode."""
  task = tasks.regression_task(SUM, networks=3, loss=loss)
  batch = data(jnp.zeros((3, 1)))

  def objective(params):
    return jax.vmap(lambda item: task.loss(params, item, ())[0])(batch).mean()

  mean = VALUES.mean()
  logit = jnp.log(mean / (1 - mean))[None]
  np.testing.assert_allclose(jax.grad(objective)(logit), 0, atol=1e-7)
  assert abs(jax.grad(objective)(logit + 0.1)) > 1e-3


def test_metrics_say_the_error_of_the_prediction():
  task = tasks.regression_task(SUM, networks=3)
  _, metrics = step.gradient(task)(
    jnp.zeros(1), jax.random.key(0), data(jnp.zeros((3, 1)))
  )
  (_, values), _ = task.draw(jax.random.key(0), data(jnp.zeros((3, 1))))
  np.testing.assert_allclose(
    metrics["squared_error"], np.square(values - 0.5).mean(), 1e-6
  )


def test_unknown_loss():
  with pytest.raises(InputError, match="loss.name is 'l1'"):
    tasks.regression_task(SUM, networks=3, loss="l1")
