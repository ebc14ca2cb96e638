"""Operators that experiments compare: what each is made of."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import cnn as config
from experiments.writers import WRITERS, Writing
from scalegmn_jax.base import Networks
from scalegmn_jax.targets.cnn import cnn


@pytest.mark.parametrize(
  ("name", "learned"),
  [("scalegmn", True), ("basis", True), ("forward", False),
   ("bidirectional", False), ("permutation", False)],
)  # fmt: skip
def test_rows_of_messages_have_no_learned_network(name, learned):
  """Also where the config has one, and probes of another number."""
  target = cnn((4, 4, 1), (4, 4), 3, 2, "SAME", "average", 3, ("relu",))
  weights = jax.jit(jax.vmap(target.init))(jax.random.split(jax.random.key(0)))
  model = config.get_config("one_task").model.to_dict() | {"probes": 16}
  if name == "scalegmn":  # which reads no probes without classes
    del model["probes"]
  writing = Writing(
    target,
    Networks(weights, np.zeros(2, int)),
    np.zeros((5, 4, 4, 1), np.float32),
    model,
    basis=2,
    probes=4,
    seed=0,
  )
  operator = WRITERS[name].make(writing)
  params = jax.eval_shape(operator.init, jax.random.key(0))
  names = {part for path in flatten_dict(params) for part in path}
  assert ("prototypes" in names) == learned
