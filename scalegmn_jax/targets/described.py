"""Traced targets as JSON values, and back without their functions."""

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Space,
  Split,
  SymmetrySpec,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.symmetry.explain import explain

NAME = "traced"
"""The name of a traced target in descriptions."""

_CONTAINERS = {"dict": dict, "list": list, "tuple": tuple}


class TracedNetwork(TargetNetwork):
  """A target whose symmetry was derived from its function, see `trace`."""

  __slots__ = ()

  def explain(self) -> str:
    """Every space, its weights and multipliers, and what is fixed and why."""
    return explain(self.spec)


def describe(
  spec: SymmetrySpec,
  shapes: Weights,
  input_shape: Sequence[int],
  *programs: core.ClosedJaxpr,
) -> dict[str, Any]:
  """The description of a traced target, see `TargetNetwork.description`.

  Args:
    spec: its symmetry.
    shapes: its weights, or their shapes.
    input_shape: of one input.
    *programs: its functions. The description holds a digest of them, so that
      different functions with the same symmetry have different descriptions.

  Returns:
    JSON values, keyword arguments of `described` and the name; empty for
    weights in other containers than dictionaries with texts as keys, lists and
    tuples.
  """
  axes = iter([axes for _, _, axes in specs.leaves(spec, shapes)])

  def written(node: Any) -> Any:
    kind = type(node).__name__
    if type(node) is dict:
      if not all(isinstance(name, str) for name in node):
        raise TypeError(kind)
      # In the order of leaves of a pytree.
      items = {name: written(node[name]) for name in sorted(node)}
    elif type(node) in (list, tuple):
      items = [written(child) for child in node]
    elif hasattr(node, "shape"):
      weight = next(axes)
      return {
        "shape": list(node.shape),
        "dtype": jnp.dtype(node.dtype).name,
        "axes": [axis_values(axis) for axis in weight.axes],
        **({"statistic": True} if weight.statistic else {}),
      }
    else:
      raise TypeError(kind)
    return {kind: items}

  try:
    weights = written(shapes)
  except TypeError:
    return {}
  return {
    "name": NAME,
    "spaces": {
      name: {
        "size": int(space.size),
        "groups": list(space.groups),
        "multipliers": list(space.multipliers),
        "permuted": space.permuted,
      }
      for name, space in spec.spaces.items()
    },
    "weights": weights,
    "input_shape": [int(n) for n in input_shape],
    "program": _digest(programs),
  }


def axis_values(axis: Axis | Split | None) -> Any:
  """An entry of `base.Axes` as JSON values."""
  if axis is None:
    return None
  if isinstance(axis, Split):
    return {
      "split": [
        [part if isinstance(part, int) else axis_values(part) for part in parts]
        for parts in axis.segments
      ]
    }
  power = axis.power
  if isinstance(power, tuple):
    power = [int(p) if p == int(p) else str(p) for p in power]
  return [axis.space, power, *([axis.role] if axis.role else [])]


def described(
  *,
  spaces: Mapping[str, Any],
  weights: Any,
  input_shape: Sequence[int],
  program: str = "",
) -> TracedNetwork:
  """A traced target without its function, from its description.

  Metanetworks read and edit its networks. Its `apply` refuses, and its `init`
  gives zeros.

  Args:
    spaces, weights, input_shape, program: see `describe`.

  Raises:
    InputError: values that are no description.
  """
  try:
    spec = SymmetrySpec(
      {
        name: Space(
          space["size"],
          tuple(space["groups"]),
          tuple(space["multipliers"]),
          space["permuted"],
        )
        for name, space in spaces.items()
      },
      _map(
        weights,
        lambda leaf: Axes(
          tuple(map(_axis, leaf["axes"])), leaf.get("statistic", False)
        ),
      ),
    )
    shapes = _map(
      weights,
      lambda leaf: jax.ShapeDtypeStruct(
        tuple(leaf["shape"]), jnp.dtype(leaf["dtype"])
      ),
    )
    input_shape = tuple(map(int, input_shape))
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f"target network {NAME!r}: its description is damaged: {error!r}"
    ) from None

  def init(key):
    del key
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def apply(weights, x, activation=0, dropout=None):
    raise InputError(
      "the target was read from a file without its function, give target="
    )

  target = TracedNetwork(
    init=init,
    apply=apply,
    spec=spec,
    input_shape=input_shape,
    activations=(NAME,),
    description={
      "name": NAME,
      "spaces": spaces,
      "weights": weights,
      "input_shape": list(input_shape),
      "program": program,
    },
  )
  specs.check(target)
  return target


def _map(node: Any, leaf: Any) -> Any:
  """A pytree of leaf(description of a weight)."""
  if "shape" in node:
    return leaf(node)
  ((kind, items),) = node.items()
  if kind == "dict":
    return {name: _map(child, leaf) for name, child in items.items()}
  return _CONTAINERS[kind](_map(child, leaf) for child in items)


def _axis(values: Any) -> Axis | Split | None:
  """The inverse of `axis_values`."""
  if values is None:
    return None
  if isinstance(values, Mapping):
    return Split(
      tuple(
        tuple(part if isinstance(part, int) else _part(part) for part in parts)
        for parts in values["split"]
      )
    )
  return _part(values)


def _part(values: Sequence[Any]) -> Axis:
  space, power, *role = values
  if isinstance(power, list):
    fractions = [Fraction(p) for p in power]
    power = tuple(int(p) if p.denominator == 1 else p for p in fractions)
  return Axis(space, power, *role)


def _digest(programs: Sequence[core.ClosedJaxpr]) -> str:
  """A hash of programs and their constants, the same in every process."""
  sha = hashlib.sha256()
  for program in programs:
    sha.update(str(program.jaxpr).encode())
    for constant in program.consts:
      if jnp.issubdtype(constant.dtype, jax.dtypes.extended):
        constant = jax.random.key_data(constant)
      # Its bytes, without a copy.
      sha.update(np.ascontiguousarray(constant).reshape(-1).view(np.uint8).data)
  return sha.hexdigest()[:16]
