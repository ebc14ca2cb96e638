"""Options of metanetworks: one description, their ranges and their effect."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from scalegmn_jax.base import InputError
from scalegmn_jax.gmn.features import SYMMETRIES, Backward, resolve_backward
from scalegmn_jax.gmn.products import check_dtype

STEP = 0.01
"""Default initial size of an operator's update."""

PROBES = 128
"""Default number of probes of an operator with classes."""

WRITES = ("free", "mask", "quantized")
"""What an operator writes, see `metanetworks.operator`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Options that all metanetworks share, with their defaults.

  Attributes:
    width: features per vertex and edge.
    depth: message passing layers; 0 for none.
    bidirectional: messages also pass from outputs to inputs ("-B").
    symmetry: "target" for the groups of the target's activations, or
      "permutation" for a model that is equivariant to permutations only.
    backward: the edge feature of backward messages under positive scaling:
      "carrier", "inverse", or a function, see `features.Backward`.
    edge_block: edges computed at a time; None for all of a small target network
      and for blocks of a default size in a large one, see
      `connectivity.default_edge_block`. Blocks save memory: the backward pass
      computes them again.
    dtype: of matrix products, "float32" or "bfloat16", see `products`.
      "float32" means float32 on every device, whatever JAX's default precision.
      In bfloat16 a metanetwork is equivariant and invariant up to the rounding
      of features to 8 bits under scalings and signs. Parameters, canonical
      forms, sizes, norms and sums are in float32 with either.

  Raises:
    InputError: a value is out of its range.
  """

  width: int = 32
  depth: int = 2
  bidirectional: bool = True
  symmetry: str = "target"
  backward: str | Backward = "carrier"
  edge_block: int | None = None
  dtype: str = "float32"

  def __post_init__(self):
    at_least("width", self.width, 1)
    at_least("depth", self.depth, 0)
    if self.edge_block is not None:
      at_least("edge_block", self.edge_block, 1)
    if self.symmetry not in SYMMETRIES:
      raise InputError(
        f"symmetry is {self.symmetry!r}, expected {' or '.join(SYMMETRIES)}"
      )
    resolve_backward(self.backward)
    check_dtype(self.dtype)


def at_least(name: str, value: int, least: int) -> None:
  """Checks the range of an argument.

  Raises:
    InputError: the value is less than `least`.
  """
  if value < least:
    raise InputError(f"{name} is {value}, expected at least {least}")


def unused(
  model: Mapping[str, Any], groups: Collection[str], *, alone: bool = False
) -> dict[str, str]:
  """Arguments that differ from their default and yet change nothing.

  Args:
    model: keyword arguments of a metanetwork.
    groups: names of the groups that act on the neurons of the target.
    alone: of a functional that reads by probes alone.

  Returns:
    {argument: why it has no effect}.
  """
  m = {
    **{field.name: field.default for field in dataclasses.fields(Options)},
    **{"prototypes": 0, "classes": 0},
    **{"probes": PROBES, "class_combinations": False, "basis": 0},
    **{"step": STEP, "writes": "free", "sparsity": 0.0},
    **{"bits": 0, "per_channel": False},
    **model,
  }
  writes = f'with writes="{m["writes"]}"'
  with_mask = ((m["writes"] == "mask", writes),)
  without_mask = ((m["writes"] != "mask", writes),)
  unless_free = ((m["writes"] != "free", writes),)
  unless_quantized = ((m["writes"] != "quantized", writes),)
  without_labels = (
    (m["prototypes"] == 0, "with prototypes=0"),
    (m["classes"] == 0, "with classes=0"),
  )
  without_answers = (
    (m["prototypes"] == 0, "with prototypes=0"),
    (m["classes"] == 0 and m["basis"] == 0, "with classes=0 and basis=0"),
  )
  without_messages = ((alone, "with probes and depth=0"),)
  without_backward = (
    (not m["bidirectional"], "with bidirectional=False"),
    (m["depth"] == 0, "with depth=0"),
    (m["symmetry"] == "permutation", 'with symmetry="permutation"'),
    ("scale" not in groups, "on a target without positive scaling"),
  )
  return {
    name: next(reason for idle, reason in conditions if idle)
    for name, default, conditions in (
      ("backward", Options.backward, without_backward),
      ("symmetry", Options.symmetry, without_messages),
      ("edge_block", Options.edge_block, without_messages),
      ("step", STEP, with_mask),
      ("sparsity", 0.0, without_mask),
      ("bits", 0, unless_quantized),
      ("per_channel", False, unless_quantized),
      ("prototypes", 0, unless_free),
      ("classes", 0, unless_free),
      ("probes", PROBES, without_answers),
      ("basis", 0, without_answers[:1]),
      ("class_combinations", False, without_labels),
    )
    if m[name] != default and any(idle for idle, _ in conditions)
  }


def refuse_unused(
  model: Mapping[str, Any], groups: Collection[str], *, alone: bool = False
) -> None:
  """Refuses arguments that change nothing, see `unused`.

  Raises:
    InputError: there is one.
  """
  for name, reason in unused(model, groups, alone=alone).items():
    raise InputError(f"{name} is {model[name]!r}, which has no effect {reason}")
