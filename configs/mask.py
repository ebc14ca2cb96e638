"""Pruning without fine-tuning: which weights go, by what an operator reads.

  python -m experiments.run --config=configs/mask.py

A metanetwork learns to score the kernel entries of a network so that it keeps
its own outputs without the lowest ones; there are no labels. The table has the
divergence of test networks from their own outputs on test images, beside scores
without and with data. The folder of the run has an operator for each share, for
example seed_0/sparsity_0.5.

Variants, after a colon, separated by commas:
  (none)  CNNs on 8x8 digits from scikit-learn, no download.
  mlp     MLPs on them.
  tiny    the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("mask")
  common.compression(config)
  config.mask = ConfigDict()
  config.mask.sparsities = (0.5, 0.6, 0.7, 0.8, 0.9)
  config.mask.synflow_rounds = 50
  config.mask.obd_images = 256
  config.mask.snip_images = 256
  return common.compose(config, VARIANTS, variants, __file__)


def _tiny(config):
  common.tiny_compression(config)
  config.mask.sparsities = (0.5,)
  config.mask.synflow_rounds = 2
  config.mask.obd_images = 8
  config.mask.snip_images = 8


VARIANTS = {"mlp": common.mlp_target, "tiny": _tiny}
