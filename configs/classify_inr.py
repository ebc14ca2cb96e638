"""Classification of images by the weights of networks that render them.

  python -m experiments.run --config=configs/classify_inr.py

SIRENs are fitted, one per image; a metanetwork reads their weights and never
sees a pixel. The functional in functional.npz reads weights with folded phases
(scalegmn_jax.symmetry.phase.fold).

Variants, after a colon, separated by commas:
  (none)         8x8 digits from scikit-learn, no download.
  mnist          MNIST, 28x28; images from --config.data.path, or downloaded.
  fashion_mnist  Fashion-MNIST, 28x28; images as for mnist.
  cifar10_gs     CIFAR-10 in grayscale, 32x32; images as for mnist.
  full           after mnist or fashion_mnist: an INR of every image, for a GPU.
  large          MNIST by SIRENs 2-128-128-128-1.
  dws            after an image set: fitted as the public INRs of DWS.
  shared_init    one initialization for all networks instead of one each.
  tiny           the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("classify_inr")
  common.data(config)
  common.inr_zoo(config)
  common.inr_digits(config)
  common.full_model(config)
  config.model.bidirectional = False  # outputs depend on the forward pass alone
  config.model.depth = 3  # as many layers as the SIRENs have
  common.probes(config)
  common.train(config)
  config.train.batch_networks = 32
  config.train.weight_decay = 1e-2
  config.train.steps = 1000
  config.train.eval_every = 100
  config.train.budget = "steps"
  config.methods = (
    "plain", "augmented", "unfolded", "probes", "both", "permutation", "mlp",
  )  # fmt: skip
  config.learning_rates = ConfigDict()
  config.learning_rates.plain = (3e-3,)
  config.learning_rates.augmented = (3e-3,)
  config.learning_rates.unfolded = (3e-3,)
  config.learning_rates.shifted = (3e-3,)
  config.learning_rates.probes = (3e-3,)
  config.learning_rates.both = (3e-3,)
  config.learning_rates.permutation = (3e-3,)
  config.learning_rates.mlp = (3e-4, 1e-3)
  config.steps = ConfigDict()  # of methods that take others than train.steps
  config.steps.probes = 10_000
  config.augment = ConfigDict()  # see scalegmn_jax.training.augmentation
  config.augment.rotation = 10.0
  config.augment.scale = 1.1
  config.augment.shift = 0.1
  config.augment.noise = 0.0
  return common.compose(config, VARIANTS, variants, __file__)


def _mnist(config):
  common.inr_images(config)
  config.data.name = "mnist"
  # The papers use 30. With a lower omega weights are read after fewer steps,
  # but the fit takes more.
  config.target.omega = 12.0
  config.zoo.epochs = 100
  config.zoo.learning_rate = 2e-2
  config.methods = (
    "plain", "augmented", "probes", "both", "permutation", "mlp",
  )  # fmt: skip
  config.train.steps = 2000
  config.train.eval_every = 250
  config.steps.probes = 20_000


def _fashion_mnist(config):
  _mnist(config)
  config.data.name = "fashion_mnist"


def _cifar10_gs(config):
  _mnist(config)
  config.data.name = "cifar10_gs"


def _full(config):
  config.zoo.train_images = 55_000
  config.zoo.val_images = 5000
  config.zoo.test_images = 10_000
  config.methods = ("probes",)
  config.learning_rates.probes = (1e-3, 3e-3)
  config.steps.probes = 100_000
  config.train.batch_networks = 64
  config.train.eval_every = 2500


def _large(config):
  _mnist(config)
  config.target.hidden = (128, 128, 128)
  config.zoo.learning_rate = 3e-3  # 2e-2 renders to 15 dB, this to 65 dB
  config.methods = ("plain",)
  config.zoo.train_images = 2000
  config.zoo.val_images = 200
  config.zoo.test_images = 200
  config.model.depth = 4
  config.model.width = 16
  config.train.batch_networks = 16
  config.train.steps = 1500


def _tiny(config):
  common.tiny_inr_zoo(config)
  common.tiny_training(config)
  config.train.steps = 30
  config.steps.probes = 30
  config.methods = ("shifted", "both", "permutation", "mlp")
  config.learning_rates.mlp = (1e-3,)


VARIANTS = {
  "mnist": _mnist,
  "fashion_mnist": _fashion_mnist,
  "cifar10_gs": _cifar10_gs,
  "full": _full,
  "large": _large,
  "dws": common.inr_dws,
  "shared_init": common.inr_shared_init,
  "tiny": _tiny,
}
