"""Aligning and averaging networks of different seeds.

  python -m experiments.run --config=configs/merge.py

Networks of different seeds are averaged: as they are, after matching by
permutations alone, and aligned with permutations and multipliers, by their
weights and by images too. The rows are the barrier of the loss on the line
between two networks, and averages of all networks of a seed each, at several
widths.

Variants, after a colon, separated by commas:
  (none)      8x8 digits from scikit-learn: CNNs and MLPs.
  inr         SIRENs of MNIST images, several to each; images as for mnist.
  mnist       MLPs on MNIST; images from --config.data.path, or downloaded.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images as
              for mnist.
  zoo         networks of several optimizers, initializers and rates.
  resnet      ResNets with BatchNorm on digits.
  tiny        the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common

CNN = {
  "name": "cnn", "channels": (16, 16), "stride": 2, "padding": "SAME",
  "activation": "relu",
}  # fmt: skip

ARCHITECTURES = {
  "cnn": CNN,
  "mlp": {"name": "mlp", "hidden": (16, 16), "activation": "relu"},
  "mlp, tanh": {"name": "mlp", "hidden": (16, 16), "activation": "tanh"},
}

RESNET = {
  "name": "resnet", "widths": (8, 16), "blocks": 1, "activation": "relu",
  "batch_norm": True, "residual": True,
}  # fmt: skip


def get_config(variants: str = ""):
  config = common.start("merge")
  common.data(config)
  common.zoo(config)
  # All networks are trained alike, but for their seeds.
  config.zoo.size = 8
  config.zoo.epochs = (30,)
  config.zoo.learning_rate = (3e-3, 3e-3)
  config.zoo.l2 = (1e-6, 1e-6)
  config.zoo.dropout = (0.0, 0.0)
  config.zoo.train_fraction = (1.0,)
  config.zoo.optimizer = ("adam",)
  config.zoo.initializer = ("he_normal",)

  config.merge = ConfigDict()
  config.merge.architectures = ConfigDict(ARCHITECTURES)
  config.merge.widths = (1, 2, 4, 8)
  config.merge.points = 11
  config.merge.images = 64
  config.merge.measured = 2000
  config.merge.decades = 1.0

  config.inr = ConfigDict()
  config.inr.pictures = 0
  config.inr.hidden = (16, 16)
  config.inr.omega = 5.0
  config.inr.epochs = 300
  config.inr.learning_rate = 1e-2
  return common.compose(config, VARIANTS, variants, __file__)


def _mnist(config):
  config.data.name = "mnist"
  config.data.limit = (10_000, 1000, 2000)
  config.zoo.epochs = (5,)
  config.zoo.size = 6
  config.zoo.learning_rate = (1e-3, 1e-3)
  config.merge.architectures = ConfigDict(
    {"mlp": {"name": "mlp", "hidden": (32, 32), "activation": "relu"}}
  )


def _inr(config):
  config.data.name = "mnist"
  config.zoo.size = 4
  config.merge.architectures = ConfigDict()
  config.inr.pictures = 4
  config.inr.omega = 30.0


def _cifar10_gs(config):
  config.data.name = "cifar10_gs"
  config.data.limit = (5000, 1000, 2000)
  config.zoo.epochs = (8,)
  config.zoo.batch_size = 64
  config.zoo.size = 4
  cnn = {**CNN, "channels": (16, 16, 16), "padding": "VALID"}
  config.merge.architectures = ConfigDict({"cnn": cnn})
  config.merge.widths = (1, 2, 4)


def _zoo(config):
  config.zoo.learning_rate = (1e-3, 1e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.train_fraction = (0.5, 1.0)
  config.zoo.optimizer = ("adam", "rmsprop")
  config.zoo.initializer = ("glorot_normal", "he_normal", "orthogonal")
  config.merge.widths = (1, 4)


def _resnet(config):
  config.zoo.epochs = (20,)
  config.zoo.size = 4
  config.merge.architectures = ConfigDict({"resnet": RESNET})
  config.merge.widths = (1, 2, 4)


def _tiny(config):
  config.zoo.size = 2
  config.zoo.epochs = (2,)
  config.merge.architectures = ConfigDict({"mlp": ARCHITECTURES["mlp"]})
  config.merge.widths = (1,)
  config.merge.points = 3
  config.merge.images = 4
  config.merge.measured = 100
  config.inr.pictures = 1
  config.inr.hidden = (6, 6)
  config.inr.epochs = 20


VARIANTS = {
  "mnist": _mnist,
  "inr": _inr,
  "cifar10_gs": _cifar10_gs,
  "zoo": _zoo,
  "resnet": _resnet,
  "tiny": _tiny,
}
