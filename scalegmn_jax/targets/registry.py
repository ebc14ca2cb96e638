"""A target network from its description."""

from collections.abc import Mapping
from typing import Any

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.targets import cnn, mlp

TARGETS = {"cnn": cnn.cnn, "mlp": mlp.mlp}


def make_target(description: Mapping[str, Any]) -> TargetNetwork:
  """The target that `TargetNetwork.description` tells of.

  Raises:
    InputError: the description does not describe a network.
  """
  arguments = dict(description)
  name = arguments.pop("name", None)
  if not isinstance(name, str) or name not in TARGETS:
    raise InputError(
      f"unknown target network {name!r}, expected one of {', '.join(TARGETS)}"
    )
  try:
    return TARGETS[name](**arguments)
  except TypeError as error:
    raise InputError(f"target network {name!r}: {error}") from None
