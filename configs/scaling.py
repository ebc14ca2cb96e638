"""Scaling of an operator with the networks and the steps of its training.

Operators are trained on parts of a zoo, for fewer and more steps. Each one is
measured by the epochs of tuned Adam that are needed to match it, on networks
with labels that no training network has.

  python -m experiments.run --config=configs/scaling.py

Variants, after a colon, separated by commas:
  (none)  8x8 digits; each network has the ten classes in its own order.
  tiny    the same path in under a minute, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("scaling")
  common.amortized(config)
  common.cnn_target(config)
  common.network_labels(config)
  config.train.seeds = (0,)
  config.scaling = ConfigDict()
  config.scaling.networks = (16, 64, 256, 460)
  config.scaling.steps = (300, 1000, 3000)
  return common.compose(config, VARIANTS, variants, __file__)


def _tiny(config):
  common.tiny_amortized(config)
  config.target.channels = (4, 4)
  config.zoo.train_fraction = (1.0,)
  config.scaling.networks = (12,)  # programs are compiled for each number
  config.scaling.steps = (8, 16)


VARIANTS = {"tiny": _tiny}
