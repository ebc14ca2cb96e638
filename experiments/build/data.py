"""The section `data`: images."""

from ml_collections import ConfigDict

from scalegmn_jax.data import images


def build_images(config: ConfigDict) -> images.Images:
  """Reads or downloads the images."""
  c = config.data
  return images.load(c.name, c.path, side=c.side, limit=c.limit)
