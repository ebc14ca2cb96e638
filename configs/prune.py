"""Pruning a zoo of small CNNs, and one of them, by many methods.

  python -m experiments.run --config=configs/prune.py

Accuracy against sparsity, with the same epochs of fine-tuning for all methods
and without any; rates and penalties are chosen per method and sparsity on
validation networks and images.

Variants, after a colon:
  (none)      8x8 digits from scikit-learn, no download; five minutes on 2 CPU
              cores.
  full        the same with 64 test networks, 25 epochs and 3 seeds of φ.
  tiny        the same path in seconds, for tests.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated, the one network
              from --config.prune.network_path (.npy, a row of such a zoo).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


def get_config(variant: str = ""):
  config = common.start("prune")
  common.data(config)
  common.zoo(config)
  common.model(config)
  common.train(config)
  common.cnn(config)
  config.eval.val_networks = 8
  config.eval.test_networks = 16
  config.train.steps = 4000  # of the operator
  config.train.batch_images = 128
  config.loss = ConfigDict()  # of the operator
  config.loss.l1 = 1e-3
  config.loss.penalty = "balanced"

  config.prune = c = ConfigDict()
  c.sparsities = (0.0, 0.6, 0.7, 0.8, 0.9)  # of kernel entries that become zero
  c.epochs = 5  # of fine-tuning, at least 2
  c.batch_size = 64
  c.learning_rates = (3e-3, 1e-2, 3e-2)  # of Adam
  c.rounds = 5  # of iterative magnitude pruning, at most one per epoch
  c.l1 = (3e-4, 1e-3, 3e-3)  # λ of the L1 method
  c.snip_images = 1000
  c.predictor_steps = 2000  # of its training
  c.own_steps = 1000  # of an operator of the one network alone; 0: none
  c.ascent_steps = 50  # on the weights, in predicted accuracy - λ·balanced L1
  c.ascent_learning_rates = (3e-4, 3e-3)  # of Adam on the weights
  c.ascent_l1 = (1e-3, 1e-2)  # λ; a logit of accuracy is the unit
  c.extensions = 1  # times that a grid may grow where its edge is the best
  config.train.seeds = ()  # of φ; (): config.seed
  c.subjects = ("zoo", "network")  # tables: of the zoo, of one network
  c.network = placeholder(int)  # a test network; None: the best on validation
  c.network_path = ""  # or one from a file

  if variant == "full":
    config.eval.val_networks = 16
    config.eval.test_networks = 64
    config.train.steps = 10_000
    c.predictor_steps = 5000
    c.epochs = 25
    c.extensions = 2
    config.train.seeds = (0, 1, 2)
  elif variant == "tiny":
    common.tiny_sections(config)
    config.target.channels = (4, 4)
    config.train.batch_images = 32
    config.eval.val_networks = 2
    config.eval.test_networks = 2
    c.sparsities = (0.0, 0.8)
    c.epochs = 2
    c.learning_rates = (3e-3, 1e-2)
    c.l1 = c.ascent_l1 = (1e-3,)
    c.ascent_learning_rates = (1e-2,)
    c.ascent_steps = 3
    c.predictor_steps = 20
    c.own_steps = 0
    c.extensions = 0
  elif variant == "cifar10_gs":
    common.cifar10_gs(config)
    config.train.steps = 1000
    config.train.eval_every = 250
    config.eval.val_networks = 2
    config.eval.test_networks = 4
    c.sparsities = (0.6, 0.7, 0.8, 0.9)
    c.epochs = 4
    c.batch_size = 128
    c.predictor_steps = 1000
    c.learning_rates = (1e-3, 3e-3, 1e-2)
    c.l1 = (1e-4, 1e-3)
    c.ascent_l1 = (1e-2,)
  elif variant:
    raise ValueError(
      f"configs/prune.py has no variant {variant!r}: "
      "expected full, tiny or cifar10_gs"
    )
  return config
