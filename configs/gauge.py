"""Gauge freedom of CNNs and of the MLPs that compute the same maps.

  python -m experiments.run --config=configs/gauge.py

Gauge directions change the weights but not the function. They are counted,
confirmed by the Jacobian, and reported per layer and per weight; the null space
of the Jacobian is compared with them; the L1 norm of zoo networks is split into
gauge and rest, and operators are trained with and without a balanced penalty.

Variants, after a colon, separated by commas:
  (none)      8x8 digits from scikit-learn, no download.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated, one more network
              from --config.gauge.network_path, a .npy file of its weights.
  traced      other networks: ResNets with and without BatchNorm and shortcuts,
              and a vision transformer, whose symmetry is traced.
  tiny        the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common

ARCHITECTURES = {
  "cnn, flatten": {
    "name": "cnn",
    "channels": (8, 8),
    "stride": 2,
    "padding": "SAME",
    "pool": "flatten",
    "activation": "relu",
  },
  "cnn, leaky_relu": {
    "name": "cnn",
    "channels": (3, 6),
    "stride": 2,
    "padding": "VALID",
    "activation": "leaky_relu",
  },
  "mlp": {"name": "mlp", "hidden": (16, 16), "activation": "relu"},
  "mlp, one layer": {"name": "mlp", "hidden": (16,), "activation": "relu"},
  "cnn, tanh": {
    "name": "cnn",
    "channels": (8, 8),
    "stride": 2,
    "padding": "SAME",
    "activation": "tanh",
  },
  "mlp, sine": {
    "name": "mlp", "hidden": (16, 16), "activation": "sine", "omega": 3.0,
  },
}  # fmt: skip

RESNET = {
  "name": "resnet",
  "widths": (4, 8),
  "blocks": 1,
  "activation": "relu",
  "batch_norm": True,
  "residual": True,
}

TRACED = {
  "resnet": RESNET,
  "resnet, no shortcuts": {**RESNET, "residual": False},
  "resnet, no BatchNorm": {**RESNET, "batch_norm": False},
  "vit": {
    "name": "vit", "patch": 2, "width": 8, "heads": 2, "depth": 1, "mlp": 16,
    "activation": "gelu",
  },
}  # fmt: skip


def get_config(variants: str = ""):
  config = common.start("gauge")
  common.data(config)
  common.cnn_target(config)
  common.split_zoo(config)
  config.zoo.size = 320
  common.full_model(config)
  common.train(config)
  config.train.seeds = (0,)
  config.train.steps = 2000
  config.train.batch_images = 128
  config.train.eval_every = 250

  config.loss = ConfigDict()
  config.loss.l1 = 1e-3

  config.gauge = ConfigDict()
  config.gauge.network_path = ""
  config.gauge.architectures = ConfigDict(ARCHITECTURES)
  config.gauge.size = 4
  config.gauge.epochs = 16
  config.gauge.images = (50, 100, 200, 400)
  config.gauge.largest = 3000
  config.gauge.tested = 400
  config.gauge.sample = 512
  return common.compose(config, VARIANTS, variants, __file__)


def _cifar10_gs(config):
  common.cifar10_gs(config)
  config.train.steps = 500
  config.eval.val_networks = 4
  config.eval.test_networks = 16
  config.gauge.architectures = ConfigDict()
  config.gauge.images = (100, 200, 800)
  config.gauge.largest = 5000
  config.gauge.tested = 64


def _traced(config):
  config.gauge.architectures = ConfigDict(TRACED)


def _tiny(config):
  common.tiny_sections(config)
  config.target.channels = (2, 3)
  config.model.bidirectional = False  # compiles faster
  config.train.steps = 30
  config.train.batch_images = 32
  config.gauge.architectures = ConfigDict()
  config.gauge.images = (20, 60)
  config.gauge.largest = 500


VARIANTS = {"cifar10_gs": _cifar10_gs, "traced": _traced, "tiny": _tiny}
