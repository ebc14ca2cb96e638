"""Fine-tuning a zoo of MLPs in one shot.

  python -m experiments.run --config=configs/mlp.py

Variants, after a colon:
  (none)         8x8 digits from scikit-learn, no download.
  full           the same with every baseline of the protocol.
  tiny           the same path in under a minute, for tests.
  mnist          MNIST; images from --config.data.path, or downloaded.
  fashion_mnist  Fashion-MNIST, likewise.
"""

from configs import common


def get_config(variant: str = ""):
  config = common.finetune()
  config.target.name = "mlp"
  config.target.hidden = (16, 16)
  config.target.omega = 1.0
  config.model.depth = 0  # on digits messages bring nothing (notebook, 25)
  common.one_task(config)
  config.train.restarts = 3
  if variant == "full":
    common.full(config)
  elif variant == "tiny":
    common.tiny(config)
    config.target.hidden = (6, 6)
  elif variant in ("mnist", "fashion_mnist"):
    config.data.name = variant
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
  elif variant:
    raise ValueError(
      f"configs/mlp.py has no variant {variant!r}: "
      "expected full, tiny, mnist or fashion_mnist"
    )
  return config
