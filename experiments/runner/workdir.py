"""The folder of a run: names of its files, and the config it belongs to."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from experiments.runner import formats
from scalegmn_jax.base import InputError
from scalegmn_jax.io import read_json, write_json

CONFIG = "config.json"
RESULTS = "results.json"
TABLES = "results.md"
TRAINED = "trained.json"
"""Names of the trained jobs; written after the last training."""
MEASURED = "measured"
"""Folder of partial results; deleted when `RESULTS` is written."""


def default(config_file: str, config: ConfigDict, prefix: str = "") -> Path:
  """runs/<prefix>-<config>-<variants>-<hash of the keys that matter>."""
  file, _, variants = config_file.partition(":")
  parts = [
    prefix,
    Path(file).stem,
    variants.replace(",", "-"),
    build.config_hash(config),
  ]
  return Path("runs") / "-".join(part for part in parts if part)


def write_config(path: Path, config: ConfigDict) -> None:
  """Writes `config.json`, with the number of its format."""
  write_json(path / CONFIG, {"format": formats.FORMAT, **build.plain(config)})


def claim(path: Path, config: ConfigDict, *, again: bool = False) -> None:
  """Makes the folder, or checks that it belongs to this config.

  Configs that earlier versions wrote are compared by meaning, see
  `formats.migrate`.

  Args:
    path: the folder.
    config: config of the run.
    again: the metanetworks that were trained there are measured again,
      possibly with other baselines or out-of-distribution networks.

  Raises:
    InputError: the folder belongs to another config, or holds other files.
  """
  file = path / CONFIG
  if file.exists():
    theirs = formats.flatten(formats.migrate(read_json(file)))
    ours = formats.flatten(build.plain(config))
    differing = [
      key
      for key in sorted(theirs.keys() | ours.keys())
      if _value(theirs, key) != _value(ours, key)
      and key not in formats.PRESENTATION
      and not (again and _only_measured(key))
    ]
    if differing:
      key = differing[0]
      raise InputError(
        f"{path}: holds a run with {key} = {_value(theirs, key)!r}, not "
        f"{_value(ours, key)!r} ({len(differing)} keys differ); give another "
        "--workdir"
      )
    return
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise InputError(f"{path}: not empty, and no {CONFIG} in it")
  path.mkdir(parents=True, exist_ok=True)
  write_config(path, config)


def _value(values: dict[str, Any], key: str) -> Any:
  """The value of a key; for a key added later, the default."""
  return values.get(key, formats.default(key))


def _only_measured(key: str) -> bool:
  """Whether the key has no influence on any training."""
  section, _, name = key.partition(".")
  return section in ("baselines", "ood") and name != "metanetworks"
