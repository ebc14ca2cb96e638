"""Help of the command line programs, made from the configs and the schema."""

import ast
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from experiments.bench.keys import KEYS as BENCH
from experiments.build import schema
from experiments.runner import experiment
from experiments.runner.formats import flatten

CONFIGS = Path(__file__).parents[2] / "configs"

WIDTH = 80


def define_flags() -> None:
  """Defines --help, and --list for a program that has --config."""
  if "help" in flags.FLAGS:  # a program that starts twice in one process
    return
  meaning = "Show this text."
  if "config" in flags.FLAGS:
    meaning = "Show this text; with --config, the keys of the config."
    flags.DEFINE_bool("list", False, "Show configs, variants and experiments.")
  flags.DEFINE_bool("help", False, meaning, short_name="h")


def text(program: str | None) -> str | None:
  """What --help or --list asks for; None without these flags.

  Args:
    program: docstring of the program.
  """
  if "list" in flags.FLAGS and flags.FLAGS.list:
    return configs()
  if not flags.FLAGS.help:
    return None
  config = flags.FLAGS.config if "config" in flags.FLAGS else None
  if config is None:
    return usage(program or "")
  return keys(config, keys_of(config))


def keys_of(config: ConfigDict) -> schema.Keys:
  """The table of keys that a config is checked against."""
  if "experiment" not in config:
    return BENCH
  return experiment.keys_of(experiment.load_module(config.experiment))


def usage(program: str) -> str:
  """The docstring of a program, and its flags."""
  lines = [program.strip(), "", "Flags:"]
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    if module == sys.argv[0] or module.startswith("experiments."):
      for flag in defined:
        lines += _entry(f"--{flag.name}", flag.help or "")
  return "\n".join(lines)


def keys(config: ConfigDict, table: schema.Keys) -> str:
  """The keys of a config with their values, meanings and possible values.

  Args:
    config: a config with its variants and flags.
    table: its keys.
  """
  lines = []
  for name, value in flatten(config.to_dict()).items():
    key = schema.find(table, name)
    meaning = f"{key.doc} [{key.kind.expected}]" if key else ""
    lines += _entry(f"--config.{name}={schema.shown(value)}", meaning)
  return "\n".join(lines)


def _entry(head: str, meaning: str) -> list[str]:
  indent = " " * 6
  return [
    f"  {head}",
    *textwrap.wrap(
      meaning, WIDTH, initial_indent=indent, subsequent_indent=indent
    ),
  ]


def configs() -> str:
  """The config files with their variants, and the experiments."""
  lines = ["Configs, and their variants after a colon:"]
  for file in config_files():
    module = importlib.import_module(f"configs.{file.stem}")
    title = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")
    lines += _entry(f"--config=configs/{file.name}", title[0])
    lines += _entry("", ", ".join(f":{name}" for name in module.VARIANTS))[1:]
  lines += ["", "Experiments, values of config.experiment:"]
  names = ", ".join(experiment.list_experiments())
  lines += _entry("", f"{names}, or the dotted name of a module")[1:]
  return "\n".join(lines)


def find_config(path: str) -> str:
  """A path such as "configs/cnn.py", beside the programs if it is not here."""
  beside = CONFIGS.parent / path
  return path if Path(path).exists() or not beside.exists() else str(beside)


def config_name(file: str) -> str:
  """The path of a config, from its repository if it is one of this."""
  return file.removeprefix(f"{CONFIGS.parent}/")


def config_files() -> Iterator[Path]:
  """The config files of this repository."""
  for file in sorted(CONFIGS.glob("*.py")):
    if file.stem not in ("__init__", "common"):
      yield file
