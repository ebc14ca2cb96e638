"""Quantization: biases that make up for rounded kernels, by what is read.

  python -m experiments.run --config=configs/quantize.py

Kernels are rounded to 3 or 4 bits in the gauge of equal ranges. A metanetwork
reads a network and its rounding errors and writes biases with which the network
keeps its own outputs; there are no labels. The table has the divergence of test
networks from their own outputs on test images, beside rounding alone and
training for a few steps. The folder of the run has an operator for each grid,
for example seed_0/bits_3.

Variants, after a colon, separated by commas:
  (none)  CNNs on 8x8 digits from scikit-learn, no download.
  mlp     MLPs on them.
  tiny    the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("quantize")
  common.compression(config)
  config.quantize = ConfigDict()
  config.quantize.bits = (3, 4)
  config.quantize.steps_per = ("kernel", "channel")
  config.quantize.distillation_steps = (1, 5, 20)
  config.quantize.learning_rates = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
  return common.compose(config, VARIANTS, variants, __file__)


def _tiny(config):
  common.tiny_compression(config)
  config.quantize.bits = (3,)
  config.quantize.steps_per = ("kernel",)
  config.quantize.distillation_steps = (1,)
  config.quantize.learning_rates = (1e-3, 1e-2)


VARIANTS = {"mlp": common.mlp_target, "tiny": _tiny}
