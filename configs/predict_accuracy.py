"""Predicting the test accuracy of networks from their weights.

  python -m experiments.run --config=configs/predict_accuracy.py

Variants, after a colon, separated by commas:
  (none)      small relu CNNs on 8x8 digits from scikit-learn, no download.
  mixed       relu and tanh in one zoo: the scale and the sign group.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10, relu and
              tanh, from a zoo of short runs that is generated;
              --config.zoo.more="('folder',)" adds zoos.
  relu, tanh  one activation alone; after cifar10_gs.
  regauged    each network is acted on by a random element of its group, which
              leaves its function as it is.
  resnet      ResNets with BatchNorm and eight layers on grayscale CIFAR-10 at
              16x16.
  vit         vision transformers on the digits.
  paper       the public zoo at --config.zoo.path, split as in the papers by
              the file at --config.zoo.split, at the published size of the
              metanetwork; for a GPU.
  tiny        the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("predict_accuracy")
  common.data(config)
  common.cnn_target(config)
  common.zoo(config)
  common.zoo_split(config)  # all validation and test networks are used
  config.zoo.more = ()
  config.zoo.split = ""
  config.zoo.step = -1
  config.zoo.regauge = False
  config.zoo.fractions = (0.6, 0.15, 0.25)
  common.full_model(config)
  common.probes(config)
  common.train(config)
  config.train.budget = "operations"
  config.train.seeds = (0,)
  config.train.learning_rates = (3e-3, 1e-2)
  config.train.batch_networks = 16
  config.train.steps = 400
  config.train.weight_decay = 1e-2
  config.train.eval_every = 100
  config.methods = (
    "bidirectional",
    "forward",
    "probes",
    "both",
    "permutation",
    "mlp",
    "statistics",
    "balanced statistics",
    "constant",
  )
  config.loss = ConfigDict()
  config.loss.name = "cross_entropy"
  return common.compose(config, VARIANTS, variants, __file__)


def _relu(config):
  config.target.activation = ("relu",)


def _tanh(config):
  config.target.activation = ("tanh",)


def _mixed(config):
  config.target.activation = ("relu", "tanh")


def _regauged(config):
  config.zoo.regauge = True


def _cifar10_gs(config):
  common.cifar10_gs(config)
  config.target.activation = ("relu", "tanh")
  config.zoo.size = 256
  config.train.seeds = (0, 1, 2)


def _resnet(config):
  common.resnet(config)
  _one_direction(config)


def _vit(config):
  common.vit(config)
  _one_direction(config)


def _one_direction(config):
  config.model.bidirectional = False  # half of the time
  # A flat MLP has 20,000 steps with the operations of the first method.
  config.methods = tuple(
    m for m in config.methods if m not in ("bidirectional", "mlp")
  )


def _paper(config):
  _cifar10_gs(config)
  config.zoo.step = 86
  config.model.width = 128
  config.model.depth = 4
  config.train.batch_networks = 64
  config.train.learning_rate = 1e-3
  config.train.learning_rates = ()
  config.train.warmup = 1000
  config.train.steps = 28_000  # 150 epochs of 12,000 networks
  config.train.eval_every = 500


def _tiny(config):
  common.tiny_zoo(config)
  common.tiny_training(config)
  config.train.steps = 30
  common.tiny_target(config)
  config.methods = ("forward", "both", "mlp", "statistics", "constant")
  config.train.learning_rates = ()


VARIANTS = {
  "mixed": _mixed,
  "relu": _relu,
  "tanh": _tanh,
  "regauged": _regauged,
  "cifar10_gs": _cifar10_gs,
  "resnet": _resnet,
  "vit": _vit,
  "paper": _paper,
  "tiny": _tiny,
}
