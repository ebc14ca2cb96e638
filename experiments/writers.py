"""Operators that experiments compare on networks of one architecture.

An operator of your own is compared on every writing task, also by
`experiments.suite`, with a function of a `Writing` and an entry of `WRITERS`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scalegmn_jax.base import Networks, Operator, TargetNetwork
from scalegmn_jax.baselines import constant, symmetry_levels
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.options import PROBES
from scalegmn_jax.gmn.prototypes import data_init


class Writing(NamedTuple):
  """What an operator is made for.

  Attributes:
    target: the architecture.
    networks: the training networks [B], as they will be edited.
    inputs: [N, ...], inputs of the networks, as which probes begin.
    model: the section `model` of a config.
    basis: changes of a learned network, for writers with a basis.
    probes: learned inputs from whose outputs the factors of a basis are read.
    seed: of what is drawn before the training.
  """

  target: TargetNetwork
  networks: Networks
  inputs: np.ndarray
  model: Mapping[str, Any]
  basis: int
  probes: int
  seed: int


class Writer(NamedTuple):
  """A row of tables.

  Attributes:
    label: its text.
    make: writing -> operator.
    arguments: writing -> arguments of `metanetworks.operator`, with which it is
      saved; None if it cannot be saved.
    shares: whether several edits share parameters, see `gmn.conditional`.
  """

  label: str
  make: Callable[[Writing], Operator]
  arguments: Callable[[Writing], dict[str, Any]] | None = None
  shares: bool = True


_NO_PROTOTYPES = {
  "prototypes": 0, "basis": 0, "class_combinations": False, "probes": PROBES,
}  # fmt: skip


def _scalegmn(
  label: str,
  changes: Callable[[Writing], Mapping[str, Any]] = lambda writing: {},
) -> Writer:
  """A ScaleGMN.

  Args:
    label: text of the row.
    changes: writing -> arguments that differ from the section `model`.
  """

  def arguments(writing: Writing) -> dict[str, Any]:
    return {**writing.model, **changes(writing)}

  def make(writing: Writing) -> Operator:
    operator = metanetworks.operator(writing.target, **arguments(writing))
    # Probes begin as inputs, prototypes as training networks.
    return data_init.init_from_data(
      operator, writing.networks, writing.inputs, writing.seed
    )

  return Writer(label, make, arguments)


def _messages(writing: Writing, *, bidirectional: bool) -> dict[str, Any]:
  """At least one layer of them, in one direction or in both."""
  depth = max(writing.model["depth"], 1)
  return {"depth": depth, "bidirectional": bidirectional}


def _basis(writing: Writing) -> dict[str, Any]:
  """Learned networks, changed by what the answers to probes say."""
  return {
    "prototypes": max(writing.model.get("prototypes", 0), 1),
    "basis": writing.basis,
    "probes": writing.probes,
  }


def _less_symmetric(label: str, symmetry: str) -> Writer:
  """A baseline without learned networks, see `symmetry_levels`."""

  def make(writing: Writing) -> Operator:
    bidirectional = writing.model["bidirectional"]
    messages = _messages(writing, bidirectional=bidirectional)
    model = {**writing.model, **_NO_PROTOTYPES, **messages}
    return symmetry_levels.operator_with_symmetry(
      symmetry, model, writing.target, writing.networks.weights
    )

  return Writer(label, make)


WRITERS: dict[str, Writer] = {
  "scalegmn": _scalegmn("ScaleGMN"),
  "forward": _scalegmn(
    "ScaleGMN, forward",
    lambda w: _NO_PROTOTYPES | _messages(w, bidirectional=False),
  ),
  "bidirectional": _scalegmn(
    "ScaleGMN, bidirectional",
    lambda w: _NO_PROTOTYPES | _messages(w, bidirectional=True),
  ),
  "basis": _scalegmn(
    "basis, read by probes",
    lambda w: _basis(w) | {"depth": 0, "bidirectional": False},
  ),
  "both": _scalegmn(
    "ScaleGMN, forward, and basis",
    lambda w: _basis(w) | _messages(w, bidirectional=False),
  ),
  "permutation": _less_symmetric("permutation-only GMN", "permutation"),
  "mlp": _less_symmetric("flat MLP", "mlp"),
  "constant": Writer(
    "constant update",
    lambda w: constant.constant_operator(w.target),
    shares=False,
  ),
}
