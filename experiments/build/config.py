"""Configs as JSON values, and their hash."""

import json
from typing import Any

from ml_collections import ConfigDict

from experiments.runner import formats


def plain(config: ConfigDict) -> dict[str, Any]:
  """The config as JSON values."""
  return json.loads(json.dumps(config.to_dict()))


def config_hash(config: ConfigDict) -> str:
  """A hash of the keys that matter, see `formats.config_hash`."""
  return formats.config_hash(plain(config))
