"""Checks of the arguments that target networks share."""

import numbers
from collections.abc import Sequence
from typing import Any

from scalegmn_jax.base import InputError
from scalegmn_jax.targets.activations import ACTIVATIONS


def positive_integer(name: str, value: Any) -> int:
  """A positive integer as a Python integer.

  Args:
    name: of the function and its argument, for the error message.
    value: the argument.

  Raises:
    InputError: it is not a positive integer.
  """
  if not _is_positive(value):
    raise InputError(f"{name} {value!r}, expected a positive integer")
  return int(value)


def positive_integers(
  name: str, values: Any, *, least: int = 0
) -> tuple[int, ...]:
  """A sequence of positive integers as Python integers.

  Args:
    name: of the function and its argument, for the error message.
    values: the argument.
    least: the least number of integers.

  Raises:
    InputError: it is not such a sequence.
  """
  found = tuple(values) if _is_sequence(values) else values
  several = isinstance(found, tuple) and len(found) >= least
  if not several or not all(map(_is_positive, found)):
    more = f"{least} or more " if least else ""
    raise InputError(f"{name} {found!r}, expected {more}positive integers")
  return tuple(map(int, found))


def per_layer(name: str, value: Any, layers: int) -> tuple[int, ...]:
  """One positive integer per layer; an integer stands for all layers.

  Raises:
    InputError: it is neither an integer nor one integer per layer.
  """
  if _is_positive(value):
    return (int(value),) * layers
  found = tuple(value) if _is_sequence(value) else value
  if not isinstance(found, tuple) or len(found) != layers:
    raise InputError(f"{name} {found!r}, expected {layers} positive integers")
  return positive_integers(name, found)


def activation_names(activation: str | Sequence[str]) -> tuple[str, ...]:
  """The names of one or several activations; `symmetry.spec` knows which exist.

  Raises:
    InputError: neither a name nor several.
  """
  if isinstance(activation, str):
    return (activation,)
  if not _is_sequence(activation):
    raise InputError(
      f"activation is {activation!r}, expected a name or several names"
    )
  return tuple(activation)


def one_activation(name: str, activation: Any) -> str:
  """The name of the only activation of a target.

  Args:
    name: of the function and its argument, for the error message.
    activation: a name, or a sequence of one.

  Raises:
    InputError: no such activation, or several.
  """
  names = activation_names(activation)
  if len(names) != 1 or names[0] not in ACTIVATIONS:
    raise InputError(
      f"{name} {activation!r}, expected one of {', '.join(ACTIVATIONS)}"
    )
  return names[0]


def _is_positive(value: Any) -> bool:
  integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  return integer and int(value) > 0


def _is_sequence(value: Any) -> bool:
  return hasattr(value, "__iter__") and not isinstance(value, str)
