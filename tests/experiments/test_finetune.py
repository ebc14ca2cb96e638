"""What a method costs, and which network a rival begins with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.finetune import methods as methods
from experiments.finetune import report as pictures
from scalegmn_jax.base import Networks
from scalegmn_jax.targets import mlp


def test_epochs_after_a_method_add_to_its_seconds():
  first = methods.Seconds(alone=1.0, batched=0.25)
  after = first.then(3, methods.Seconds(alone=2.0, batched=0.5))
  assert after == methods.Seconds(alone=7.0, batched=1.75)


def test_a_rival_is_pretrained_on_a_task_of_many_outputs():
  """Not on an easy one, of whatever objective."""
  target = mlp.mlp((3, 4, 3))
  weights = jax.vmap(target.init)(jax.random.split(jax.random.key(0), 4))
  classes = np.array([[0, 1, 1], [0, 2, 1], [1, 0, 2], [0, -1, 1]])
  zoo = Networks(weights, jnp.zeros(4, jnp.int32), classes)
  objective = jnp.array([0.1, 0.5, 0.4, 0.2])
  best = methods.of_most_outputs(zoo, objective)
  np.testing.assert_array_equal(best.class_to_output, classes[2:3])
  best = methods.of_most_outputs(zoo._replace(class_to_output=None), objective)
  np.testing.assert_array_equal(
    best.weights[0]["kernel"], weights[0]["kernel"][:1]
  )


@pytest.mark.parametrize("with_last_layer", [True, False])
def test_verdicts_are_of_what_was_measured(with_last_layer):
  objectives = {
    "balanced": 1.0, "one shot": 0.75, "Adam, 10 epochs": 0.8,
    "Adam, 20 epochs": 0.7, "one shot + Adam, 1 epoch": 0.6,
  }  # fmt: skip
  if with_last_layer:
    objectives["one shot + last layer"] = 0.65
  lines = pictures.verdicts(
    [{"method": m, "objective": o} for m, o in objectives.items()]
  )
  assert (
    lines
    == [
      "One shot gains 83% of what 20 epochs of tuned Adam gain",
      "One shot is worth 15.0 epochs of tuned Adam",
      "One shot + last layer is worth more than 20 epochs of tuned Adam",
    ][: 2 + with_last_layer]
  )
