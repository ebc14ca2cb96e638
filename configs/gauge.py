"""Gauge freedom of CNNs and of the MLPs that compute the same maps.

  python -m experiments.run --config=configs/gauge.py

Directions along which the weights move and the function does not: counted,
confirmed by the Jacobian, per layer and per weight; the null space of the
Jacobian and what it holds besides; how much of the L1 norm of zoo networks is
gauge, and what an operator gains from a penalty without it.

Variants, after a colon:
  (none)      8x8 digits from scikit-learn, no download.
  tiny        the same path in seconds, for tests.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated, one more network
              from --config.gauge.network_path, a .npy file of its weights.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = ""):
  config = common.start("gauge")
  common.data(config)
  common.zoo(config)
  common.model(config)
  common.train(config)
  config.train.seeds = (0,)  # of the operators
  common.cnn(config)
  config.zoo.size = 320
  config.train.steps = 2000
  config.train.batch_images = 128  # per step, the same for all of its networks
  config.train.eval_every = 250

  config.loss = ConfigDict()
  config.loss.l1 = 1e-3

  config.gauge = ConfigDict()
  config.gauge.network_path = ""  # .npy of one more network of the target
  config.gauge.architectures = ConfigDict()  # arguments of more targets
  config.gauge.size = 4  # networks of each of those, of which one is taken
  config.gauge.epochs = 16  # that they are trained for
  config.gauge.images = (50, 100, 200, 400)  # that J is taken on
  config.gauge.largest = 3000  # weights up to which J is decomposed
  config.gauge.tested = 400  # tangents of a network along which J is taken
  config.gauge.sample = 512  # networks of a step whose L1 norm is measured
  more = {
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
  if variant == "tiny":
    common.tiny_sections(config)
    config.train.batch_images = 32
    config.target.channels = (2, 3)
    config.model.bidirectional = False  # compiles faster
    config.gauge.images = (20, 60)
    config.gauge.largest = 500
    more = {}
  elif variant == "cifar10_gs":
    common.cifar10_gs(config)
    config.train.steps = 500
    config.eval.val_networks = 4
    config.eval.test_networks = 16
    config.gauge.images = (100, 200, 800)
    config.gauge.largest = 5000
    config.gauge.tested = 64
    more = {}
  elif variant:
    raise ValueError(
      f"configs/gauge.py has no variant {variant!r}: "
      "expected tiny or cifar10_gs"
    )
  for name, arguments in more.items():
    config.gauge.architectures[name] = ConfigDict(arguments)
  return config
