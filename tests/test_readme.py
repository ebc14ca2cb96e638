"""What the README shows runs as it stands, and what it names is there."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "experiments" / "RESULTS.md"]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_is_there(page):
  text = page.read_text()
  configs = re.findall(r"configs/\w+\.py", text)
  links = re.findall(r"\]\(((?!https?:)[^)#]+)", text)
  assert configs and links
  missing = [c for c in configs if not (ROOT / c).is_file()]
  missing += [f for f in links if not (page.parent / f).exists()]
  assert not missing
