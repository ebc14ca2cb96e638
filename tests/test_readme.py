"""What the README shows runs as it stands."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_python_block():
  (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
  names = {}
  with jax.numpy_rank_promotion("allow"):
    exec(compile(code, str(README), "exec"), names)
  assert jax.tree.map(jnp.shape, names["better"]) == jax.tree.map(
    jnp.shape, names["network"]
  )
  for gradient in jax.tree.leaves(names["gradient"]):
    assert jnp.isfinite(gradient).all()
  assert names["score"].shape == (1,)


@pytest.mark.parametrize(
  "name", sorted(set(re.findall(r"configs/\w+\.py", README.read_text())))
)
def test_named_configs_exist(name):
  assert (README.parent / name).is_file()
