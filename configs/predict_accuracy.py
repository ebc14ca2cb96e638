"""Predicting the test accuracy of networks from their weights.

  python -m experiments.run --config=configs/predict_accuracy.py

Variants, after a colon:
  (none)      small relu CNNs on 8x8 digits from scikit-learn, no download.
  mixed       relu and tanh in one zoo: the scale and the sign group.
  tiny        the same path in seconds, for tests.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10, relu and
              tanh, from a zoo of short runs that is generated; others are
              added by --config.zoo.more="('folder',)", and one activation
              alone is chosen by --config.target.activation="('relu',)".
  paper       the public zoo at --config.zoo.path, split as in the papers by
              the file at --config.zoo.split, at the published size of the
              metanetwork; for a GPU.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = ""):
  config = common.start("predict_accuracy")
  common.data(config)
  common.zoo(config)
  common.model(config)
  common.train(config)
  config.train.seeds = (0,)  # of φ; `seed` is that of the zoo and its split
  config.methods = (
    "bidirectional",  # the others get as many FLOPs as the first
    "forward",
    "permutation",
    "mlp",
    "statistics",
    "balanced statistics",
    "constant",
  )
  config.loss = ConfigDict()
  config.loss.name = "cross_entropy"  # or "squared_error"

  common.cnn(config)
  del config.zoo.test_path
  config.zoo.more = ()  # folders of more networks of the same architecture
  config.zoo.split = ""  # CSV with the published order; "": split by network
  config.zoo.step = -1  # the checkpoint that is read; -1: the last of each
  config.zoo.fractions = (0.6, 0.15, 0.25)

  # The best on validation is kept, per method and seed; (): learning_rate.
  config.train.learning_rates = (3e-3, 1e-2)
  config.train.batch_networks = 16
  config.train.steps = 400
  config.train.weight_decay = 1e-2
  config.train.eval_every = 100
  if variant == "mixed":
    config.target.activation = ("relu", "tanh")
  elif variant == "tiny":
    common.tiny_sections(config)
    config.target.channels = (4, 4)
    config.methods = ("forward", "mlp", "statistics", "constant")
    config.train.learning_rates = ()
  elif variant in ("cifar10_gs", "paper"):
    common.cifar10_gs(config)
    config.target.activation = ("relu", "tanh")
    config.zoo.size = 256
    config.train.seeds = (0, 1, 2)
    if variant == "paper":
      config.zoo.step = 86
      config.model.width = 128
      config.model.depth = 4
      config.train.batch_networks = 64
      config.train.learning_rate = 1e-3
      config.train.learning_rates = ()
      config.train.warmup = 1000
      config.train.steps = 28_000  # 150 epochs of 12,000 networks
      config.train.eval_every = 500
  elif variant:
    raise ValueError(
      f"configs/predict_accuracy.py has no variant {variant!r}: "
      "expected mixed, tiny, cifar10_gs or paper"
    )
  del config.eval  # all networks that are held out are used
  return config
