"""Sections of keys that configs share, with small defaults, and variants.

A config is composed of sections: each function here adds keys or gives other
values to keys that exist. Variants do the same, see `compose`.

The meaning and the values of every key are in experiments/build/keys.py and in
the `KEYS` of an experiment. They are shown by

  python -m experiments.run --config=configs/cnn.py --help
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

Variants = Mapping[str, Callable[[ConfigDict], object]]
"""{name: function that changes a config}."""


def start(experiment: str) -> ConfigDict:
  """A config without sections."""
  config = ConfigDict()
  config.experiment = experiment
  config.seed = 0
  config.tracker = ""
  return config


def compose(
  config: ConfigDict, variants: Variants, text: str, file: str
) -> ConfigDict:
  """Applies variants to a config, from left to right.

  Args:
    config: the config without variants.
    variants: the variants of the config file.
    text: names separated by commas, the part after the colon in
      --config=configs/cnn.py:cifar10_gs,tanh; "" for none.
    file: path of the config file, for the error message.

  Returns:
    The changed config.

  Raises:
    ValueError: an unknown variant.
  """
  for name in text.split(",") if text else ():
    if name not in variants:
      raise ValueError(
        f"configs/{Path(file).name} has no variant {name!r}: expected some of "
        f"{', '.join(variants)}, separated by commas"
      )
    variants[name](config)
  return config


def data(config: ConfigDict) -> None:
  """The images."""
  config.data = ConfigDict()
  config.data.name = "digits"
  config.data.path = ""
  config.data.side = 0
  config.data.limit = ()


def cnn(target: ConfigDict) -> None:
  """Small CNNs for 8x8 images."""
  target.name = "cnn"
  target.channels = (16, 16)
  target.kernel_size = 3
  target.stride = 2
  target.padding = "SAME"
  target.pool_size = 1
  target.pool_type = "max"
  target.pool = "average"
  target.dense = ()


def cnn_target(config: ConfigDict) -> None:
  """The target network: a small CNN."""
  config.target = ConfigDict()  # arguments of scalegmn_jax.targets.make_target
  config.target.activation = ("relu",)
  cnn(config.target)


def mlp_target(config: ConfigDict) -> None:
  """The target network: a small MLP."""
  config.target = ConfigDict()
  config.target.activation = ("relu",)
  config.target.name = "mlp"
  config.target.hidden = (16, 16)
  config.target.omega = 1.0


def zoo(config: ConfigDict) -> None:
  """The training of the networks of a zoo."""
  config.zoo = ConfigDict()
  config.zoo.path = ""
  config.zoo.cache = ""
  config.zoo.skip_bad = False
  config.zoo.epochs = (1, 2, 4, 8, 16)
  config.zoo.batch_size = 32
  config.zoo.save_every = 64
  config.zoo.learning_rate = (5e-4, 5e-2)
  config.zoo.l2 = (1e-8, 1e-2)
  config.zoo.init_std = (1e-3, 0.5)
  config.zoo.dropout = (0.0, 0.7)
  config.zoo.train_fraction = (0.1, 0.25, 0.5, 1.0)
  config.zoo.classes_per_network = ()
  config.zoo.outputs_per_network = ()
  config.zoo.optimizer = ("adam", "sgd", "rmsprop")
  config.zoo.initializer = (
    "glorot_normal",
    "he_normal",
    "truncated_normal",
    "orthogonal",
    "normal",
  )


def zoo_split(config: ConfigDict) -> None:
  """The size of a zoo and its split."""
  config.zoo.size = 576
  config.zoo.fractions = (0.8, 0.1, 0.1)


def evaluation(config: ConfigDict) -> None:
  """Validation and test networks."""
  config.eval = ConfigDict()
  config.eval.val_networks = 16
  config.eval.test_networks = 32


def split_zoo(config: ConfigDict) -> None:
  """A zoo with test networks of its own or from another zoo."""
  zoo(config)
  zoo_split(config)
  config.zoo.test_path = ""
  evaluation(config)


def cifar10_gs(config: ConfigDict) -> None:
  """The architecture of the Small CNN Zoo, and a zoo of short runs."""
  config.data.name = "cifar10_gs"
  config.target.channels = (16, 16, 16)
  config.target.padding = "VALID"
  config.zoo.size = 128
  config.zoo.epochs = (1, 2)
  config.zoo.batch_size = 64
  # The part of the public zoo's ranges in which short runs learn.
  config.zoo.learning_rate = (5e-4, 1e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.init_std = (0.032, 0.5)
  config.zoo.dropout = (0.0, 0.5)
  config.zoo.optimizer = ("adam",)
  config.zoo.initializer = ("glorot_normal", "he_normal", "normal")


def resnet(config: ConfigDict) -> None:
  """ResNets with BatchNorm and eight layers, on CIFAR-10-GS at 16x16."""
  config.target = ConfigDict()
  config.target.name = "resnet"
  config.target.activation = ("relu",)
  config.target.widths = (8, 16, 16)
  config.target.blocks = 1
  config.target.batch_norm = True
  config.target.residual = True
  config.data.name = "cifar10_gs"
  config.data.side = 16
  config.data.limit = (2000, 500, 1000)
  _own_init(config)
  config.zoo.size = 192
  config.zoo.epochs = (1, 2, 4, 8)
  config.zoo.batch_size = 64
  config.zoo.learning_rate = (1e-3, 3e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.train_fraction = (0.25, 0.5, 1.0)
  config.zoo.optimizer = ("adam", "sgd")


def vit(config: ConfigDict) -> None:
  """Vision transformers with two blocks, on 8x8 digits."""
  config.target = ConfigDict()
  config.target.name = "vit"
  config.target.activation = ("gelu",)
  config.target.patch = 2
  config.target.width = 16
  config.target.heads = 2
  config.target.depth = 2
  config.target.mlp = 32
  _own_init(config)
  config.zoo.size = 512
  config.zoo.learning_rate = (5e-4, 1e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.train_fraction = (0.1, 0.25, 0.5, 1.0)
  config.zoo.optimizer = ("adam",)


def _own_init(config: ConfigDict) -> None:
  """Networks that start from the `init` of their target, without dropout."""
  for section in ("zoo", "ood"):
    if section in config:
      config[section].initializer = ("target",)
      config[section].dropout = (0.0, 0.0)


def inr_zoo(config: ConfigDict) -> None:
  """SIRENs, and a zoo with one SIREN per image."""
  config.target = ConfigDict()
  config.target.hidden = (16, 16)
  config.target.omega = 30.0

  config.zoo = ConfigDict()
  config.zoo.path = ""
  # How the program that fitted an existing zoo evaluates its networks, see
  # scalegmn_jax.zoo.inrs.Convention.
  config.zoo.offset = 0.0
  config.zoo.axes = ()
  config.zoo.omega = ()
  config.zoo.cache = ""
  config.zoo.train_images = 10_000
  config.zoo.val_images = 500
  config.zoo.test_images = 1000
  config.zoo.views = 1
  config.zoo.epochs = 50
  config.zoo.batch_size = 0
  config.zoo.learning_rate = 1e-2
  # How they are initialized and trained, see scalegmn_jax.zoo.inrs.cached_inrs.
  config.zoo.init = "siren"
  config.zoo.shared_init = False
  config.zoo.schedule = "cosine"
  config.zoo.stop_psnr = 0.0
  config.zoo.epochs_per_call = 1
  config.zoo.coarse = 1
  config.zoo.save_every = 512
  config.zoo.vmap_size = 0


def inr_dws(config: ConfigDict) -> None:
  """SIRENs fitted as the public MNIST and Fashion-MNIST INRs of DWS are.

  Source: the class `INR` of github.com/AvivNavon/DWSNets, nn/inr.py, and its
  issue 6.
  """
  config.target.omega = 30.0
  config.zoo.init = "dws"
  config.zoo.epochs = 1000
  config.zoo.batch_size = 0
  config.zoo.learning_rate = 5e-4
  config.zoo.schedule = "constant"
  config.zoo.stop_psnr = 40.0
  config.zoo.epochs_per_call = 50


def inr_shared_init(config: ConfigDict) -> None:
  """SIRENs that all start from the same weights."""
  config.zoo.shared_init = True


def inr_images(config: ConfigDict) -> None:
  """SIRENs of images of about 28x28."""
  config.target.hidden = (32, 32)
  config.target.omega = 30.0
  config.zoo.views = 1
  config.zoo.epochs = 50
  config.zoo.learning_rate = 1e-2


def inr_digits(config: ConfigDict) -> None:
  """SIRENs of 8x8 images."""
  config.target.omega = 5.0  # a coarse grid holds low frequencies only
  config.zoo.views = 4
  config.zoo.epochs = 120
  config.zoo.learning_rate = 2e-2


def model(config: ConfigDict) -> None:
  """The metanetwork."""
  config.model = ConfigDict()
  config.model.width = 32
  config.model.depth = 2
  config.model.bidirectional = True
  config.model.backward = "carrier"
  config.model.dtype = "float32"


def model_symmetry(config: ConfigDict) -> None:
  """The symmetry group of the metanetwork."""
  config.model.symmetry = "target"


def model_edge_block(config: ConfigDict) -> None:
  """The memory of message passing."""
  config.model.edge_block = placeholder(int)


def full_model(config: ConfigDict) -> None:
  """The metanetwork, with all keys."""
  model(config)
  model_symmetry(config)
  model_edge_block(config)


def probes(config: ConfigDict) -> None:
  """What methods with probes read."""
  config.probes = ConfigDict()
  config.probes.count = 128


def train(config: ConfigDict) -> None:
  """The training of the metanetwork, without the number of steps."""
  config.train = ConfigDict()
  config.train.seeds = ()
  config.train.restarts = 1
  config.train.batch_networks = 8
  config.train.grad_chunk = 0
  config.train.learning_rate = 3e-3
  config.train.warmup = 100
  config.train.weight_decay = 1e-4
  config.train.clip = 10.0
  config.train.log_every = 100
  config.train.eval_every = 1000
  config.train.patience = 100


def amortized(config: ConfigDict) -> None:
  """The sections of amortized fine-tuning, without target and steps."""
  data(config)
  split_zoo(config)
  full_model(config)
  config.model.width = 8
  config.model.depth = 1
  config.model.prototypes = 1
  config.model.classes = 0
  config.model.probes = 128
  config.model.class_combinations = False
  config.model.basis = 0
  train(config)
  config.train.learning_rate = 3e-2
  config.train.batch_images = 128
  config.train.image_noise = 0.0

  config.loss = ConfigDict()
  config.loss.l1 = 1e-3
  config.loss.penalty = "balanced"
  config.loss.ramp = (0.0, 0.0)

  config.baselines = ConfigDict()
  config.baselines.methods = (("adam", "constant"),)
  config.baselines.learning_rates = (3e-3, 1e-2, 2e-2, 4e-2)
  config.baselines.epochs = (1, 5, 10, 25, 50, 150)
  config.baselines.batch_size = 64


def finetune() -> ConfigDict:
  """All keys of the experiment `finetune`, without the target."""
  config = start("finetune")
  amortized(config)
  config.train.steps = 5000
  config.train.budget = "steps"
  config.writer = "scalegmn"
  config.loss.supervision = "labels"
  config.zoo.held_out = "labels"

  # Out-of-distribution networks, which are trained differently from the zoo.
  config.ood = ConfigDict()
  config.ood.paths = ()
  config.ood.size = 32
  config.ood.epochs = (64,)
  config.ood.batch_size = 128
  config.ood.learning_rate = (3e-3, 1e-2)
  config.ood.l2 = (1e-8, 1e-5)
  config.ood.dropout = (0.0, 0.1)
  config.ood.train_fraction = (1.0,)
  config.ood.optimizer = ("adam",)
  config.ood.initializer = ("he_normal",)

  config.baselines.constant_epochs = 200
  config.baselines.last_layer_steps = 5
  config.baselines.epochs_after_edit = ()
  config.baselines.epochs_after_constant = ()
  config.baselines.metanetworks = ()
  return config


def compression(config: ConfigDict) -> None:
  """CNNs, and an operator with which they keep their own outputs."""
  data(config)
  cnn_target(config)
  split_zoo(config)
  config.zoo.fractions = (0.7, 0.1, 0.2)
  config.eval.val_networks = 48
  config.eval.test_networks = 112
  full_model(config)
  config.model.width = 24
  config.model.depth = 2
  train(config)
  config.train.learning_rate = 1e-3
  config.train.clip = 1.0
  config.train.steps = 2500
  config.train.batch_images = 128
  config.train.eval_every = 250


def tiny_compression(config: ConfigDict) -> None:
  """The sizes of a tiny run of `compression`."""
  tiny_sections(config)
  config.train.steps = 10
  config.train.batch_images = 16
  config.eval.val_networks = 2
  config.eval.test_networks = 3


def shared_labels(config: ConfigDict) -> None:
  """Training on networks that all have the same labels."""
  # They get the same images: more steps on fewer networks.
  config.train.batch_networks = 2
  config.train.steps = 10_000


def paper(config: ConfigDict) -> None:
  """The operator and the objective of the paper, smaller: messages alone, and
  the L1 norm of the weights as they are (Kuipers et al. 2025)."""
  config.model.prototypes = 0
  config.model.width = 32
  config.model.depth = 2
  config.loss.penalty = "plain"
  config.train.restarts = 1
  config.train.learning_rate = 3e-3
  config.train.batch_networks = 8
  config.train.steps = 4000


def network_labels(config: ConfigDict) -> None:
  """A zoo whose networks have the ten classes in orders of their own."""
  # Networks that have learned: the labels of others cannot be inferred.
  config.zoo.learning_rate = (1e-3, 1e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.init_std = (0.03, 0.5)
  config.zoo.dropout = (0.0, 0.3)
  config.zoo.train_fraction = (0.25, 0.5, 1.0)
  config.zoo.optimizer = ("adam", "rmsprop")
  config.zoo.initializer = ("glorot_normal", "he_normal", "orthogonal")
  config.zoo.classes_per_network = (10, 10)
  config.model.classes = 10
  config.model.depth = 0  # messages bring nothing (notebook, entry 25)


def full(config: ConfigDict) -> None:
  """Every baseline of the protocol."""
  config.eval.val_networks = 32
  config.eval.test_networks = 64
  config.baselines.methods = (
    ("adam", "constant"),
    ("sgd", "constant"),
    ("adam", "cosine"),
    ("sgd", "cosine"),
  )
  config.baselines.learning_rates = (1e-3, 3e-3, 1e-2, 2e-2, 4e-2)
  config.baselines.epochs = (1, 5, 10, 25, 50, 100, 150)
  config.baselines.constant_epochs = 400
  config.baselines.epochs_after_edit = (1, 5)
  config.baselines.metanetworks = ("permutation", "mlp")


def tiny(config: ConfigDict) -> None:
  """The whole path of `finetune` in seconds; its numbers mean nothing."""
  tiny_amortized(config)
  config.train.steps = 30
  config.ood.size = 4
  config.ood.epochs = (2,)
  config.baselines.constant_epochs = 2


def tiny_amortized(config: ConfigDict) -> None:
  """Small sections of amortized fine-tuning."""
  tiny_sections(config)
  config.train.batch_images = 32
  config.baselines.learning_rates = (3e-3, 1e-2)
  config.baselines.epochs = (1, 2)


_TINY_TARGETS = {
  "cnn": {"channels": (4, 4)},
  "mlp": {"hidden": (6, 6)},
  "resnet": {"widths": (2, 3)},
  "vit": {"width": 4, "depth": 1, "mlp": 6},
}


def tiny_target(config: ConfigDict) -> None:
  """Small target networks."""
  config.target.update(_TINY_TARGETS[config.target.name])


def tiny_zoo(config: ConfigDict) -> None:
  """A zoo that is trained in seconds."""
  config.zoo.size = 24
  config.zoo.epochs = (1, 3)
  config.zoo.save_every = 24
  config.zoo.fractions = (0.5, 0.25, 0.25)


def tiny_sections(config: ConfigDict) -> None:
  """A small zoo, few networks to measure, and a short training."""
  tiny_zoo(config)
  config.eval.val_networks = 4
  config.eval.test_networks = 6
  tiny_training(config)


def tiny_inr_zoo(config: ConfigDict) -> None:
  """SIRENs that are fitted in seconds."""
  inr_digits(config)
  config.target.hidden = (6, 6)
  config.zoo.train_images = 48
  config.zoo.val_images = 12
  config.zoo.test_images = 16
  config.zoo.views = 1
  config.zoo.epochs = 20
  config.zoo.save_every = 40


def tiny_training(config: ConfigDict) -> None:
  """A small metanetwork and a short training, without the number of steps."""
  config.model.width = 8
  config.model.depth = 1
  config.train.restarts = 1
  config.train.batch_networks = 2
  config.train.warmup = 5
  config.train.log_every = 5
  config.train.eval_every = 10
