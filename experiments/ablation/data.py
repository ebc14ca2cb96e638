"""Nested training sets of one architecture, and networks held out."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.predict_accuracy.data import LabelledNetworks, load_labelled
from experiments.runner import progress
from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.zoo import codec
from scalegmn_jax.zoo.split import Step, select_rows, split_zoo


class AblationData(NamedTuple):
  """Networks of one architecture.

  Attributes:
    target: the architecture.
    train: {number of training networks: their checkpoints}; smaller sets are
      subsets of larger ones.
    val, test: held-out networks, the same for all training sets.
  """

  target: TargetNetwork
  train: Mapping[int, LabelledNetworks]
  val: LabelledNetworks
  test: LabelledNetworks


def load_ablation_data(
  config: ConfigDict, architecture: str, images: Images, train_step: Step
) -> AblationData:
  """Reads or generates the networks of an architecture.

  Args:
    config: of the experiment.
    architecture: one of `config.architectures`, "<activation> <kind>".
    images: the data of the networks.
    train_step: checkpoints of training networks, None for all.
  """
  activation, _, kind = architecture.partition(" ")
  num_val, num_test = config.eval.val_networks, config.eval.test_networks
  needed = max(config.sizes) + num_val + num_test
  zoo_config = ConfigDict(
    {
      "seed": config.seed,
      "target": {**config.targets[kind], "activation": (activation,)},
      "zoo": {**config.zoo, "size": needed},
    }
  )
  target = build.build_target(zoo_config, images)
  files = build.build_zoo_files(zoo_config, target, images)
  codec.check_layout(target, files)
  total = len(select_rows(files, "last", target.activations))
  if total < needed:
    raise InputError(
      f"{files.path}: {total} networks, expected {needed}: "
      f"{max(config.sizes)} for training, {num_val} for validation and "
      f"{num_test} for test"
    )
  # Every network that is not held out is available for training.
  held_out = [num_val / total, num_test / total]
  split = split_zoo(
    files,
    activations=target.activations,
    fractions=(1 - sum(held_out), *held_out),
    seed=config.seed,
    train_step=train_step,
    skip_bad=config.zoo.skip_bad,
  )
  # By training run, in an order that is neither the file's nor by quality.
  runs = files.metrics["modeldir"].to_numpy()[split.train]
  order = np.random.RandomState(config.seed).permutation(np.unique(runs))
  progress.console.print(
    f"{architecture}: {files.path}: {len(order)} networks to train on"
  )
  return AblationData(
    target,
    {
      size: load_labelled(
        target, files, split.train[np.isin(runs, order[:size])]
      )
      for size in sorted(config.sizes)
    },
    load_labelled(target, files, split.val),
    load_labelled(target, files, split.test),
  )
