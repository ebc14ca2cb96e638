"""What README and docs show runs as it stands, and what they name is there."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

import scalegmn_jax as sg
from scalegmn_jax import testing

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
  page
  for page in (README, *sorted((ROOT / "docs").glob("*.md")))
  if page.name != "names.md"  # it names the files of version 0.1
]


def test_python_blocks(capsys):
  blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
  assert len(blocks) == 3
  program = "\n".join(blocks)
  assert "steps=300" in program
  program = program.replace("steps=300", "steps=3")
  # The tests have a folder of their own for compiled programs.
  program = program.replace("sg.keep_compiled()", "")
  names = {}
  with jax.numpy_rank_promotion("allow"):
    exec(compile(program, str(README), "exec"), names)
  # Better weights in one call: what the comment says of the digits.
  printed = [float(line) for line in capsys.readouterr().out.split()[:2]]
  assert printed == pytest.approx([0.13, 0.98], abs=0.01)
  # Train an operator.
  edited = names["trained"](jax.tree.map(lambda a: a[0], names["zoo"]))
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(edited))
  # Your own network.
  weights = names["mine"].init(jax.random.key(0))
  params = jax.jit(names["edit"].init)(jax.random.key(1))
  edited = jax.jit(names["edit"].apply)(params, weights)
  assert jax.tree.map(jnp.shape, edited) == jax.tree.map(jnp.shape, weights)


def test_what_a_page_prints():
  page = (ROOT / "docs" / "your_network.md").read_text()
  program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
  (expected,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
  program = program.replace("print(target.explain())", "")
  names = {}
  with jax.numpy_rank_promotion("allow"):
    exec(compile(program, "net.py", "exec"), names)
  assert names["target"].explain() == expected.rstrip()


def test_a_symmetry_by_hand():
  page = (ROOT / "docs" / "your_network.md").read_text()
  program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
  names = {"jax": jax, "sg": sg}
  exec(compile(program, "net.py", "exec"), names)
  testing.assert_symmetric(names["mine"], jax.random.key(0))


def test_a_metanetwork_of_ones_own():
  page = (ROOT / "docs" / "your_layer.md").read_text()
  (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  with jax.numpy_rank_promotion("allow"):
    exec(compile(program, "mine.py", "exec"), {})


def test_the_reference_has_every_public_name():
  page = (ROOT / "docs" / "api.md").read_text()
  names = re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)
  ours = {n.removeprefix("scalegmn_jax.") for n in names if n.count(".") == 1}
  assert ours == set(sg.__all__) - {"__version__"}
  for name in names:
    module, _, member = name.rpartition(".")
    assert getattr(importlib.import_module(module), member).__doc__, name


def test_readme_is_one_page():
  assert len(README.read_text().splitlines()) <= 140


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_is_there(page):
  text = page.read_text()
  configs = re.findall(r"configs/\w+\.py", text)
  links = re.findall(r"\]\(((?!https?:)[^)#]+)", text)
  assert page != README or (configs and links)
  missing = [c for c in configs if not (ROOT / c).is_file()]
  missing += [f for f in links if not (page.parent / f).exists()]
  assert not missing


def test_the_page_on_merging():
  page = (ROOT / "docs" / "merge.md").read_text()
  program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
  names = {}
  exec(compile(program, "merge.py", "exec"), names)
  found, a = names["found"], names["a"]
  assert 0 < found.similarity < 1
  for name in ("average", "soup"):
    shapes = jax.tree.map(jnp.shape, names[name])
    assert shapes == jax.tree.map(jnp.shape, a)
