"""Pruning a zoo of small CNNs, and one of them, by many methods.

  python -m experiments.run --config=configs/prune.py

Accuracy against sparsity, without fine-tuning and with the same epochs of
fine-tuning for all methods; validation networks and images select the learning
rates and penalties of each method and sparsity.

Variants, after a colon, separated by commas:
  (none)      8x8 digits from scikit-learn, no download; five minutes on 2 CPU
              cores.
  full        64 test networks, 25 epochs and 3 seeds of φ.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated, the one network
              from --config.prune.network_path (.npy, a row of such a zoo).
  tiny        the same path in seconds, for tests.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


def get_config(variants: str = ""):
  config = common.start("prune")
  common.data(config)
  common.cnn_target(config)
  common.split_zoo(config)
  config.eval.val_networks = 8
  config.eval.test_networks = 16
  common.full_model(config)
  common.train(config)
  config.train.steps = 4000
  config.train.batch_images = 128
  config.loss = ConfigDict()  # of the operator
  config.loss.l1 = 1e-3
  config.loss.penalty = "balanced"

  config.prune = ConfigDict()
  config.prune.sparsities = (0.0, 0.6, 0.7, 0.8, 0.9)
  config.prune.epochs = 5
  config.prune.batch_size = 64
  config.prune.learning_rates = (3e-3, 1e-2, 3e-2)
  config.prune.rounds = 5
  config.prune.l1 = (3e-4, 1e-3, 3e-3)
  config.prune.snip_images = 1000
  config.prune.predictor_steps = 2000
  config.prune.own_steps = 1000
  config.prune.ascent_steps = 50
  config.prune.ascent_learning_rates = (3e-4, 3e-3)
  config.prune.ascent_l1 = (1e-3, 1e-2)
  config.prune.extensions = 1
  config.prune.subjects = ("zoo", "network")
  config.prune.network = placeholder(int)
  config.prune.network_path = ""
  return common.compose(config, VARIANTS, variants, __file__)


def _full(config):
  config.eval.val_networks = 16
  config.eval.test_networks = 64
  config.train.steps = 10_000
  config.prune.predictor_steps = 5000
  config.prune.epochs = 25
  config.prune.extensions = 2
  config.train.seeds = (0, 1, 2)


def _cifar10_gs(config):
  common.cifar10_gs(config)
  config.train.steps = 1000
  config.train.eval_every = 250
  config.eval.val_networks = 2
  config.eval.test_networks = 4
  config.prune.sparsities = (0.6, 0.7, 0.8, 0.9)
  config.prune.epochs = 4
  config.prune.batch_size = 128
  config.prune.predictor_steps = 1000
  config.prune.learning_rates = (1e-3, 3e-3, 1e-2)
  config.prune.l1 = (1e-4, 1e-3)
  config.prune.ascent_l1 = (1e-2,)


def _tiny(config):
  common.tiny_sections(config)
  config.target.channels = (4, 4)
  config.train.steps = 30
  config.train.batch_images = 32
  config.eval.val_networks = 2
  config.eval.test_networks = 2
  config.prune.sparsities = (0.0, 0.8)
  config.prune.epochs = 2
  config.prune.learning_rates = (3e-3, 1e-2)
  config.prune.l1 = config.prune.ascent_l1 = (1e-3,)
  config.prune.ascent_learning_rates = (1e-2,)
  config.prune.ascent_steps = 3
  config.prune.predictor_steps = 20
  config.prune.own_steps = 0
  config.prune.extensions = 0


VARIANTS = {"full": _full, "cifar10_gs": _cifar10_gs, "tiny": _tiny}
