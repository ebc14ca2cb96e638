"""The section `data`: images."""

import functools
from typing import Any

from ml_collections import ConfigDict

from scalegmn_jax.data import images


def build_images(config: ConfigDict) -> images.Images:
  """Reads or downloads the images; the last ones are kept in memory."""
  c = config.data
  return _load(c.name, c.path, c.side, tuple(c.limit))


@functools.lru_cache(maxsize=1)
def _load(name: str, path: str, side: int, limit: Any) -> images.Images:
  return images.load(name, path, side=side, limit=limit)
