"""Fine-tuning a zoo of MLPs with an operator.

  python -m experiments.run --config=configs/mlp.py

Variants, after a colon, separated by commas:
  (none)         8x8 digits from scikit-learn, no download.
  paper          the operator and the objective of the paper (Kuipers et al.
                 2025): messages without prototypes, plain L1.
  full           every baseline of the protocol.
  mnist          MNIST; images from --config.data.path, or downloaded.
  fashion_mnist  Fashion-MNIST; images as for mnist.
  tiny           the same path in under a minute, for tests.
"""

from configs import common


def get_config(variants: str = ""):
  config = common.finetune()
  common.mlp_target(config)
  config.model.depth = 0  # on digits messages bring nothing (notebook, 25)
  common.shared_labels(config)
  config.train.restarts = 3
  return common.compose(config, VARIANTS, variants, __file__)


def _mnist(config):
  config.data.name = "mnist"
  config.model.depth = 1
  config.zoo.size = 128
  config.zoo.epochs = (1, 2, 4)
  config.zoo.batch_size = 128
  config.train.batch_networks = 1
  config.train.restarts = 1
  config.train.steps = 20_000
  config.loss.ramp = (0.01, 0.1)
  config.ood.epochs = (16,)
  config.baselines.epochs = (1, 5, 25, 50, 150)
  config.baselines.learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
  config.baselines.constant_epochs = 50
  config.eval.val_networks = 4
  config.eval.test_networks = 12


def _fashion_mnist(config):
  _mnist(config)
  config.data.name = "fashion_mnist"


def _tiny(config):
  common.tiny(config)
  common.tiny_target(config)


VARIANTS = {
  "paper": common.paper,
  "full": common.full,
  "mnist": _mnist,
  "fashion_mnist": _fashion_mnist,
  "tiny": _tiny,
}
