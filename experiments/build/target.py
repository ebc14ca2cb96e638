"""The section `target`: the architecture of the networks."""

import importlib
import math
from collections.abc import Collection

import numpy as np
from ml_collections import ConfigDict

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.data import images
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec, generate

OF_ZOO = "zoo"
"""The value of `config.target.name` for the target that a zoo describes."""


def build_target(config: ConfigDict, data: images.Images) -> TargetNetwork:
  """The target network for images of this shape.

  The name `module:function` is a function of one's own, (input_shape, classes)
  -> target; it is imported, and gets none of the other keys. The name `zoo` is
  the target that the zoo in `config.zoo.path` describes.

  If there are several image sets, a network has the classes of one of them, and
  the number of outputs is the number of classes of the largest set.

  Args:
    config: config of the experiment.
    data: the images.

  Raises:
    InputError: impossible arguments, several image sets without
      `config.zoo.classes_per_network`, no such function, or a zoo of networks
      for other images.
  """
  if len(data.sets) > 1 and not config.zoo.classes_per_network:
    raise InputError(
      f"config.data.name is {config.data.name!r}, several image sets: "
      "config.zoo.classes_per_network has to say how many classes of one of "
      "them a network has"
    )
  arguments = config.target.to_dict()
  shape = data.train_x.shape[1:]
  if arguments["name"] == OF_ZOO:
    return _target_of_zoo(config.zoo.path, shape, max(data.sets))
  if ":" in arguments["name"]:
    return _own_target(arguments["name"], shape, max(data.sets))
  if arguments["name"] in ("cnn", "resnet", "vit"):
    arguments |= {"input_shape": shape, "classes": max(data.sets)}
  elif arguments["name"] == "mlp":
    hidden = arguments.pop("hidden")
    arguments["sizes"] = (int(np.prod(shape)), *hidden, max(data.sets))
  return make_target(arguments)


def start_from_target(config: ConfigDict, chosen: Collection[str]) -> None:
  """Lets networks of other targets than chains start from their `init`.

  Their parameters are not only kernels and biases, which the other initializers
  know. They have no dropout.

  Args:
    config: of an experiment, changed.
    chosen: keys that keep their values, such as "zoo.dropout".
  """
  if config.get("target", {}).get("name", "mlp") in ("cnn", "mlp"):
    return
  values = {"initializer": (generate.OWN,), "dropout": (0.0, 0.0)}
  for section in ("zoo", "ood"):
    for key, value in values.items():
      known = section in config and key in config[section]
      if known and f"{section}.{key}" not in chosen:
        config[section][key] = value


def _target_of_zoo(
  path: str, shape: tuple[int, ...], classes: int
) -> TargetNetwork:
  """The target in the `target.json` of a zoo."""
  if not path:
    raise InputError(
      f"config.target.name is {OF_ZOO!r} and config.zoo.path is empty, "
      "expected the folder of a zoo"
    )
  target = codec.read_target(path)
  outputs = specs.output_size(target.spec)
  found = (math.prod(target.input_shape), outputs)
  if found != (math.prod(shape), classes):
    raise InputError(
      f"{path}: networks of inputs {target.input_shape} and {outputs} outputs, "
      f"expected {tuple(shape)} and {classes}, as the images have"
    )
  return target


def _own_target(
  name: str, shape: tuple[int, ...], classes: int
) -> TargetNetwork:
  """The target that a function `module:function` makes."""
  where = f"config.target.name is {name!r}"
  module, _, function = name.partition(":")
  try:
    make = getattr(importlib.import_module(module), function)
  except (AttributeError, ImportError, ValueError) as error:
    raise InputError(f"{where}: {error}, expected module:function") from None
  target = make(input_shape=tuple(shape), classes=classes)
  if not isinstance(target, TargetNetwork):
    raise InputError(
      f"{where}, which makes a {type(target).__name__}, expected a target, as "
      "scalegmn_jax.trace does"
    )
  return target
