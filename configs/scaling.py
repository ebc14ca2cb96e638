"""What one shot is worth by the networks and the steps of its training.

Operators are trained on parts of a zoo, for fewer and more steps; of each it is
said how many epochs of tuned Adam one shot is worth on networks of other tasks.

  python -m experiments.run --config=configs/scaling.py

Variants, after a colon:
  (none)  8x8 digits, the ten classes in an order of each network's own.
  tiny    the same path in under a minute, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = ""):
  config = common.finetune()
  common.cnn(config)
  common.own_tasks(config)
  config.experiment = "scaling"
  config.train.seeds = (0,)  # of φ
  config.scaling = ConfigDict()
  config.scaling.networks = (16, 64, 256, 460)
  config.scaling.steps = (300, 1000, 3000)
  config.baselines.methods = (("adam", "constant"),)
  del config.ood, config.train.steps, config.loss.supervision
  del config.baselines.constant_epochs, config.baselines.metanetworks
  del config.baselines.last_layer_steps
  del config.baselines.epochs_after_edit, config.baselines.epochs_after_constant
  if variant == "tiny":
    common.tiny_sections(config)
    del config.train.steps
    config.target.channels = (4, 4)
    config.zoo.train_fraction = (1.0,)
    config.scaling.networks = (4, 12)
    config.scaling.steps = (16,)
    config.train.batch_images = 32
    config.baselines.learning_rates = (3e-3, 1e-2)
    config.baselines.epochs = (1, 2)
  elif variant:
    raise ValueError(
      f"configs/scaling.py has no variant {variant!r}: expected tiny"
    )
  return config
