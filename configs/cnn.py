"""Fine-tuning a zoo of small CNNs in one shot.

  python -m experiments.run --config=configs/cnn.py

Variants, after a colon:
  (none)      8x8 digits from scikit-learn, no download.
  full        the same with every baseline of the protocol.
  tiny        the same path in under a minute, for tests.
  cifar10_gs  the Small CNN Zoo's architecture on grayscale CIFAR-10; images
              from --config.data.path (or downloaded), the zoo from
              --config.zoo.path (public files) or generated.
"""

from configs import common


def get_config(variant: str = ""):
  config = common.finetune()
  common.cnn(config)
  if variant == "full":
    common.full(config)
  elif variant == "tiny":
    common.tiny(config)
    config.target.channels = (4, 4)
  elif variant == "cifar10_gs":
    common.cifar10_gs(config)
    config.train.steps = 2000
    config.train.learning_rate = 3e-3
    config.train.eval_every = 250
    config.baselines.batch_size = 128
    config.baselines.epochs = (1, 2, 5)
    config.baselines.rates = (3e-3, 1e-2, 2e-2)
    config.baselines.constant_epochs = 5
    config.eval.val_networks = 4
    config.eval.test_networks = 16
  elif variant:
    raise ValueError(
      f"configs/cnn.py has no variant {variant!r}: "
      "expected full, tiny or cifar10_gs"
    )
  return config
