"""Networks and their test accuracies, split by training run."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import progress
from scalegmn_jax.base import Networks, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.symmetry import measure
from scalegmn_jax.zoo import codec, store
from scalegmn_jax.zoo.split import split_zoo


class LabelledNetworks(NamedTuple):
  """Networks and the values that a metanetwork predicts for them.

  Attributes:
    networks: B networks.
    accuracies: [B] float32, their test accuracies.
    zoo_index: [B], the zoo of each network.
  """

  networks: Networks
  accuracies: np.ndarray
  zoo_index: np.ndarray


class AccuracyData(NamedTuple):
  """All networks of a run.

  Attributes:
    activations: names of the activations of the architecture.
    zoo_names: names of the zoos.
    train, val, test: networks of all zoos; no training run is in two of them.
  """

  activations: Sequence[str]
  zoo_names: Sequence[str]
  train: LabelledNetworks
  val: LabelledNetworks
  test: LabelledNetworks


def load_labelled(
  target: TargetNetwork,
  files: store.ZooFiles,
  rows: np.ndarray,
  zoo_index: int = 0,
) -> LabelledNetworks:
  """Reads rows of a zoo with their test accuracies."""
  return LabelledNetworks(
    codec.load_networks(target, files, rows),
    codec.read_metric(files, rows),
    np.full(len(rows), zoo_index),
  )


def regauge(
  target: TargetNetwork, parts: Sequence[LabelledNetworks], key: jax.Array
) -> list[LabelledNetworks]:
  """Acts on each network with a random element of its symmetry group.

  Args:
    target: the architecture.
    parts: sets of networks; an element is drawn for each network.
    key: consumed.

  Returns:
    The sets, with networks of the same functions and accuracies.
  """
  act = measure.regauge_networks(target)
  keys = jax.random.split(key, len(parts))
  return [
    part._replace(networks=jax.device_get(act(part.networks, key)[1]))
    for part, key in zip(parts, keys, strict=True)
  ]


def load_accuracy_data(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> AccuracyData:
  """Reads or generates the zoos, splits each one and joins the parts.

  With `config.zoo.regauge` each network is another one of its orbit.
  """
  c = config.zoo
  zoos = [
    build.build_zoo_files(config, target, images),
    *(store.read_zoo(path) for path in c.more),
  ]
  step = "last" if c.step < 0 else c.step
  splits = [
    split_zoo(
      files,
      activations=target.activations,
      fractions=tuple(c.fractions),
      seed=config.seed,
      train_step=step,
      eval_step=step,
      order_file=c.split,
      skip_bad=c.skip_bad,
    )
    for files in zoos
  ]

  def load(part: str) -> LabelledNetworks:
    loaded = [
      load_labelled(target, files, getattr(split, part), number)
      for number, (files, split) in enumerate(zip(zoos, splits, strict=True))
    ]
    return jax.tree.map(lambda *a: np.concatenate(a), *loaded)

  parts = [load("train"), load("val"), load("test")]
  if c.regauge:
    parts = regauge(target, parts, jax.random.key(config.seed))
  data = AccuracyData(
    target.activations, [files.path.name for files in zoos], *parts
  )
  sizes = ", ".join(
    str(part.networks.size) for part in (data.train, data.val, data.test)
  )
  progress.console.print(
    f"zoo: {' and '.join(data.zoo_names)}: {sizes} networks for training, "
    "validation and test"
  )
  return data
