"""Functionals that experiments compare on networks of one architecture.

A functional of your own is compared on every reading task, also by
`experiments.suite`, with a function of a `Reading` and an entry of `READERS`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import Functional, TargetNetwork, Weights
from scalegmn_jax.baselines import symmetry_levels
from scalegmn_jax.gmn import metanetworks, probes


class Reading(NamedTuple):
  """What a functional is made for.

  Attributes:
    target: the architecture.
    weights: of the training networks, leaves [B, ...], as they will be read.
    inputs: [N, ...], inputs of the networks, as which probes begin.
    outputs: numbers per network.
    model: the section `model` of a config.
    probes: learned inputs of readers that have some.
    seed: of what is drawn before the training.
  """

  target: TargetNetwork
  weights: Weights
  inputs: np.ndarray
  outputs: int
  model: Mapping[str, Any]
  probes: int
  seed: int


class Reader(NamedTuple):
  """A row of tables.

  Attributes:
    label: its text.
    make: reading -> functional.
    arguments: reading -> arguments of `metanetworks.functional`, with which it
      is saved; None if it cannot be saved.
  """

  label: str
  make: Callable[[Reading], Functional]
  arguments: Callable[[Reading], dict[str, Any]] | None = None


def _scalegmn(label: str, *, probing: bool = False, **changes: Any) -> Reader:
  """A ScaleGMN.

  Args:
    label: text of the row.
    probing: whether it reads answers to probes.
    **changes: arguments that differ from the section `model`.
  """

  def arguments(reading: Reading) -> dict[str, Any]:
    count = reading.probes if probing else 0
    rest = {"outputs": reading.outputs, "probes": count}
    return {**reading.model, **rest, **changes}

  def make(reading: Reading) -> Functional:
    model = arguments(reading)
    functional = metanetworks.functional(reading.target, **model)
    return probes.init_from_inputs(
      functional, reading.inputs, reading.seed, probes=model["probes"]
    )

  return Reader(label, make, arguments)


def _less_symmetric(label: str, symmetry: str) -> Reader:
  """A baseline, see `symmetry_levels`."""

  def make(reading: Reading) -> Functional:
    model = {**reading.model, "outputs": reading.outputs}
    return symmetry_levels.functional_with_symmetry(
      symmetry, model, reading.target, reading.weights
    )

  return Reader(label, make)


READERS: dict[str, Reader] = {
  "scalegmn": _scalegmn("ScaleGMN"),
  "bidirectional": _scalegmn("ScaleGMN, bidirectional", bidirectional=True),
  "forward": _scalegmn("ScaleGMN, forward", bidirectional=False),
  "probes": _scalegmn("probes", probing=True, depth=0),
  "both": _scalegmn(
    "ScaleGMN, forward, and probes", probing=True, bidirectional=False
  ),
  "permutation": _less_symmetric("permutation-only GMN", "permutation"),
  "mlp": _less_symmetric("flat MLP", "mlp"),
}

PROBING = ("probes", "both")
"""Readers that read answers to probes, alone or beside messages."""
