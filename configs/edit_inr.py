"""Editing images by the weights of networks that render them.

  python -m experiments.run --config=configs/edit_inr.py

SIRENs are fitted, one to every image; an operator edits their weights so that
they render the dilated image. What it leaves in operator.npz edits weights
whose phases are folded (scalegmn_jax.symmetry.phase.fold). Variants, after a
colon:
  (none)         8x8 digits from scikit-learn, no download.
  tiny           the same path in seconds, for tests.
  mnist          MNIST, 28x28; images from --config.data.path, or downloaded.
  fashion_mnist  Fashion-MNIST, likewise.
  large          MNIST by SIRENs 2-128-128-128-1.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = ""):
  config = common.start("edit_inr")
  common.data(config)
  common.inrs(config)
  common.model(config)
  common.train(config)
  config.methods = (
    "forward", "bidirectional", "permutation", "mlp", "constant",
  )  # fmt: skip
  config.learning_rates = (
    ConfigDict()
  )  # of each method; the best on validation is kept
  config.learning_rates.forward = (3e-3,)
  config.learning_rates.bidirectional = (3e-3,)
  config.learning_rates.permutation = (3e-3,)
  config.learning_rates.mlp = (3e-4, 1e-3, 3e-3)
  config.learning_rates.constant = (1e-3, 1e-2)
  config.train.batch_networks = 16
  config.train.weight_decay = 1e-3
  if not variant:
    common.inrs_of_digits(config)
    config.train.steps = 1000
    config.train.eval_every = 100
  elif variant == "tiny":
    common.tiny_inrs(config)
    common.tiny_training(config)
    config.methods = ("bidirectional", "mlp", "constant")
    config.learning_rates.mlp = (1e-3,)
    config.learning_rates.constant = (1e-3,)
  elif variant in ("mnist", "fashion_mnist", "large"):
    config.data.name = "mnist" if variant == "large" else variant
    config.target.hidden = (32, 32)
    config.train.steps = 1500
    config.train.eval_every = 250
    if variant == "large":
      config.target.hidden = (128, 128, 128)
      config.zoo.learning_rate = 3e-3
      config.methods = ("forward", "constant")
      config.zoo.train_images = 500
      config.zoo.val_images = 50
      config.zoo.test_images = 100
      config.model.width = 16
      config.train.batch_networks = 4
      config.train.steps = 300
      config.train.eval_every = 100
  elif variant:
    raise ValueError(
      f"configs/edit_inr.py has no variant {variant!r}: "
      "expected tiny, mnist, fashion_mnist or large"
    )
  return config
