"""Predicting the accuracy of networks of many architectures.

  python -m experiments.run --config=configs/multi_arch.py

Trains a zoo of small CNNs on 8x8 digits for each of 20 architectures (depth 1
to 4, 8 to 32 channels, kernels of 1, 3 and 5, strides 1, 2 and 4, average pool
or flattened maps, relu and tanh), and one ScaleGMN on batches of all of them.
It is measured on held-out networks, and on the networks of 4 architectures that
are unseen in training. No download.

Variants, after a colon, separated by commas:
  (none)  40 networks per architecture.
  full    160 networks per architecture, a wider metanetwork, three seeds.
  tiny    the same path in seconds with 3 architectures, for tests.

--config.zoo.path reads a collection: a folder with a zoo per architecture, each
with a `target.json` (`scalegmn_jax.zoo.collection`); the last
--config.zoo.unseen folders by name are unseen in training.
"""

from ml_collections import ConfigDict

from configs import common

ARCHITECTURES = (
  # channels, kernel sizes, strides, pool
  ((8,), (5,), (2,), "average"),
  ((32,), (3,), (2,), "average"),
  ((16,), (3,), (2,), "flatten"),
  ((8,), (5,), (4,), "flatten"),
  ((8, 16), (3, 3), (2, 1), "average"),
  ((16, 16), (3, 3), (2, 2), "average"),
  ((16, 8), (5, 3), (2, 1), "average"),
  ((24, 12), (3, 1), (2, 1), "average"),
  ((8, 8), (5, 5), (2, 2), "flatten"),
  ((32, 16), (1, 3), (2, 2), "average"),
  ((8, 16, 16), (3, 3, 3), (2, 1, 1), "average"),
  ((16, 16, 16), (3, 3, 3), (2, 2, 2), "average"),
  ((12, 24, 12), (5, 1, 3), (2, 1, 2), "average"),
  ((8, 8, 8), (3, 3, 3), (2, 2, 1), "flatten"),
  ((8, 8, 8, 8), (3, 3, 3, 3), (2, 1, 2, 1), "average"),
  ((12, 16, 16, 12), (3, 1, 3, 1), (2, 1, 2, 1), "average"),
  # Unseen in training.
  ((12,), (5,), (2,), "flatten"),
  ((12, 20), (3, 3), (2, 1), "average"),
  ((16, 8, 24), (3, 3, 1), (2, 2, 1), "average"),
  ((12, 12, 12, 12), (3, 3, 1, 3), (2, 1, 1, 2), "average"),
)


def get_config(variants: str = ""):
  config = common.start("multi_arch")
  common.data(config)
  config.architectures = ARCHITECTURES
  config.target = ConfigDict()  # arguments that all architectures share
  config.target.name = "cnn"
  config.target.activation = ("relu", "tanh")
  config.target.padding = "SAME"
  common.zoo(config)
  common.zoo_split(config)  # all validation and test networks are used
  config.zoo.size = 40
  config.zoo.save_every = 40
  config.zoo.epochs = (2, 4, 8)
  config.zoo.fractions = (0.6, 0.15, 0.25)
  config.zoo.unseen = 4
  common.model(config)
  common.probes(config)
  common.train(config)
  config.train.seeds = (0,)
  config.train.batch_networks = 16
  config.train.buckets = 3
  config.train.steps = 1000
  config.train.weight_decay = 1e-2
  config.train.log_every = 50
  config.train.eval_every = 100
  config.methods = (
    "scalegmn",
    "probes",
    "both",
    "permutation",
    "statistics",
    "architecture",
    "constant",
  )
  config.loss = ConfigDict()
  config.loss.name = "cross_entropy"
  return common.compose(config, VARIANTS, variants, __file__)


def _full(config):
  config.train.seeds = (0, 1, 2)
  config.zoo.size = 160
  config.zoo.epochs = (2, 4, 8, 16)
  config.model.width = 64
  config.model.depth = 3
  config.train.batch_networks = 32
  config.train.steps = 10_000
  config.train.eval_every = 500


def _tiny(config):
  config.architectures = (
    ((4,), (3,), (4,), "average"),
    ((4, 4), (1, 3), (4, 1), "flatten"),
    ((6,), (3,), (4,), "average"),
  )
  config.methods = ("scalegmn", "both", "architecture")
  config.zoo.size = 12
  config.zoo.save_every = 12
  config.zoo.epochs = (2,)
  config.zoo.optimizer = ("adam",)
  config.zoo.initializer = ("he_normal",)
  config.zoo.fractions = (0.5, 0.25, 0.25)
  config.zoo.unseen = 1
  config.model.width = 4
  config.model.depth = 1
  config.model.bidirectional = False
  config.train.batch_networks = 4
  config.train.buckets = 1
  config.train.steps = 20
  config.train.warmup = 5
  config.train.log_every = 5
  config.train.eval_every = 10


VARIANTS = {"full": _full, "tiny": _tiny}
