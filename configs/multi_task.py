"""Fine-tuning networks that each have labels of their own.

The operator sees the weights alone and has to infer the labels from them; test
networks have labels that no other network has.

  python -m experiments.run --config=configs/multi_task.py:groups

Variants, after a colon, separated by commas:
  (none)    the same run as configs/cnn.py: 8x8 digits, the ten classes in each
            network's own order.
  groups    digits in two to nine groups, at random outputs.
  subsets   two to nine of the digits, at random outputs.
  sets      MNIST, Fashion-MNIST or grayscale CIFAR-10 at 14x14, the classes of
            one of them in each network's own order; images from
            --config.data.path (or downloaded).
  unseen    40 image sets at 8x8: digits, MNIST, Fashion-MNIST and grayscale
            CIFAR-10, each as it is and in nine transformations; test networks
            are of image sets that no training network has seen; images as for
            sets. Messages, without learned networks.
  compress  each network keeps its outputs, with smaller weights. No labels.
  full      every baseline of the protocol.
  tiny      the same path in under a minute, for tests.
"""

from configs import cnn, common


def get_config(variants: str = ""):
  return common.compose(cnn.get_config(), VARIANTS, variants, __file__)


def _groups(config):
  config.zoo.outputs_per_network = (2, 9)
  config.zoo.size = 1152  # with fewer, labels are misread
  config.model.class_combinations = True


def _subsets(config):
  config.zoo.classes_per_network = (2, 9)
  config.zoo.size = 1152  # with fewer, labels are misread
  config.model.class_combinations = True


def _sets(config):
  config.data.name = "mnist+fashion_mnist+cifar10_gs"
  config.data.side = 14
  config.data.limit = (20_000, 2000, 2000)  # with fewer, overfitting
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


def _unseen(config):
  config.data.name = "+".join(UNSEEN)
  config.data.side = 8
  config.data.limit = (1257, 180, 360)  # as many as there are digits
  config.zoo.held_out = "image_set"
  config.zoo.size = 640
  config.zoo.epochs = (1, 2, 4, 8)
  config.zoo.fractions = (0.8, 0.1, 0.1)
  config.model.prototypes = 0
  config.model.classes = 0
  config.model.width = 32
  config.model.depth = 2
  config.train.learning_rate = 3e-3
  config.train.restarts = 1
  config.train.steps = 4000
  config.train.image_noise = 0.0
  config.ood.size = 0
  config.baselines.epochs = (1, 2, 5, 10, 25)
  config.baselines.epochs_after_edit = (1, 5)
  config.baselines.constant_epochs = 10
  config.eval.val_networks = 24
  config.eval.test_networks = 48


def _compress(config):
  config.loss.supervision = "outputs"


_TRANSFORMS = (
  "inverted", "rotated", "mirrored", "blurred", "edges", "checkered", "halved",
  "mixed", "shuffled",
)  # fmt: skip
UNSEEN = tuple(
  name + change
  for name in ("digits", "mnist", "fashion_mnist", "cifar10_gs")
  for change in ("", *(f":{one}" for one in _TRANSFORMS))
)
"""The image sets of the variant `unseen`."""

VARIANTS = {
  "groups": _groups,
  "subsets": _subsets,
  "sets": _sets,
  "unseen": _unseen,
  "compress": _compress,
  "full": common.full,
  "tiny": cnn.tiny,
}
