"""The sections `zoo`, `eval` and `ood`: networks."""

import copy
import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from experiments.build.device import default_vmap_size
from experiments.build.schema import need
from experiments.runner import interrupt, progress
from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.data import download, images
from scalegmn_jax.zoo import cache, codec, generate, parts, store
from scalegmn_jax.zoo.split import select_rows, split_zoo

OOD = "ood"
"""The name of the networks that are trained with the keys of `config.ood`."""


@dataclasses.dataclass(frozen=True)
class ZooSplit:
  """The networks of a run.

  Attributes:
    train: all checkpoints of the training networks.
    owner: [checkpoints in `train`], the number of the training run of each.
    val, test: the last checkpoints of held-out networks.
    networks: {"train", "val", "test": number of different networks}.
    source: folder of the zoo.
  """

  train: Networks
  owner: np.ndarray
  val: Networks
  test: Networks
  networks: dict[str, int]
  source: str

  def keeping_outputs(self) -> "ZooSplit":
    """The same networks, each with itself as its teacher."""
    return dataclasses.replace(
      self,
      train=own_outputs_as_teacher(self.train),
      val=own_outputs_as_teacher(self.val),
      test=own_outputs_as_teacher(self.test),
    )


def own_outputs_as_teacher(networks: Networks) -> Networks:
  """The same networks, each with itself as its teacher."""
  return networks._replace(teacher=networks.weights)


def build_ranges(config: ConfigDict) -> generate.TrainingRanges:
  """The ranges of the hyper-parameters of zoo networks."""
  return generate.TrainingRanges(
    **{
      f.name: config.zoo[f.name]
      for f in dataclasses.fields(generate.TrainingRanges)
    }
  )


def zoo_cache(config: ConfigDict) -> Path:
  """The folder of generated zoos: `config.zoo.cache`, or the user's cache."""
  folder = config.zoo.cache
  if folder:
    return Path(folder).expanduser()
  return download.user_cache() / "zoos"


def build_zoo_files(
  config: ConfigDict, target: TargetNetwork, data: images.Images
) -> store.ZooFiles:
  """Reads or generates the zoo, and checks its layout."""
  c = config.zoo
  if c.path:
    return read_zoo(c.path, target)
  epochs = parts.count_parts(c.size, c.save_every) * max(c.epochs)
  with progress.bar("zoo", epochs) as advance:
    return cache.cached_zoo(
      zoo_cache(config),
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
      check=interrupt.check,
    )


def read_zoo(path: str, target: TargetNetwork) -> store.ZooFiles:
  """Opens the files of a zoo and checks its layout."""
  files = store.read_zoo(path)
  codec.check_layout(target, files)
  return files


def build_zoos(
  config: ConfigDict,
  target: TargetNetwork,
  data: images.Images,
  files: store.ZooFiles | None = None,
) -> ZooSplit:
  """Reads or generates the zoo, and splits it by network.

  Args:
    config: config of the experiment.
    target: the architecture.
    data: the image set.
    files: the zoo, if `build_zoo_files` has been called before.
  """
  c = config.zoo
  if files is None:
    files = build_zoo_files(config, target, data)
  train, val, test = split_zoo(
    files,
    activations=target.activations,
    fractions=tuple(c.fractions),
    seed=config.seed,
    skip_bad=c.skip_bad,
    image_sets=data.sets if c.get("held_out") == "image_set" else (),
  )
  test_files = files
  if c.test_path:
    # With a zoo of test networks, the test side of the first zoo validates.
    val = np.sort(np.concatenate([val, test]))
    test_files = read_zoo(c.test_path, target)
    test = select_rows(test_files, "last", target.activations, c.skip_bad)
  # A random sample with a fixed seed: neither the first nor the best networks.
  order = np.random.RandomState(config.seed)
  val = order.permutation(val)[: config.eval.val_networks]
  test = order.permutation(test)[: config.eval.test_networks]
  zoos = ZooSplit(
    train=codec.load_networks(target, files, train),
    owner=pd.factorize(files.metrics["modeldir"].iloc[train])[0],
    val=codec.load_networks(target, files, val),
    test=codec.load_networks(target, test_files, test),
    networks={
      "train": files.metrics["modeldir"].iloc[train].nunique(),
      "val": len(val),
      "test": len(test),
    },
    source=str(files.path),
  )
  for networks, source in ((zoos.train, files), (zoos.test, test_files)):
    _check_classes(config, networks, source, data)
  progress.console.print(
    f"zoo: {zoos.source}: {zoos.networks['train']} training networks, "
    f"{len(train)} checkpoints of them"
  )
  return zoos


def _check_classes(
  config: ConfigDict,
  networks: Networks,
  files: store.ZooFiles,
  data: images.Images,
) -> None:
  """Raises InputError unless the labels are classes of the images."""
  classes = networks.class_to_output
  if classes is not None and classes.shape[1] != data.num_classes:
    raise InputError(
      f"{files.path / store.METRICS}: {store.CLASS_TO_OUTPUT} has "
      f"{classes.shape[1]} classes, the images {config.data.name!r} have "
      f"{data.num_classes}"
    )


def build_network(path: str, target: TargetNetwork) -> Networks:
  """The one network of a .npy file, with the first activation."""
  row = codec.read_npy_row(path, target).astype(np.float32)
  return Networks(codec.to_weights(target, row), jnp.zeros(1, jnp.int32))


def check_ood_batch(config: ConfigDict, data: images.Images) -> None:
  """Raises InputError for more images per batch than there are."""
  most = len(data.train_x)
  need(
    config,
    "ood.batch_size",
    lambda v: 1 <= v <= most,
    f"1 to the number of training images, {most}",
  )


def build_ood(
  config: ConfigDict, target: TargetNetwork, data: images.Images
) -> dict[str, Networks]:
  """Out-of-distribution networks by name.

  Networks that are trained with the keys of `config.ood`, and networks of other
  zoos or of files with one network.
  """
  c = config.ood
  populations = {}
  if c.size:
    check_ood_batch(config, data)
    other = copy.deepcopy(config)
    other.zoo.path = ""
    other.zoo.update({k: v for k, v in c.items() if k != "paths"})
    # Another seed, so that network-specific labels differ as well.
    other.seed = (int(config.seed) + 1) % 2**32
    files = build_zoo_files(other, target, data)
    rows = select_rows(files, "last", target.activations)
    populations[OOD] = codec.load_networks(target, files, rows)
  for path in c.paths:
    if path.endswith(".npy"):
      networks = build_network(path, target)
    else:
      files = store.read_zoo(path)
      rows = select_rows(files, "last", target.activations, config.zoo.skip_bad)
      order = np.random.RandomState(config.seed).permutation(rows)
      networks = codec.load_networks(
        target, files, order[: config.eval.test_networks]
      )
      _check_classes(config, networks, files, data)
    name = Path(path).name
    populations[path if name in populations else name] = networks
  return populations
