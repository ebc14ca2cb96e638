"""The keys that configs share, see `build.schema`."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from experiments.build.schema import (
  EMPTY,
  FLAG,
  NONE,
  Key,
  Keys,
  Kind,
  either,
  interval,
  need,
  one_of,
  path,
  real,
  several,
  some_of,
  text,
  where,
  whole,
)
from experiments.build.schema import check as check_keys
from experiments.runner.trackers import PACKAGES
from scalegmn_jax.base import InputError
from scalegmn_jax.data import images
from scalegmn_jax.data.transforms import TRANSFORMS
from scalegmn_jax.gmn.features import BACKWARD, SYMMETRIES
from scalegmn_jax.gmn.products import DTYPES
from scalegmn_jax.inner import finetune
from scalegmn_jax.inner.losses import PENALTIES
from scalegmn_jax.targets.activations import ACTIVATIONS
from scalegmn_jax.training.objectives import REGRESSION
from scalegmn_jax.zoo import generate, split

WIDTH = whole(1, 2**14)
DEPTH = whole(0, 1000)
BATCH = whole(1, 10**6)
SEED = whole(0, 2**32 - 1)
RATE = real(0, 1000, above=True)
RATES = several(RATE)
PENALTY = real(0, 1e6)
POSITIVE = real(0, 1e6, above=True)
EPOCHS = several(whole(1, 10**6))
LAYER_SIZES = several(whole(1, 2**20))
POOL = one_of("average", "flatten")
PER_LAYER = either(whole(1, 1024), several(whole(1, 1024)))

SEEDS = where(
  several(SEED, 0), lambda v: len(set(v)) == len(v), "all different"
)
REGRESSION_LOSS = one_of(*REGRESSION)

ONE_SEED = where(
  SEEDS, lambda v: len(v) <= 1, "at most one: one operator is trained"
)
_ASCENDING = where(
  several(whole(0, 10**6)),
  lambda v: list(v) == sorted(set(v)) and v[-1] > 0,
  "ascending, the last one above 0",
)
_COUNTS = either(EMPTY, interval(whole(1, 10**6)))


def descents(least: int) -> Kind:
  """Methods of gradient descent: (optimizer, schedule) of each."""
  known = [(o, s) for o in finetune.OPTIMIZERS for s in finetune.SCHEDULES]
  listed = ", ".join(map(str, known))
  one = Kind(
    lambda v: isinstance(v, (list, tuple)) and tuple(v) in known, listed
  )
  return Kind(several(one, least).good, f"some of {listed}")


def _target(prefix: str) -> dict[str, Key]:
  """Arguments of `make_target`, with any section as their place."""
  activation = one_of(*ACTIVATIONS)
  keys = {
    "name": Key(
      text(),
      "architecture, see scalegmn_jax.targets.make_target; module:function of "
      "one's own, (input_shape, classes) -> target; zoo: as zoo.path says",
    ),
    "activation": Key(
      either(activation, some_of(ACTIVATIONS)),
      "activation; several: a zoo with all of them",
    ),
    "channels": Key(LAYER_SIZES, "output channels of each convolution"),
    "kernel_size": Key(PER_LAYER, "of all convolutions, or of each one"),
    "stride": Key(PER_LAYER, "of all convolutions, or of each one"),
    "padding": Key(
      either(one_of("SAME", "VALID"), whole(0, 1024)),
      "of the convolutions; a number: rows and columns on all four sides",
    ),
    "pool_size": Key(
      PER_LAYER, "side of the windows pooled after a convolution; 1: none"
    ),
    "pool_type": Key(one_of("max", "average"), "pooling of these windows"),
    "pool": Key(POOL, "of the last maps: over all positions, or flattened"),
    "dense": Key(
      several(whole(1, 2**20), 0), "sizes of the dense layers before the last"
    ),
    "hidden": Key(several(whole(1, 2**20), 0), "sizes of the hidden layers"),
    "omega": Key(
      real(0, 1e4, above=True), "factor before the activation (sine)"
    ),
    "widths": Key(LAYER_SIZES, "channels of each stage of a ResNet"),
    "blocks": Key(whole(1, 1000), "residual blocks per stage"),
    "batch_norm": Key(FLAG, "BatchNorm after each convolution"),
    "residual": Key(FLAG, "shortcuts around the blocks"),
    "patch": Key(whole(1, 1024), "height and width of the patches of a ViT"),
    "width": Key(whole(1, 2**20), "neurons of the stream of a ViT"),
    "heads": Key(whole(1, 1024), "of attention; divides the width"),
    "depth": Key(whole(1, 1000), "blocks of a ViT"),
    "mlp": Key(whole(1, 2**20), "hidden neurons of each block of a ViT"),
  }
  return {f"{prefix}.{name}": key for name, key in keys.items()}


_ZOO_TRAINING = {
  "size": Key(whole(1), "networks"),
  "epochs": Key(_ASCENDING, "checkpoints of each network, after these epochs"),
  "batch_size": Key(BATCH, "images per step"),
  "learning_rate": Key(interval(RATE), "low, high; log-uniform"),
  "l2": Key(interval(POSITIVE), "low, high; log-uniform"),
  "init_std": Key(interval(POSITIVE), "low, high; log-uniform"),
  "dropout": Key(
    where(interval(real(0, 1)), lambda v: v[1] < 1, "below 1"),
    "low, high; uniform",
  ),
  "train_fraction": Key(
    several(real(0, 1, above=True)), "share of the images; one of these"
  ),
  "optimizer": Key(some_of(generate.OPTIMIZERS), "one of these"),
  "initializer": Key(
    some_of((*generate.INITIALIZERS, generate.OWN)),
    "one of these; target: its own",
  ),
}

PROBES = Key(BATCH, "learned inputs whose outputs the methods with probes read")
"""The key `probes.count`."""


def budget_of(methods: Iterable[str]) -> Key:
  """The key `train.budget`, see `select.steps`.

  Args:
    methods: names of metanetworks, and "operations" where the first of them can
      be the one whose operations all have.
  """
  return Key(
    one_of("steps", *methods),
    "metanetworks have as many steps; or as many operations as the first one "
    "(operations) or this one",
  )


def _known_images(name: str) -> bool:
  try:
    images.parse(name)
  except InputError:
    return False
  return True


KEYS: dict[str, Key] = {
  "experiment": Key(text(), "a folder of experiments/, or a.dotted.module"),
  "seed": Key(SEED, "of all random draws that have no seed of their own"),
  "tracker": Key(
    one_of("", *PACKAGES), "shows metrics while a training runs; '': none"
  ),
  # Images.
  "data.name": Key(
    text(
      _known_images,
      f"one of {', '.join(images.NAMES)}, or several with + between them; each "
      f"may be followed by :{', :'.join(TRANSFORMS)}",
    ),
    "image set, see scalegmn_jax.data.images.load",
  ),
  "data.path": Key(path("download"), "folder or file of the images"),
  "data.side": Key(whole(0, 1024), "images get this side; 0: not scaled"),
  "data.limit": Key(
    either(EMPTY, several(whole(1), 3, 3)),
    "(training, validation, test) images; (): all",
  ),
  # Target networks.
  **_target("target"),
  # Networks.
  "zoo.path": Key(path("make one"), "folder of an existing zoo"),
  "zoo.cache": Key(
    path("the user's cache"), "folder of the zoos that are made"
  ),
  "zoo.test_path": Key(path("split the zoo"), "a zoo of test networks"),
  "zoo.skip_bad": Key(FLAG, "leave out networks with NaN; else an error"),
  "zoo.save_every": Key(whole(1), "networks between two saves"),
  **{f"zoo.{name}": key for name, key in _ZOO_TRAINING.items()},
  "zoo.classes_per_network": Key(
    _COUNTS,
    "low, high; (): all classes, in order; see zoo.generate.draw_classes",
  ),
  "zoo.outputs_per_network": Key(_COUNTS, "low, high; (): one per class"),
  "zoo.fractions": Key(
    where(
      several(real(0, 1, above=True), 3, 3),
      lambda v: abs(sum(v) - 1) < 1e-6,
      "with the sum 1",
    ),
    "shares of training, validation and test networks",
  ),
  "zoo.held_out": Key(
    one_of(*split.HELD_OUT),
    "what is on one side of the split: networks with the same labels, or all "
    "networks of an image set",
  ),
  "eval.val_networks": Key(
    whole(1), "validation networks; all selection uses these"
  ),
  "eval.test_networks": Key(whole(1), "networks of the tables"),
  # Networks that are trained differently from the zoo.
  "ood.paths": Key(
    several(text(), 0), "other zoos, and .npy files of one network"
  ),
  **{f"ood.{name}": key for name, key in _ZOO_TRAINING.items()},
  "ood.size": Key(
    whole(0, 10**6), "networks trained with the other keys; 0: none"
  ),
  # The metanetwork.
  "model.width": Key(WIDTH, "features per vertex and edge"),
  "model.depth": Key(DEPTH, "message passing layers"),
  "model.bidirectional": Key(FLAG, "messages also pass from outputs to inputs"),
  "model.backward": Key(one_of(*BACKWARD), "edge feature of backward messages"),
  "model.dtype": Key(
    one_of(*DTYPES), "of matrix products; sums are in float32"
  ),
  "model.symmetry": Key(
    one_of(*SYMMETRIES), "group; permutation: for any target"
  ),
  "model.edge_block": Key(
    either(NONE, whole(1)), "edges computed at a time; None: by size"
  ),
  "model.prototypes": Key(
    whole(0, 1000), "networks it learns to write; 0: updates only"
  ),
  "model.classes": Key(
    whole(0, 10**6), "of the images, if networks permute them; else 0"
  ),
  "model.probes": Key(BATCH, "inputs whose outputs are read"),
  "model.class_combinations": Key(FLAG, "networks may merge or lack classes"),
  "model.basis": Key(
    whole(0, 10**5), "changes of prototypes, with factors read from probes"
  ),
  # Its training.
  "train.seeds": Key(SEEDS, "of φ, one training each; (): config.seed"),
  "train.restarts": Key(
    whole(1, 1000), "trainings per seed; validation keeps the best"
  ),
  "train.steps": Key(whole(1), "training steps"),
  "train.batch_networks": Key(BATCH, "networks per step"),
  "train.batch_images": Key(
    BATCH, "images per step, the same for all networks"
  ),
  "train.image_noise": Key(
    real(0, 1000), "standard deviation of the noise added to pixels"
  ),
  "train.grad_chunk": Key(
    whole(0, 10**6), "networks per gradient, divides the batch; 0: the fastest"
  ),
  "train.learning_rate": Key(RATE, "peak, after the warm-up"),
  "train.learning_rates": Key(
    several(RATE, 0),
    "validation selects one per method and seed; (): train.learning_rate",
  ),
  "train.warmup": Key(whole(0), "steps of warm-up, fewer than train.steps"),
  "train.weight_decay": Key(real(0, 1000), "decoupled; on kernels"),
  "train.clip": Key(real(0, 1e30, above=True), "greatest norm of a gradient"),
  "train.log_every": Key(whole(1), "steps between two rows of metrics"),
  "train.eval_every": Key(whole(1), "steps between validations, checkpoints"),
  "train.patience": Key(
    whole(1), "consecutive non-finite updates that end a run"
  ),
  # The objective of operators.
  "loss.l1": Key(PENALTY, "λ, factor of the L1 penalty"),
  "loss.penalty": Key(
    one_of(*PENALTIES), "balanced, or plain as in the papers"
  ),
  "loss.ramp": Key(
    interval(real(0, 1)),
    "the penalty grows linearly between these shares of the steps",
  ),
  # Baselines of amortized fine-tuning.
  "baselines.methods": Key(descents(1), "(optimizer, schedule) of each"),
  "baselines.learning_rates": Key(RATES, "Adam; SGD: x 10"),
  "baselines.epochs": Key(EPOCHS, "horizons"),
  "baselines.batch_size": Key(BATCH, "images per step"),
}
"""Shared keys; an experiment can give them another kind or meaning."""


def targets(section: str) -> Keys:
  """The keys of a section that holds a target per name."""
  return _target(f"{section}.*")


def check(config: ConfigDict, keys: Keys) -> None:
  """Raises InputError for values that no run can have.

  Args:
    config: of an experiment.
    keys: the shared keys and those of the experiment.
  """
  check_keys(config, keys)
  if "train" not in config:
    return
  networks = config.train.batch_networks
  need(
    config,
    "train.grad_chunk",
    lambda v: v == 0 or networks % v == 0,
    f"0 or a divisor of train.batch_networks ({networks})",
  )
  if "steps" in config.train:
    steps = config.train.steps
    need(
      config,
      "train.warmup",
      lambda v: v < steps,
      f"less than train.steps ({steps})",
    )
