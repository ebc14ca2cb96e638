"""What the configs share: sections of keys, with small defaults."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def start(experiment: str) -> ConfigDict:
  """A config without sections."""
  config = ConfigDict()
  config.experiment = experiment  # a module of experiments/tasks
  config.seed = 0
  return config


def data(config: ConfigDict) -> None:
  config.data = ConfigDict()
  config.data.name = "digits"  # see scalegmn_jax.data.images.load
  config.data.path = ""  # folder or file of the images; "": download
  config.data.side = 0  # of images that are scaled; 0: as they are
  config.data.limit = ()  # training, validation, test images of a set; (): all


def zoo(config: ConfigDict) -> None:
  """The target network, and a zoo of them."""
  config.target = ConfigDict()  # arguments of the target network
  config.target.activation = ("relu",)  # several: a mixed zoo

  config.zoo = ConfigDict()
  config.zoo.path = ""  # folder of an existing zoo; "": generate one
  config.zoo.test_path = ""  # a zoo of test networks of its own; "": split
  config.zoo.cache = ""  # where generated zoos are kept; "": user's cache
  config.zoo.size = 576  # networks
  config.zoo.epochs = (1, 2, 4, 8, 16)  # checkpoints of each of them
  config.zoo.batch_size = 32
  config.zoo.save_every = 64  # networks between two saves
  config.zoo.fractions = (0.8, 0.1, 0.1)  # train, validation, test networks
  config.zoo.learning_rate = (5e-4, 5e-2)  # log-uniform, as the next two
  config.zoo.l2 = (1e-8, 1e-2)
  config.zoo.init_std = (1e-3, 0.5)
  config.zoo.dropout = (0.0, 0.7)  # uniform
  config.zoo.train_fraction = (0.1, 0.25, 0.5, 1.0)  # one of these
  # Tasks of their own, see `generate.draw_classes`; (): one for all.
  config.zoo.classes_per_network = ()  # low, high: classes that a network has
  config.zoo.outputs_per_network = ()  # low, high: outputs for them; (): one each
  config.zoo.optimizer = ("adam", "sgd", "rmsprop")
  config.zoo.initializer = (
    "glorot_normal",
    "he_normal",
    "truncated_normal",
    "orthogonal",
    "normal",
  )

  config.eval = ConfigDict()
  config.eval.val_networks = 16  # on which everything is chosen
  config.eval.test_networks = 32


def cnn(config: ConfigDict) -> None:
  """Small CNNs for 8x8 images."""
  config.target.name = "cnn"
  config.target.channels = (16, 16)
  config.target.kernel_size = 3
  config.target.stride = 2
  config.target.padding = "SAME"
  config.target.pool = "average"


def cifar10_gs(config: ConfigDict) -> None:
  """The Small CNN Zoo's architecture, and a zoo of short runs."""
  config.data.name = "cifar10_gs"
  config.target.channels = (16, 16, 16)
  config.target.padding = "VALID"
  config.zoo.size = 128
  config.zoo.epochs = (1, 2)
  config.zoo.batch_size = 64
  # Of the public zoo's ranges the part in which so short runs learn.
  config.zoo.learning_rate = (5e-4, 1e-2)
  config.zoo.l2 = (1e-8, 1e-3)
  config.zoo.init_std = (0.032, 0.5)
  config.zoo.dropout = (0.0, 0.5)
  config.zoo.optimizer = ("adam",)
  config.zoo.initializer = ("glorot_normal", "he_normal", "normal")


def own_tasks(config: ConfigDict) -> None:
  """Networks that answer for the ten classes in an order of their own."""
  # Networks that have learned something: of others nobody can read the task.
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


def inrs(config: ConfigDict) -> None:
  """SIRENs, and a zoo of them: one image each."""
  config.target = ConfigDict()
  config.target.hidden = (16, 16)
  config.target.omega = 30.0

  config.zoo = ConfigDict()
  config.zoo.path = ""  # folder of an existing zoo; "": fit one
  config.zoo.cache = ""  # where fitted zoos are kept; "": user's cache
  config.zoo.train_images = 10_000  # the first of each part of the image set
  config.zoo.val_images = 500
  config.zoo.test_images = 1000
  config.zoo.views = 1  # networks per training image
  config.zoo.epochs = 50
  config.zoo.batch_size = 0  # pixels per step; 0: all
  config.zoo.learning_rate = 1e-2
  config.zoo.save_every = 512  # networks between two saves
  config.zoo.vmap_size = 0  # fitted side by side; 0: the fastest


def inrs_of_digits(config: ConfigDict) -> None:
  """Likewise, of 8x8 images: as coarse a grid holds lower frequencies."""
  config.target.omega = 5.0
  config.zoo.views = 4
  config.zoo.epochs = 120
  config.zoo.learning_rate = 2e-2


def tiny_inrs(config: ConfigDict) -> None:
  """Likewise, in seconds; the numbers mean nothing."""
  inrs_of_digits(config)
  config.target.hidden = (6, 6)
  config.zoo.train_images = 48
  config.zoo.val_images = 12
  config.zoo.test_images = 16
  config.zoo.views = 1
  config.zoo.epochs = 20
  config.zoo.save_every = 40


def model(config: ConfigDict) -> None:
  """The metanetwork."""
  config.model = ConfigDict()
  config.model.symmetry = "target"  # or "permutation", whatever the target has
  config.model.width = 32
  config.model.depth = 2  # message passing layers
  config.model.bidirectional = True
  config.model.backward = "carrier"  # or "inverse"
  config.model.edge_block = placeholder(int)  # edges at a time; None: all


def train(config: ConfigDict) -> None:
  """Its training."""
  config.train = ConfigDict()
  config.train.seeds = ()  # of φ, a training each; (): config.seed
  config.train.restarts = 1  # trainings from other φ, of which one is kept
  config.train.steps = 10_000
  config.train.batch_networks = 8  # per step
  config.train.grad_chunk = (
    0  # networks differentiated at a time; 0: the fastest
  )
  config.train.learning_rate = 3e-3
  config.train.warmup = 100
  config.train.weight_decay = 1e-4
  config.train.clip = 10.0
  config.train.log_every = 100
  config.train.eval_every = 1000  # validation and checkpoint
  config.train.patience = 100  # non-finite updates in a row that end a run


def finetune() -> ConfigDict:
  """Every key of amortized fine-tuning."""
  config = start("finetune")
  data(config)
  zoo(config)
  model(config)
  config.model.width = 8
  config.model.depth = 1
  config.model.prototypes = 1  # networks it learns to write; 0: only updates
  config.model.classes = 0  # of the images, where networks have them in orders
  config.model.probes = 128  # inputs by whose outputs it knows their classes
  config.model.class_combinations = False  # of classes that networks have
  train(config)
  config.train.steps = 5000
  config.train.learning_rate = 3e-2
  config.train.batch_images = 128  # per step, the same for all of its networks
  config.train.image_noise = 0.0  # std, of what is added to their pixels

  config.loss = ConfigDict()
  config.loss.l1 = 1e-3
  config.loss.penalty = "balanced"  # or "plain", as in the papers
  # From which share of the steps on the penalty counts, and from which in full.
  config.loss.ramp = (0.0, 0.0)
  config.loss.supervision = "labels"  # or "outputs": each network's own

  # Networks that are trained otherwise than the zoo, and what becomes of them.
  config.ood = ConfigDict()
  config.ood.paths = ()  # other zoos, and .npy files of one network
  config.ood.size = 32  # networks trained as follows; 0: none
  config.ood.epochs = (64,)
  config.ood.batch_size = 128
  config.ood.learning_rate = (3e-3, 1e-2)
  config.ood.l2 = (1e-8, 1e-5)
  config.ood.dropout = (0.0, 0.1)
  config.ood.train_fraction = (1.0,)
  config.ood.optimizer = ("adam",)
  config.ood.initializer = ("he_normal",)

  config.baselines = ConfigDict()
  config.baselines.methods = (("adam", "constant"),)  # optimizer, schedule
  config.baselines.learning_rates = (
    3e-3,
    1e-2,
    2e-2,
    4e-2,
  )  # of Adam; 10 x for SGD
  config.baselines.epochs = (1, 5, 10, 25, 50, 150)  # horizons
  config.baselines.batch_size = 64
  config.baselines.constant_epochs = 200  # one network trained offline
  config.baselines.last_layer_steps = (
    5  # Newton steps on it alone; 0: no such rows
  )
  config.baselines.epochs_after_edit = ()  # epochs of Adam after the operator
  config.baselines.epochs_after_constant = ()  # likewise, after another's training
  config.baselines.metanetworks = ()  # "permutation", "mlp": same FLOPs
  return config


def one_task(config: ConfigDict) -> None:
  """Networks of one task get the same images: more steps of fewer of them."""
  config.train.batch_networks = 2
  config.train.steps = 10_000


def full(config: ConfigDict) -> ConfigDict:
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
  return config


def tiny(config: ConfigDict) -> ConfigDict:
  """The whole path in seconds; its numbers mean nothing."""
  tiny_sections(config)
  config.train.batch_images = 32
  config.ood.size = 4
  config.ood.epochs = (2,)
  config.baselines.learning_rates = (3e-3, 1e-2)
  config.baselines.epochs = (1, 2)
  config.baselines.constant_epochs = 2
  return config


def tiny_sections(config: ConfigDict) -> None:
  """Likewise, of the sections that experiments share."""
  config.zoo.size = 24
  config.zoo.epochs = (1, 3)
  config.zoo.save_every = 24
  config.zoo.fractions = (0.5, 0.25, 0.25)
  config.eval.val_networks = 4
  config.eval.test_networks = 6
  tiny_training(config)


def tiny_training(config: ConfigDict) -> None:
  """Likewise, of a metanetwork."""
  config.model.width = 8
  config.model.depth = 1
  config.train.restarts = 1
  config.train.steps = 30
  config.train.batch_networks = 2
  config.train.warmup = 5
  config.train.log_every = 5
  config.train.eval_every = 10
