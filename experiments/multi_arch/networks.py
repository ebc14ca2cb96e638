"""The networks of the experiment on many architectures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.multi_arch import report as reports
from experiments.runner import progress
from scalegmn_jax.base import InputError, Networks
from scalegmn_jax.data import download
from scalegmn_jax.graph.batch.dataset import GraphDataset
from scalegmn_jax.graph.batch.schema import architecture_graph, schema_of
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec, collection, split
from scalegmn_jax.zoo import parts as zoo_parts


class MultiArchData(NamedTuple):
  """All networks of a run.

  Attributes:
    names: of the architectures.
    population: N networks.
    zoos: of each architecture, in the order of the population.
    values: [N] float32, their test accuracies.
    parts: {"train", "val", "test", "unseen": numbers of networks}; the last are
      of architectures that are not trained on. Checkpoints that are not the
      last of a network are in "train" alone.
    trained: [N] bool, the last checkpoints in "train".
  """

  names: list[str]
  population: GraphDataset
  zoos: list[Networks]
  values: np.ndarray
  parts: dict[str, np.ndarray]
  trained: np.ndarray


def load_multi_arch(config: ConfigDict) -> MultiArchData:
  """Reads or generates the zoos and splits each of them by network."""
  members = _members(config)
  count = len(members) - config.zoo.unseen
  if count < 1:
    raise InputError(
      f"config.zoo.unseen is {config.zoo.unseen}, expected fewer than the "
      f"{len(members)} architectures"
    )
  architectures = [architecture_graph(m.target) for m in members]
  words = schema_of(architectures)
  if schema_of(architectures[:count])[:-1] != words[:-1]:
    raise InputError(
      f"config.zoo.unseen: the last {config.zoo.unseen} architectures have ids "
      "or kernels that none of those before has, expected none: nothing of "
      "them would be learned"
    )
  parts = {name: [] for name in ("train", "val", "test", "unseen")}
  zoos, values, lasts, start = [], [], [], 0
  for number, (target, files) in enumerate(members):
    last = split.select_rows(files, "last", target.activations)
    sides = {"unseen": last}
    if number < count:
      rows = split.select_rows(files, None, target.activations)
      train, val, test = split.split(
        files, rows, tuple(config.zoo.fractions), config.seed
      )
      sides = {
        "train": train,
        "val": np.intersect1d(val, last),
        "test": np.intersect1d(test, last),
      }
    rows = np.concatenate(list(sides.values()))
    for name, side in sides.items():
      parts[name].append(start + np.arange(len(side)))
      start += len(side)
    zoos.append(codec.load_networks(target, files, rows))
    values.append(codec.read_metric(files, rows))
    lasts.append(np.isin(rows, last))
  numbers = {
    name: np.concatenate([np.zeros(0, int), *found])
    for name, found in parts.items()
  }
  every = np.concatenate(values)
  trained = np.zeros(len(every), bool)
  trained[numbers["train"]] = True
  counts = ", ".join(f"{len(n)} {name}" for name, n in numbers.items())
  progress.console.print(
    f"zoos of {len(members)} architectures, {config.zoo.unseen} of them not "
    f"trained on: {counts} networks"
  )
  return MultiArchData(
    [reports.name_of(m.target) for m in members],
    GraphDataset(words, architectures, zoos, [{"value": v} for v in values]),
    zoos,
    every,
    numbers,
    trained & np.concatenate(lasts),
  )


def _members(config: ConfigDict) -> list[collection.Member]:
  """Reads or generates the zoos."""
  c = config.zoo
  if c.path:
    return collection.read_collection(c.path)
  data = build.build_images(config)
  targets = [
    make_target(
      config.target.to_dict()
      | {
        "input_shape": data.train_x.shape[1:],
        "classes": data.num_classes,
        "channels": channels,
        "kernel_size": kernels,
        "stride": strides,
        "pool": pool,
      }
    )
    for channels, kernels, strides, pool in tuple(config.architectures)
  ]
  epochs = (
    len(targets) * zoo_parts.count_parts(c.size, c.save_every) * max(c.epochs)
  )
  with progress.bar("zoos", epochs) as advance:
    return collection.cached_collection(
      Path(c.cache) if c.cache else download.user_cache() / "zoos",
      targets,
      data,
      size=c.size,
      epochs=c.epochs,
      batch_size=c.batch_size,
      ranges=build.build_ranges(config),
      seed=config.seed,
      save_every=c.save_every,
      on_epoch=advance,
    )
