"""One operator for several edits: what they share, and that each learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scalegmn_jax as sg
from scalegmn_jax.base import InputError, leaf_name
from scalegmn_jax.baselines.constant import constant_operator
from scalegmn_jax.gmn.conditional import conditional, is_own
from scalegmn_jax.training.objectives import rendering_objective
from scalegmn_jax.training.step import init_state, make_step

TARGET = sg.mlp((2, 4, 1), "sine")


@pytest.fixture(scope="module")
def operator():
  return sg.operator(TARGET, width=4, depth=1, bidirectional=False)


@pytest.fixture(scope="module")
def params(operator):
  return jax.jit(conditional(operator, 3).init)(jax.random.key(0))


def test_kernels_are_shared_and_all_else_is_not(operator, params):
  one = jax.eval_shape(operator.init, jax.random.key(0))
  paths = jax.tree_util.tree_leaves_with_path(one)
  names = {leaf_name(path): leaf.shape for path, leaf in paths}
  own = {name for name in names if not name.endswith("kernel")}
  assert own == {name for name in names if is_own(name)}
  assert set(params["shared"]) == set(names) - own
  assert [set(mine) for mine in params["own"].values()] == [own] * 3
  assert {n: a.shape for n, a in params["own"]["2"].items()} == {
    n: names[n] for n in own
  }


def test_a_traced_number_selects_the_same_parameters(operator, params):
  select = conditional(operator, 3).select
  params = params | {
    "own": {
      edit: jax.tree.map(lambda a, e=edit: a + int(e), mine)
      for edit, mine in params["own"].items()
    }
  }
  traced = jax.jit(select)
  for edit in range(3):
    expected = select(params, edit)
    jax.tree.map(np.testing.assert_array_equal, traced(params, edit), expected)
    np.testing.assert_array_equal(
      expected["step"], params["own"][str(edit)]["step"]
    )


def test_one_edit_has_the_parameters_of_the_operator(operator):
  several = conditional(operator, 1)
  assert several.init is operator.init
  assert several.select("φ", 0) == "φ"
  with pytest.raises(InputError, match="edits is 0, expected at least 1"):
    conditional(operator, 0)
  for count in (1, 3):
    with pytest.raises(
      InputError, match=f"edit is 3, expected 0 to {count - 1}"
    ):
      conditional(operator, count).select({}, 3)


def test_each_edit_is_learned():
  """A constant cannot share: φ of an edit becomes what its values ask for."""
  several = conditional(constant_operator(TARGET), 2, own=lambda name: True)
  weights = jax.jit(TARGET.init)(jax.random.key(0))
  networks = sg.Networks(
    jax.tree.map(lambda a: a[None], weights), jnp.zeros(1, int)
  )
  inputs = jax.random.normal(jax.random.key(1), (5, 2))
  rendered = TARGET.apply(weights, inputs)
  data = networks, jnp.stack([rendered + 1, rendered - 1])[:, None], inputs
  objective = rendering_objective(several, TARGET, batch_networks=4)
  optimizer = optax.adam(0.1)
  step = make_step(objective, optimizer)
  state = init_state(jax.jit(several.init)(jax.random.key(0)), optimizer)
  for i in range(60):
    state, _ = step(state, jax.random.key(i), data)
  for edit, wanted in enumerate((1, -1)):
    edited = several.apply(state.params, weights, edit=edit)
    change = TARGET.apply(edited, inputs) - rendered
    np.testing.assert_allclose(change, wanted, atol=0.2)
