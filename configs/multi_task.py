"""Fine-tuning networks of many tasks in one shot.

Each network of the zoo has a task of its own, of which its weights are all that
the operator sees; test networks have tasks that no other network has.

  python -m experiments.run --config=configs/multi_task.py

Variants, after a colon:
  (none)     8x8 digits, the ten classes in an order of each network's own.
  groups     digits in two to nine groups, at random outputs.
  subsets    two to nine of the digits, at random outputs.
  sets       MNIST, Fashion-MNIST or grayscale CIFAR-10 at 14x14, their classes
             in an order of each network's own; images from --config.data.path
             (or downloaded).
  compress   orders as above; each network is to keep what it answers, with
             smaller weights. No labels.
  tiny       the path of the first in under a minute, for tests.
"""

from configs import common


def get_config(variant: str = ""):
  config = common.finetune()
  common.cnn(config)
  common.own_tasks(config)
  config.train.restarts = 3
  config.train.steps = 10_000
  config.train.image_noise = 0.2
  config.baselines.epochs_after_edit = (1,)
  config.baselines.epochs_after_constant = (1, 5)
  if variant == "tiny":
    common.tiny(config)
    config.target.channels = (4, 4)
    config.model.depth = 0
    config.model.class_combinations = True
    config.train.restarts = 2
    config.zoo.train_fraction = (1.0,)
    config.baselines.epochs_after_constant = (1,)
  elif variant in ("groups", "subsets"):
    if variant == "groups":
      config.zoo.outputs_per_network = (2, 9)
    else:
      config.zoo.classes_per_network = (2, 9)
    config.zoo.size = 1152  # with fewer, tasks are misread
    config.model.class_combinations = True
  elif variant == "sets":
    config.data.name = "mnist+fashion_mnist+cifar10_gs"
    config.data.side = 14
    config.data.limit = (20_000, 2000, 2000)  # with fewer, overfit
    config.target.channels = (16, 16, 16)
    config.model.classes = 30
    config.model.prototypes = 3
    config.train.learning_rate = 1e-2
    config.train.restarts = 1
    config.train.steps = 20_000
    config.train.image_noise = 0.0
    config.loss.ramp = (0.01, 0.1)
    config.zoo.epochs = (1, 2, 4)
    config.zoo.batch_size = 64
    config.ood.epochs = (16,)
    config.baselines.epochs = (1, 5, 10, 25, 50)
    config.baselines.learning_rates = (3e-3, 1e-2, 2e-2)
    config.baselines.constant_epochs = 20
  elif variant == "compress":
    config.loss.supervision = "outputs"
  elif variant:
    raise ValueError(
      f"configs/multi_task.py has no variant {variant!r}: "
      "expected groups, subsets, sets, compress or tiny"
    )
  return config
