"""Networks whose gauge freedom is measured."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from scalegmn_jax.base import Networks, TargetNetwork, Weights
from scalegmn_jax.data.images import Images
from scalegmn_jax.targets import unroll
from scalegmn_jax.zoo import codec, split, store

ZOO = "zoo"
"""Name of the best network of the zoo, and of the zoo."""

FILE = "file"
"""Name of the network of `config.gauge.network_path`."""


class GaugeSubject(NamedTuple):
  """A network whose gauge directions are counted.

  Attributes:
    name: `ZOO`, `FILE` or a key of `config.gauge.architectures`.
    target: the architecture.
    weights: θ, 64 bit numbers.
    cnn: the CNN with the same map, if this network is an unrolled MLP.
  """

  name: str
  target: TargetNetwork
  weights: Weights
  cnn: "GaugeSubject | None" = None

  @property
  def keys(self) -> dict[str, str]:
    """The keys of its rows."""
    return {"network": self.name, "form": "mlp" if self.cnn else "trained"}

  @property
  def size(self) -> int:
    """Number of weights."""
    return sum(w.size for w in jax.tree.leaves(self.weights))


class GaugeData(NamedTuple):
  """Data of a run.

  Attributes:
    images: the image set.
    target: the architecture of the zoo.
    files: files of the zoo.
    zoo: training, validation and test networks.
    from_file: the network of a .npy file, or None.
    others: {name: (config of a small zoo, its architecture)}.
  """

  images: Images
  target: TargetNetwork
  files: store.ZooFiles
  zoo: build.ZooSplit
  from_file: GaugeSubject | None
  others: dict[str, tuple[ConfigDict, TargetNetwork]]


def load(config: ConfigDict) -> GaugeData:
  """Reads or generates the data of a run.

  Raises:
    InputError: no such file, or impossible values in the config.
  """
  images = build.build_images(config)
  check_images(config, images)
  target = build.build_target(config, images)
  from_file = read_network(config, target)
  others = other_architectures(config, images)
  check_unrolled([target, *(other for _, other in others.values())])
  files = build.build_zoo_files(config, target, images)
  zoo = build.build_zoos(config, target, images, files)
  return GaugeData(images, target, files, zoo, from_file, others)


def check_images(config: ConfigDict, images: Images) -> None:
  """Raises InputError unless there are enough images."""
  build.need(
    config,
    "gauge.images",
    lambda v: v[-1] <= len(images.train_x),
    f"at most the {len(images.train_x)} training images",
  )


def check_unrolled(targets: Sequence[TargetNetwork]) -> None:
  """Raises InputError for a CNN that `with_mlps` cannot unroll."""
  for target in targets:
    if target.description["name"] == "cnn":
      unroll.unrolled(target)


def read_network(
  config: ConfigDict, target: TargetNetwork
) -> GaugeSubject | None:
  """The network of `config.gauge.network_path`; None without a path."""
  path = config.gauge.network_path
  if not path:
    return None
  row = codec.read_npy_row(path, target)
  return GaugeSubject(FILE, target, _first(target, row))


def other_architectures(
  config: ConfigDict, images: Images
) -> dict[str, tuple[ConfigDict, TargetNetwork]]:
  """{name: (config of a small zoo, its architecture)}."""
  others = {}
  for name, arguments in config.gauge.architectures.items():
    other = ConfigDict(config.to_dict())
    other.target = arguments
    other.zoo.path = ""
    other.zoo.size = other.zoo.save_every = config.gauge.size
    other.zoo.epochs = (config.gauge.epochs,)
    # One optimizer and one initializer compile faster than all of them.
    other.zoo.optimizer = ("adam",)
    other.zoo.initializer = ("glorot_normal",)
    build.start_from_target(other, ())
    others[name] = other, build.build_target(other, images)
  return others


def load_subjects(data: GaugeData) -> list[GaugeSubject]:
  """The network of the file, if there is one, and the best of each zoo."""
  subjects = [] if data.from_file is None else [data.from_file]
  subjects.append(_best(ZOO, data.target, data.files))
  for name, (config, target) in data.others.items():
    files = build.build_zoo_files(config, target, data.images)
    subjects.append(_best(name, target, files))
  return subjects


def _best(
  name: str, target: TargetNetwork, files: store.ZooFiles
) -> GaugeSubject:
  """The network of a zoo with the least training loss."""
  rows = split.select_rows(files, "last", target.activations)
  losses = files.metrics["train_loss"].to_numpy()[rows]
  best = np.asarray([rows[np.nanargmin(losses)]])
  weights = _first(target, codec.read_rows(target, files, best))
  return GaugeSubject(name, target, weights)


def _first(target: TargetNetwork, rows: np.ndarray) -> Weights:
  weights = codec.to_weights(target, rows)
  return jax.tree.map(lambda w: np.asarray(w[0], np.float64), weights)


def with_mlps(subjects: Sequence[GaugeSubject]) -> list[GaugeSubject]:
  """The subjects; the MLP with the same map follows each CNN."""
  result = []
  for subject in subjects:
    result.append(subject)
    if subject.target.description["name"] == "cnn":
      unrolled = unroll.unrolled(subject.target)
      weights = jax.jit(unrolled.unroll)(subject.weights)
      weights = jax.tree.map(np.asarray, weights)
      result.append(
        GaugeSubject(subject.name, unrolled.target, weights, subject)
      )
  return result


def as_networks(subject: GaugeSubject) -> Networks:
  """One network as 32 bit `Networks` of size 1."""
  weights = jax.tree.map(lambda w: jnp.float32(w)[None], subject.weights)
  return Networks(weights, jnp.zeros(1, jnp.int32))
