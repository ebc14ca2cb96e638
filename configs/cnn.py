"""Fine-tuning a zoo of small image classifiers with an operator.

No constant can win: each network has the ten classes in an order of its own,
which only its weights tell. With `one_task`, the setting of the paper (Kuipers
et al. 2025, arXiv:2510.08300), all networks have the same labels, and nothing
obliges an operator to look at its input.

  python -m experiments.run --config=configs/cnn.py

Variants, after a colon, separated by commas:
  (none)      8x8 digits from scikit-learn, no download; the classes in an order
              of each network's own. Ten minutes of one core.
  one_task    the same labels for all networks. Six minutes.
  paper       as one_task, with the operator and the objective of the paper:
              messages without prototypes, plain L1.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated. 50 minutes of one
              core, most of them for 150 epochs of Adam. Like the next three
              with the same labels for all, as with `one_task`.
  tanh        networks with tanh.
  resnet      ResNets with BatchNorm and eight layers on grayscale CIFAR-10 at
              16x16.
  vit         vision transformers on the digits.
  full        every baseline of the protocol.
  tiny        the same path in under a minute, for tests.
"""

from configs import common


def get_config(variants: str = ""):
  config = common.finetune()
  common.cnn_target(config)
  if ONE_TASK.isdisjoint(variants.split(",")):
    _own_orders(config)
  else:
    common.shared_labels(config)
  return common.compose(config, VARIANTS, variants, __file__)


def _own_orders(config):
  common.network_labels(config)
  config.train.restarts = 3
  config.train.steps = 10_000
  config.train.image_noise = 0.2
  config.baselines.epochs_after_edit = (1,)
  config.baselines.epochs_after_constant = (1, 5)


def _one_task(config):
  """Changes nothing: it is what other variants of `ONE_TASK` begin with."""


def _cifar10_gs(config):
  common.cifar10_gs(config)
  config.zoo.size = 64
  config.train.batch_networks = 1
  config.train.steps = 40_000
  config.train.eval_every = 4000
  config.loss.ramp = (0.01, 0.1)
  config.ood.size = 0
  config.baselines.epochs = (1, 5, 25, 50, 150)
  config.baselines.learning_rates = (1e-3, 3e-3, 1e-2)
  config.baselines.constant_epochs = 100
  config.eval.val_networks = 2
  config.eval.test_networks = 6


def _resnet(config):
  common.resnet(config)
  config.train.steps = 1500
  config.train.eval_every = 500
  config.ood.size = 0
  config.baselines.epochs = (1, 5, 10, 25)
  config.baselines.learning_rates = (1e-3, 3e-3, 1e-2)
  config.baselines.constant_epochs = 25
  config.eval.val_networks = 4
  config.eval.test_networks = 8


def _vit(config):
  common.vit(config)
  config.train.steps = 4000
  config.ood.size = 0
  config.baselines.learning_rates = (1e-3, 3e-3, 1e-2)
  config.eval.val_networks = 6
  config.eval.test_networks = 12


def _tanh(config):
  config.target.activation = ("tanh",)
  config.train.learning_rate = 5e-3


def tiny(config):
  common.tiny(config)
  common.tiny_target(config)
  if config.model.classes:
    config.model.depth = 0
    config.model.class_combinations = True
    config.train.restarts = 2
    config.zoo.train_fraction = (1.0,)
    config.baselines.epochs_after_constant = (1,)


VARIANTS = {
  "one_task": _one_task,
  "paper": common.paper,
  "cifar10_gs": _cifar10_gs,
  "tanh": _tanh,
  "resnet": _resnet,
  "vit": _vit,
  "full": common.full,
  "tiny": tiny,
}

ONE_TASK = {"one_task", "paper", "cifar10_gs", "tanh", "resnet", "vit"}
"""Variants in which all networks have the same labels."""
