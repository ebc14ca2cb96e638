"""Configs of format 1 mean the same runs: their values and their hashes."""

import importlib
import json
import pathlib

import pytest

from experiments import build
from experiments.runner import formats

# Every config at the last commit with format 1, without the benchmark and
# scaling:tiny, whose sizes have changed. A variant is stored by its differences
# from the config without variants.
STORED = json.loads(
  pathlib.Path(__file__).with_name("configs_1.json").read_text()
)
NAMES = {
  "cnn": "cnn:one_task",
  "cnn:full": "cnn:one_task,full",
  "cnn:tiny": "cnn:one_task,tiny",
  "cnn:cifar10_gs_tanh": "cnn:cifar10_gs,tanh",
}
"""{name of format 1: name of today}, where they differ."""
FILES = {"many": "multi_task", "mixed": "multi_arch"}


def stored(name):
  """The config that format 1 wrote."""
  base = STORED[name.partition(":")[0]]["values"]
  changed = STORED[name].get("changed", {})
  removed = STORED[name].get("removed", ())
  values = {k: v for k, v in base.items() if k not in removed} | changed
  return formats.unflatten(values)


def current(name):
  file, _, variants = NAMES.get(name, name).partition(":")
  module = importlib.import_module(f"configs.{FILES.get(file, file)}")
  return module.get_config(variants)


def without_new_methods(config, old):
  """The config without rows of the table that format 1 does not have."""
  if "methods" in config:
    config.methods = tuple(m for m in config.methods if m in old["methods"])
  for section in {"learning_rates", "steps"} & set(config):
    for method in list(config[section]):
      if f"{section}.{method}" not in old:
        del config[section][method]
    if not config[section]:
      del config[section]
  return config


def with_defaults(flat, keys):
  name = flat["experiment"]
  return {key: flat.get(key, formats.default(key, name)) for key in keys}


@pytest.mark.parametrize("name", STORED)
def test_configs_have_the_values_and_the_hash_of_format_1(name):
  old = formats.flatten(formats.migrate(stored(name)))
  config = without_new_methods(current(name), old)
  new = formats.flatten(build.plain(config))
  keys = sorted(old.keys() | new.keys())
  assert with_defaults(old, keys) == with_defaults(new, keys)
  assert set(old) - set(new) == set()
  assert set(new) - set(old) <= set(formats.ADDED)
  assert build.config_hash(config) == STORED[name]["hash"]
  assert (
    formats.config_hash(formats.migrate(stored(name))) == (STORED[name]["hash"])
  )


def test_the_hash_ignores_presentation_only():
  config = current("mlp:tiny")
  before = build.config_hash(config)
  config.train.log_every = 7
  assert build.config_hash(config) == before
  config.train.seeds = (3,)
  assert build.config_hash(config) != before


@pytest.mark.parametrize(
  ("seeds", "count"),
  [((), 1), ((5, 6), 2), ((5, 6, 7), 3), ((5, 7), [5, 7]), ((5,), [5])],
)
def test_a_count_of_seeds(seeds, count):
  config = current("prune:tiny")
  config.seed = 5
  config.train.seeds = seeds
  values = build.plain(config)
  old = formats._downgrade(values)
  assert old["prune"]["seeds"] == count and "seeds" not in old["train"]
  if isinstance(count, int):
    again, new = (formats.flatten(v) for v in (formats.migrate(old), values))
    assert with_defaults(again, new) == new and again.keys() <= new.keys()


def test_migration_is_undone():
  for name in STORED:
    old = stored(name)
    assert formats._downgrade(formats.migrate(old)) == old


def test_tables():
  """An old name is new nowhere, and every entry has an effect."""
  old = {key for name in STORED for key in formats.flatten(stored(name))}
  for renamed in formats.RENAMED:
    assert any(formats._has_name(key, renamed.old) for key in old), renamed
  assert not formats.ADDED.keys() & formats.ADDED_IN_1.keys()
