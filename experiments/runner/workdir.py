"""The folder of a run: what is in it, and whose it is."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import build
from scalegmn_jax.base import InputError
from scalegmn_jax.io import read_json, write_json

CONFIG = "config.json"
RESULTS = "results.json"
TABLES = "results.md"
TRAINED = "trained.json"
"""Names of what has been trained; there once all of it is."""


def default(config_file: str, config: ConfigDict, prefix: str = "") -> Path:
  """runs/<prefix>-<config>-<variant>-<hash of the keys that matter>."""
  name = Path(config_file.split(":")[0]).stem
  variant = config_file.partition(":")[2]
  parts = [p for p in (prefix, name, variant, build.config_hash(config)) if p]
  return Path("runs") / "-".join(parts)


def claim(path: Path, config: ConfigDict, *, again: bool = False) -> None:
  """Makes the folder, or makes sure that it is this config's.

  Args:
    path: the folder.
    config: of the run.
    again: what was trained there is measured again, with other baselines if
      the config says so.

  Raises:
    InputError: it holds another config, or files that are not of a run.
  """
  file = path / CONFIG
  if file.exists():
    theirs, ours = _flat(read_json(file)), _flat(build.plain(config))
    differing = sorted(
      key
      for key in theirs.keys() | ours.keys()
      if theirs.get(key) != ours.get(key)
      and key != "train.log_every"
      and not (again and _only_measured(key))
    )
    if differing:
      key = differing[0]
      raise InputError(
        f"{path}: holds a run with {key} = {theirs.get(key)!r}, not "
        f"{ours.get(key)!r} ({len(differing)} keys differ); give another "
        "--workdir"
      )
    return
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise InputError(f"{path}: not empty, and no {CONFIG} in it")
  path.mkdir(parents=True, exist_ok=True)
  write_json(file, build.plain(config))


def _only_measured(key: str) -> bool:
  """Whether no training sees the key."""
  section, _, name = key.partition(".")
  return section in ("baselines", "ood") and name != "metanetworks"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(value, dict):
    return {prefix: value}
  result = {}
  for key, inner in value.items():
    result |= _flat(inner, f"{prefix}.{key}" if prefix else key)
  return result
