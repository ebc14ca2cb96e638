"""Fine-tuning a zoo of small CNNs in one shot.

  python -m experiments.run --config=configs/cnn.py

Variants, after a colon:
  (none)           8x8 digits from scikit-learn, no download.
  full             the same with every baseline of the protocol.
  tiny             the same path in under a minute, for tests.
  cifar10_gs       the Small CNN Zoo's architecture on grayscale CIFAR-10;
                   images from --config.data.path (or downloaded), the zoo from
                   --config.zoo.path (public files) or generated. 50 minutes of
                   one core, most of them for 150 epochs of Adam.
  cifar10_gs_tanh  the same with tanh.
"""

from configs import common


def get_config(variant: str = ""):
  config = common.finetune()
  common.cnn(config)
  common.one_task(config)
  if variant == "full":
    common.full(config)
  elif variant == "tiny":
    common.tiny(config)
    config.target.channels = (4, 4)
  elif variant in ("cifar10_gs", "cifar10_gs_tanh"):
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
    if variant == "cifar10_gs_tanh":
      config.target.activation = ("tanh",)
      config.train.learning_rate = 5e-3
  elif variant:
    raise ValueError(
      f"configs/cnn.py has no variant {variant!r}: "
      "expected full, tiny, cifar10_gs or cifar10_gs_tanh"
    )
  return config
