"""Builds target networks from their descriptions."""

from collections.abc import Callable, Mapping
from typing import Any

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.targets import cnn, described, mlp, resnet, vit

_TARGETS: dict[str, Callable[..., TargetNetwork]] = {
  "cnn": cnn.cnn,
  "mlp": mlp.mlp,
  "resnet": resnet.resnet,
  "vit": vit.vit,
  described.NAME: described.described,
}


def register_target(name: str, make: Callable[..., TargetNetwork]) -> None:
  """Makes an architecture known to `make_target` by name.

  Zoos and trained metanetworks are stored with the description of their target.
  A program that loads them registers the same function first.

  Args:
    name: the name of the architecture.
    make: keyword arguments, JSON values -> the target, whose `description` is
      `{"name": name, **arguments}`.

  Raises:
    InputError: another function is registered by this name.
  """
  if _TARGETS.setdefault(name, make) is not make:
    raise InputError(f"target network {name!r} is already registered")


def make_target(description: Mapping[str, Any]) -> TargetNetwork:
  """Builds the target with a given `TargetNetwork.description`.

  Args:
    description: "name", a registered name, and the keyword arguments of its
      function.

  Raises:
    InputError: the name is not registered, or the arguments are invalid.
  """
  arguments = dict(description)
  name = arguments.pop("name", None)
  if not isinstance(name, str) or name not in _TARGETS:
    raise InputError(
      f"unknown target network {name!r}, expected one of {', '.join(_TARGETS)}"
    )
  try:
    return _TARGETS[name](**arguments)
  except TypeError as error:
    raise InputError(f"target network {name!r}: {error}") from None
