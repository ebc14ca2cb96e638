"""Images and networks of a fine-tuning run."""

from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from experiments import build
from scalegmn_jax.base import Networks, TargetNetwork
from scalegmn_jax.data.images import Images
from scalegmn_jax.symmetry import measure


class Inputs(NamedTuple):
  """Everything that a run loads or generates.

  Attributes:
    images: training, validation and test images.
    target: the architecture of the networks.
    zoos: training, validation and test networks.
  """

  images: Images
  target: TargetNetwork
  zoos: build.ZooSplit


def load_inputs(config: ConfigDict) -> Inputs:
  """Loads the images and the zoo of a config.

  With `loss.supervision = "outputs"` each network is its own teacher.
  """
  images = build.build_images(config)
  target = build.build_target(config, images)
  zoos = build.build_zoos(config, target, images)
  if _keeps_outputs(config):
    zoos = zoos.keeping_outputs()
  return Inputs(images, target, zoos)


def load_ood(config: ConfigDict, inputs: Inputs) -> dict[str, Networks]:
  """Out-of-distribution networks by name, after the regauged test networks."""
  populations = build.build_ood(config, inputs.target, inputs.images)
  if _keeps_outputs(config):
    populations = {
      name: build.own_outputs_as_teacher(networks)
      for name, networks in populations.items()
    }
  regauge = measure.regauge_networks(inputs.target)
  _, regauged = regauge(inputs.zoos.test, jax.random.key(config.seed))
  return {"regauged": regauged} | populations


def _keeps_outputs(config: ConfigDict) -> bool:
  return config.loss.get("supervision", "labels") == "outputs"
