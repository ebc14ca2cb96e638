"""Networks of several architectures and their test accuracies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.readers import PROBING
from experiments.runner import progress
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.graph.batch.dataset import GraphDataset
from scalegmn_jax.graph.batch.schema import (
  ArchitectureGraph,
  TypeSchema,
  architecture_graph,
  schema_of,
)
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec, collection, store
from scalegmn_jax.zoo import parts as zoo_parts
from scalegmn_jax.zoo.split import select_rows, split_zoo

PART = "part"
"""The column of metrics with the part of a network: train, val or test."""


class MultiArchData(NamedTuple):
  """All networks of a run, numbered from 0 to N - 1.

  Attributes:
    names: of the A architectures.
    dataset: the graphs of the N networks.
    networks: the networks of each architecture; joined, they are in the order
      of the dataset.
    accuracies: [N] float32, test accuracies.
    parts: {"train", "val", "test", "unseen": numbers of networks}. "unseen" has
      the networks of architectures that are not trained on. Checkpoints before
      the last of a training run are in "train" only.
    last_train: [N] bool, the last checkpoints in "train".
  """

  names: list[str]
  dataset: GraphDataset
  networks: list[Networks]
  accuracies: np.ndarray
  parts: dict[str, np.ndarray]
  last_train: np.ndarray

  def architecture_index(self, part: str) -> np.ndarray:
    """The architecture of each network of a part."""
    return self.dataset.architecture_index[self.parts[part]]

  def true(self, part: str) -> np.ndarray:
    """The accuracy of each network of a part."""
    return self.accuracies[self.parts[part]]


def architecture_name(target: TargetNetwork) -> str:
  """A short name, such as "8-16 k3-3 s2-1" or "8 k3 s1 p2 flatten d20"."""
  description = target.description
  if description["name"] != "cnn":
    sizes = description.get("sizes", [])
    return "-".join(map(str, [description["name"], *sizes]))

  def join(key):
    return "-".join(str(n) for n in description[key])

  name = f"{join('channels')} k{join('kernel_size')} s{join('stride')}"
  if "pool_size" in description:
    name += f" p{join('pool_size')}"
  if description["pool"] != "average":
    name += f" {description['pool']}"
  return name + (f" d{join('dense')}" if "dense" in description else "")


def load_multi_arch(config: ConfigDict) -> MultiArchData:
  """Reads or generates the zoos and splits each of them by training run."""
  c = config.zoo
  members = _load_collection(config)
  architectures, schema = check_unseen(config, [m.target for m in members])
  num_trained = len(members) - config.zoo.unseen
  parts = {name: [] for name in ("train", "val", "test", "unseen")}
  networks, accuracies, is_last, start = [], [], [], 0
  for number, (target, files) in enumerate(members):
    rows_of = _split(config, target, files, trained=number < num_trained)
    for name, rows in rows_of.items():
      parts[name].append(start + np.arange(len(rows)))
      start += len(rows)
    rows = np.concatenate(list(rows_of.values()))
    networks.append(codec.load_networks(target, files, rows))
    accuracies.append(codec.read_metric(files, rows))
    last = select_rows(files, "last", target.activations)
    is_last.append(np.isin(rows, last))
  numbers = {
    name: np.concatenate([np.zeros(0, int), *arrays])
    for name, arrays in parts.items()
  }
  sizes = {name: len(rows) for name, rows in numbers.items()}
  measured = max(sizes["test"], sizes["unseen"])
  if not (sizes["train"] and sizes["val"]) or measured < 2:
    found = ", ".join(f"{size} {name}" for name, size in sizes.items())
    raise InputError(
      f"{c.path or 'zoos'}: {found} networks, expected some to train and to "
      "validate on, and two or more to test on"
    )
  in_train = np.zeros(start, bool)
  in_train[numbers["train"]] = True
  counts = ", ".join(f"{len(n)} {name}" for name, n in numbers.items())
  progress.console.print(
    f"zoos of {len(members)} architectures, {config.zoo.unseen} of them not "
    f"trained on: {counts} networks"
  )
  return MultiArchData(
    [architecture_name(m.target) for m in members],
    GraphDataset(
      schema,
      architectures,
      networks,
      [{"value": a} for a in accuracies],
      with_weights=not set(config.methods).isdisjoint(PROBING),
    ),  # fmt: skip
    networks,
    np.concatenate(accuracies),
    numbers,
    in_train & np.concatenate(is_last),
  )


def check_unseen(
  config: ConfigDict, targets: Sequence[TargetNetwork]
) -> tuple[list[ArchitectureGraph], TypeSchema]:
  """The graphs of the architectures and their schema.

  Raises:
    InputError: none are trained on, or the others have parameters that are not
      trained.
  """
  num_trained = len(targets) - config.zoo.unseen
  if num_trained < 1:
    raise InputError(
      f"config.zoo.unseen is {config.zoo.unseen}, expected fewer than the "
      f"{len(targets)} architectures"
    )
  architectures = [architecture_graph(target) for target in targets]
  schema = schema_of(architectures)
  if schema_of(architectures[:num_trained])[:-1] != schema[:-1]:
    raise InputError(
      f"config.zoo.unseen: the last {config.zoo.unseen} architectures have "
      "types or kernels that no architecture before them has: their parameters "
      "would not be trained"
    )
  return architectures, schema


def _split(
  config: ConfigDict,
  target: TargetNetwork,
  files: store.ZooFiles,
  *,
  trained: bool,
) -> dict[str, np.ndarray]:
  """{part: rows} of one zoo; its column `part` decides, if it has one."""
  skip_bad = config.zoo.skip_bad
  if not trained:
    rows = select_rows(files, "last", target.activations, skip_bad)
    return {"unseen": rows}
  if PART in files.metrics:  # an architecture may have one training run
    part = store.column(files, PART)
    last = select_rows(files, "last", target.activations, skip_bad)
    every = select_rows(files, None, target.activations, skip_bad)
    return {
      name: rows[part[rows] == name]
      for name, rows in (("train", every), ("val", last), ("test", last))
    }
  split = split_zoo(
    files,
    activations=target.activations,
    fractions=tuple(config.zoo.fractions),
    seed=config.seed,
    skip_bad=skip_bad,
  )
  return split._asdict()


def make_targets(config: ConfigDict, images: Images) -> list[TargetNetwork]:
  """The architectures of a config."""
  return [
    make_target(
      config.target.to_dict()
      | {
        "input_shape": images.train_x.shape[1:],
        "classes": images.num_classes,
        "channels": channels,
        "kernel_size": kernels,
        "stride": strides,
        "pool": pool,
      }
    )
    for channels, kernels, strides, pool in tuple(config.architectures)
  ]


def _load_collection(config: ConfigDict) -> list[collection.Member]:
  """Reads or generates the zoos."""
  c = config.zoo
  if c.path:
    return collection.read_collection(c.path)
  images = build.build_images(config)
  targets = make_targets(config, images)
  epochs = (
    len(targets) * zoo_parts.count_parts(c.size, c.save_every) * max(c.epochs)
  )
  with progress.bar("zoos", epochs) as advance:
    return collection.cached_collection(
      build.zoo_cache(config),
      targets,
      images,
      size=c.size,
      epochs=c.epochs,
      batch_size=c.batch_size,
      ranges=build.build_ranges(config),
      seed=config.seed,
      save_every=c.save_every,
      on_epoch=advance,
    )
