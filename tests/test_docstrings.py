"""The examples in docstrings print what they say."""

import doctest
import importlib
import pathlib

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [
  ".".join(path.relative_to(ROOT).with_suffix("").parts)
  for path in sorted((ROOT / "scalegmn_jax").rglob("*.py"))
  if "    >>> " in path.read_text()
]


def test_there_are_examples():
  assert len(MODULES) >= 3


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
  with jax.numpy_rank_promotion("allow"):
    result = doctest.testmod(importlib.import_module(module))
  assert result.attempted > 0 and result.failed == 0
