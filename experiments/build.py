"""From a config to objects: the only place where config keys become code."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ml_collections import ConfigDict

from experiments.runner import progress
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.data import download, images
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.training import optimizer
from scalegmn_jax.zoo import cache, codec, generate, parts, split, store

# How often a run reports does not change what it computes.
_PRESENTATION = {"train": ("log_every",)}


def plain(config: ConfigDict) -> dict[str, Any]:
  """The config as JSON values."""
  return json.loads(json.dumps(config.to_dict()))


def config_hash(config: ConfigDict) -> str:
  """A hash of the keys that matter."""
  values = plain(config)
  for section, keys in _PRESENTATION.items():
    for key in keys:
      values.get(section, {}).pop(key, None)
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def need(
  config: ConfigDict, key: str, good: Callable[[Any], bool], expected: str
) -> None:
  """Raises InputError unless the value of a key is good."""
  value: Any = config
  for part in key.split("."):
    value = value[part]
  if not good(value):
    raise InputError(f"config.{key} is {value!r}, expected {expected}")


_POSITIVE = (lambda v: v >= 1, "at least 1")
_NOT_NEGATIVE = (lambda v: v >= 0, "0 or more")
_NUMBERS = (lambda v: len(v) > 0 and min(v) > 0, "positive numbers")
_RANGE = (lambda v: len(v) == 2 and 0 < v[0] <= v[1], "0 < low <= high")


def _some(known) -> tuple[Callable[[Any], bool], str]:
  return (
    lambda v: len(v) > 0 and set(v) <= set(known),
    f"some of {', '.join(known)}",
  )


_COUNTS = (
  lambda v: len(v) == 0 or (len(v) == 2 and 1 <= v[0] <= v[1]),
  "empty or 1 <= low <= high",
)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
  "seed": (lambda v: 0 <= v < 2**32, "0 to 2**32 - 1"),
  "train.batch_networks": _POSITIVE,
  "train.batch_images": _POSITIVE,
  "train.log_every": _POSITIVE,
  "train.eval_every": _POSITIVE,
  "train.patience": _POSITIVE,
  "train.restarts": _POSITIVE,
  "train.image_noise": _NOT_NEGATIVE,
  "eval.val_networks": _POSITIVE,
  "eval.test_networks": _POSITIVE,
  "model.width": _POSITIVE,
  "model.depth": _NOT_NEGATIVE,
  "baselines.batch_size": _POSITIVE,
  "baselines.epochs": _NUMBERS,
  "baselines.learning_rates": _NUMBERS,
  "baselines.last_layer_steps": (lambda v: v >= 0, "0 or a number of steps"),
  "data.side": (lambda v: v >= 0, "0 or the side of an image"),
  "zoo.size": _POSITIVE,
  "zoo.save_every": _POSITIVE,
  "zoo.learning_rate": _RANGE,
  "zoo.l2": _RANGE,
  "zoo.init_std": _RANGE,
  "zoo.dropout": (
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] < 1,
    "0 <= low <= high < 1",
  ),
  "zoo.train_fraction": (
    lambda v: len(v) > 0 and 0 < min(v) <= max(v) <= 1,
    "shares in (0, 1]",
  ),
  "zoo.classes_per_network": _COUNTS,
  "zoo.outputs_per_network": _COUNTS,
  "zoo.optimizer": _some(generate.OPTIMIZERS),
  "zoo.initializer": _some(generate.INITIALIZERS),
  "zoo.fractions": (
    lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-6,
    "three positive shares that add up to 1",
  ),
}
"""What must hold of keys that several experiments have."""


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have.

  What a library function checks by itself is left to it, and what only one
  experiment has to that experiment.
  """
  values = config.to_dict()
  for key, (good, expected) in _CHECKS.items():
    section, _, name = key.rpartition(".")
    if name in (values.get(section, {}) if section else values):
      need(config, key, good, expected)
    if section == "zoo" and name in values.get("ood", {}):
      # The same keys, of networks that are trained otherwise, if any are.
      if values["ood"]["size"]:
        need(config, f"ood.{name}", good, expected)
  if "train" in config:
    networks = config.train.batch_networks
    need(
      config,
      "train.grad_chunk",
      lambda v: v >= 0 and (v == 0 or networks % v == 0),
      f"0 or a divisor of train.batch_networks ({networks})",
    )
    if "steps" in values["train"]:
      build_optimizer(config, config.train.steps)


def default_grad_chunk(networks: int) -> int | None:
  """Networks at a time, None for all; for 0 what is fastest on the device."""
  if networks:
    return networks
  return 1 if jax.default_backend() == "cpu" else None


def default_vmap_size(target: TargetNetwork) -> int | None:
  """Networks trained side by side, None for all: what is fastest.

  On a CPU that is one network at a time where kernels are convolved, for the
  features of many do not fit in the cache; batched products of small matrices
  are better made together.
  """
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  convolved = any(len(leaf.shape) > 2 for leaf in jax.tree.leaves(shapes))
  return default_grad_chunk(0) if convolved else None


def build_optimizer(
  config: ConfigDict, steps: int, learning_rate: float | None = None
) -> optax.GradientTransformation:
  """The optimizer of φ over that many steps; None: the config's rate."""
  c = config.train
  return optimizer.make_optimizer(
    learning_rate=c.learning_rate if learning_rate is None else learning_rate,
    steps=steps,
    warmup=c.warmup,
    weight_decay=c.weight_decay,
    clip=c.clip,
  )


def build_images(config: ConfigDict) -> images.Images:
  c = config.data
  return images.load(c.name, c.path, side=c.side, limit=c.limit)


def build_target(config: ConfigDict, data: images.Images) -> TargetNetwork:
  """The target network on the images of `data`.

  Of several image sets a network has one: it needs the outputs of the largest.
  """
  if len(data.sets) > 1 and not config.zoo.classes_per_network:
    raise InputError(
      f"config.data.name is {config.data.name!r}, several image sets: "
      "config.zoo.classes_per_network has to say how many classes of one of them a network "
      "has"
    )
  arguments = config.target.to_dict()
  shape = data.train_x.shape[1:]
  if arguments["name"] == "cnn":
    arguments |= {"input_shape": shape, "classes": max(data.sets)}
  elif arguments["name"] == "mlp":
    hidden = arguments.pop("hidden")
    arguments["sizes"] = (int(np.prod(shape)), *hidden, max(data.sets))
  return make_target(arguments)


@dataclasses.dataclass(frozen=True)
class ZooSplit:
  """The networks of a run, and where they came from.

  Attributes:
    train: every checkpoint of the training networks.
    owner: [checkpoints in `train`], the number of the network of each.
    val, test: the last checkpoint of networks that training never sees.
    networks: {"train", "val", "test": how many different ones}.
    source: folder of the files.
  """

  train: Networks
  owner: np.ndarray
  val: Networks
  test: Networks
  networks: dict[str, int]
  source: str

  def keeping_outputs(self) -> "ZooSplit":
    """The same networks, each of which is to answer what it answers now."""
    return dataclasses.replace(
      self,
      train=own_outputs_as_teacher(self.train),
      val=own_outputs_as_teacher(self.val),
      test=own_outputs_as_teacher(self.test),
    )


def own_outputs_as_teacher(zoo: Networks) -> Networks:
  """The same networks, each of which is to answer what it answers now."""
  return zoo._replace(teacher=zoo.weights)


def build_ranges(config: ConfigDict) -> generate.TrainingRanges:
  """The hyper-parameters that zoo networks are drawn from."""
  return generate.TrainingRanges(
    **{
      f.name: config.zoo[f.name]
      for f in dataclasses.fields(generate.TrainingRanges)
    }
  )


def build_zoo_files(
  config: ConfigDict, target: TargetNetwork, data: images.Images
) -> store.ZooFiles:
  """Reads or generates the zoo."""
  c = config.zoo
  if c.path:
    return store.read_zoo(c.path)
  epochs = parts.count_parts(c.size, c.save_every) * max(c.epochs)
  with progress.bar("zoo", epochs) as advance:
    return cache.cached_zoo(
      Path(c.cache) if c.cache else download.user_cache() / "zoos",
      target,
      data,
      size=c.size,
      epochs=c.epochs,
      batch_size=c.batch_size,
      ranges=build_ranges(config),
      seed=config.seed,
      save_every=c.save_every,
      vmap_size=default_vmap_size(target),
      on_epoch=advance,
    )


def build_zoos(
  config: ConfigDict, target: TargetNetwork, data: images.Images
) -> ZooSplit:
  """Reads or generates the zoo, and splits it by network."""
  c = config.zoo
  files = build_zoo_files(config, target, data)
  codec.check_layout(target, files)
  rows = split.select_rows(files, None, target.activations)
  last = split.select_rows(files, "last", target.activations)
  train, val, test = split.split(files, rows, tuple(c.fractions), config.seed)
  test_files = files
  if c.test_path:
    test_files = store.read_zoo(c.test_path)
    codec.check_layout(target, test_files)
    # Test networks of their own: nothing of the first zoo is kept back.
    val = np.concatenate([val, test])
    test = split.select_rows(test_files, "last", target.activations)
  else:
    test = np.intersect1d(test, last)
  val = np.intersect1d(val, last)
  # A fixed sample that is neither the first nor the best ones.
  order = np.random.RandomState(config.seed)
  val = order.permutation(val)[: config.eval.val_networks]
  test = order.permutation(test)[: config.eval.test_networks]
  zoos = ZooSplit(
    train=codec.load_networks(target, files, train),
    owner=pd.factorize(files.metrics["modeldir"].iloc[train])[0],
    val=codec.load_networks(target, files, val),
    test=codec.load_networks(target, test_files, test),
    codec={
      "train": files.metrics["modeldir"].iloc[train].nunique(),
      "val": len(val),
      "test": len(test),
    },
    source=str(files.path),
  )
  for zoo, source in ((zoos.train, files), (zoos.test, test_files)):
    _check_classes(config, zoo, source, data)
  progress.console.print(
    f"zoo: {zoos.source}: {zoos.networks['train']} training networks, "
    f"{len(train)} checkpoints of them"
  )
  return zoos


def _check_classes(
  config: ConfigDict, zoo: Networks, files: store.ZooFiles, data: images.Images
) -> None:
  """Raises InputError unless tasks are of the classes of the images."""
  own = zoo.class_to_output
  if own is not None and own.shape[1] != data.num_classes:
    raise InputError(
      f"{files.path / store.METRICS}: {store.CLASS_TO_OUTPUT} is of "
      f"{own.shape[1]} classes, the images {config.data.name!r} have "
      f"{data.num_classes}"
    )


def build_network(path: str, target: TargetNetwork) -> Networks:
  """A zoo of the one network of a .npy file, of the first activation."""
  row = codec.read_npy_row(path, target).astype(np.float32)
  return Networks(codec.to_weights(target, row), jnp.zeros(1, jnp.int32))


def build_ood(
  config: ConfigDict, target: TargetNetwork, data: images.Images
) -> dict[str, Networks]:
  """Networks that are none of the zoo's, by what they are.

  Those that are trained otherwise, as `config.ood` says, and those of
  other zoos or of files with one network.
  """
  c = config.ood
  found = {}
  if c.size:
    most = len(data.train_x)
    need(
      config,
      "ood.batch_size",
      lambda v: 1 <= v <= most,
      f"1 to the number of training images, {most}",
    )
    other = copy.deepcopy(config)
    other.zoo.path = ""
    other.zoo.update({k: v for k, v in c.items() if k != "paths"})
    # With another seed, so that tasks are others as well.
    other.seed = (int(config.seed) + 1) % 2**32
    files = build_zoo_files(other, target, data)
    rows = split.select_rows(files, "last", target.activations)
    found["trained otherwise"] = codec.load_networks(target, files, rows)
  for path in c.paths:
    if path.endswith(".npy"):
      zoo = build_network(path, target)
    else:
      files = store.read_zoo(path)
      rows = split.select_rows(files, "last", target.activations)
      order = np.random.RandomState(config.seed).permutation(rows)
      zoo = codec.load_networks(
        target, files, order[: config.eval.test_networks]
      )
      _check_classes(config, zoo, files, data)
    name = Path(path).name
    found[path if name in found else name] = zoo
  return found


def devices() -> str:
  """One line that says what JAX runs on."""
  found = jax.devices()
  kinds = sorted({d.device_kind for d in found})
  return f"JAX {jax.__version__} on {len(found)} x {', '.join(kinds)}"
