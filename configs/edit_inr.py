"""Editing images by the weights of networks that render them.

  python -m experiments.run --config=configs/edit_inr.py

SIRENs are fitted, one per image; an operator edits their weights so that they
render the dilated image, or another edit. The operator in operator.npz edits
weights with folded phases (scalegmn_jax.symmetry.phase.fold).

Variants, after a colon, separated by commas:
  (none)         8x8 digits from scikit-learn, no download.
  mnist          MNIST, 28x28; images from --config.data.path, or downloaded.
  fashion_mnist  Fashion-MNIST, 28x28; images as for mnist.
  full           after mnist or fashion_mnist: rows of Adam from each network's
                 own weights, and a column of the other image set.
  large          MNIST by SIRENs 2-128-128-128-1.
  dws            after mnist or fashion_mnist: fitted as the public INRs of DWS.
  shared_init    one initialization for all networks instead of one each.
  erosion        the eroded image instead of the dilated one.
  rotation       the rotated image instead of the dilated one.
  several        one operator that dilates, erodes and rotates.
  coarse         fitted to means of 2x2 pixels; the image, not the dilated one.
  tiny           the same path in seconds, for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variants: str = ""):
  config = common.start("edit_inr")
  common.data(config)
  common.inr_zoo(config)
  common.inr_digits(config)
  common.full_model(config)
  config.probes = ConfigDict()
  config.probes.basis = 256
  common.train(config)
  config.train.batch_networks = 16
  config.train.weight_decay = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 100
  config.train.budget = "steps"
  config.edit = "dilation"
  config.methods = (
    "forward", "bidirectional", "basis", "both", "permutation", "mlp",
    "constant",
  )  # fmt: skip
  config.learning_rates = ConfigDict()
  config.learning_rates.forward = (3e-3,)
  config.learning_rates.bidirectional = (3e-3,)
  config.learning_rates.basis = (3e-4, 1e-3)
  config.learning_rates.both = (3e-4, 1e-3)
  config.learning_rates.permutation = (3e-3,)
  config.learning_rates.mlp = (3e-4, 1e-3, 3e-3)
  config.learning_rates.constant = (1e-3, 1e-2)
  config.steps = ConfigDict()  # of methods that take others than train.steps
  config.steps.basis = 4000
  # Rows of Adam, from each network's own weights.
  config.refit = ConfigDict()
  config.refit.steps = ()
  config.refit.learning_rates = (1e-3, 3e-3, 1e-2)
  # Networks of images that no operator is trained on.
  config.ood = ConfigDict()
  config.ood.name = ""
  config.ood.path = ""
  config.ood.zoo = ""
  config.ood.test_images = 200
  return common.compose(config, VARIANTS, variants, __file__)


def _mnist(config):
  common.inr_images(config)
  config.data.name = "mnist"
  config.train.steps = 1500
  config.train.eval_every = 250
  config.steps.basis = 12_000


def _fashion_mnist(config):
  _mnist(config)
  config.data.name = "fashion_mnist"


def _full(config):
  config.refit.steps = (5, 10, 25, 50, 100)
  unseen = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}
  config.ood.name = unseen.get(config.data.name, "")


def _erosion(config):
  config.edit = "erosion"


def _rotation(config):
  config.edit = "rotation"


def _several(config):
  with config.ignore_type():
    config.edit = ("dilation", "erosion", "rotation")


def _coarse(config):
  config.zoo.coarse = 2
  config.edit = "identity"
  config.refit.steps = ()  # a network does not render what was averaged


def _large(config):
  _mnist(config)
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


def _tiny(config):
  common.tiny_inr_zoo(config)
  common.tiny_training(config)
  config.train.steps = 30
  config.steps.basis = 30
  config.methods = ("bidirectional", "basis", "mlp", "constant")
  config.learning_rates.basis = (1e-3,)
  config.learning_rates.mlp = (1e-3,)
  config.learning_rates.constant = (1e-3,)


VARIANTS = {
  "mnist": _mnist,
  "fashion_mnist": _fashion_mnist,
  "full": _full,
  "large": _large,
  "dws": common.inr_dws,
  "shared_init": common.inr_shared_init,
  "erosion": _erosion,
  "rotation": _rotation,
  "several": _several,
  "coarse": _coarse,
  "tiny": _tiny,
}
