"""Metanetworks that read several architectures side by side."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from scalegmn_jax import compilation
from scalegmn_jax.base import (
  BatchFunctional,
  InputError,
  TargetNetwork,
  full_precision,
)
from scalegmn_jax.gmn.features import (
  Backward,
  featurize_batch,
  resolve_backward,
)
from scalegmn_jax.gmn.metanetworks import read_module
from scalegmn_jax.gmn.options import Options, at_least, refuse_unused
from scalegmn_jax.gmn.probes import Ask, answers_of, ask
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.pack import GraphBatch
from scalegmn_jax.graph.batch.schema import TypeSchema


def functional(
  schema: TypeSchema,
  *,
  outputs: int = 1,
  width: int = Options.width,
  depth: int = Options.depth,
  bidirectional: bool = Options.bidirectional,
  symmetry: str = Options.symmetry,
  backward: str | Backward = Options.backward,
  dtype: str = Options.dtype,
  probes: int = 0,
  targets: Sequence[TargetNetwork] = (),
) -> BatchFunctional:
  """A ScaleGMN that reads networks of several architectures side by side.

  Layers, head and parameters are the same as in `metanetworks.functional`: for
  one architecture with kernels of one size both compute the same function.

  Args:
    schema: of the architectures, see `graph.batch.schema`.
    outputs: numbers per network.
    width, depth, bidirectional, symmetry, backward, dtype: see
      `options.Options`.
    probes: see `metanetworks.functional`. Networks answer one after the other,
      each by its own architecture; all have inputs of one shape and as many
      outputs. Batches need `dataset.GraphDataset(..., with_weights=True)`.
    targets: with probes, the architectures of the dataset in its order; the
      compiled program grows with their number. Parameters do not depend on
      them: other architectures can be read with the same φ.

  Returns:
    A `BatchFunctional` whose apply is (φ, `GraphBatch`) -> [G, outputs], a row
    per graph of the batch; rows of padding are arbitrary. Each row is
    invariant under the group of its network, and depends on no other network.

  Raises:
    InputError: an argument is out of its range, or has no effect in this
      combination.
  """
  options = Options(
    width=width, depth=depth, bidirectional=bidirectional, symmetry=symmetry,
    backward=backward, dtype=dtype,
  )  # fmt: skip
  at_least("outputs", outputs, 1)
  at_least("probes", probes, 0)
  input_shape, answers = _common(targets) if probes else ((), 0)
  module = read_module(options, input_shape, outputs, probes)
  alone = module.body is None
  # Without a single group there are several, "scale" as a rule among them.
  refuse_unused(vars(options), {schema.group or "scale"}, alone=alone)
  backward_fn = resolve_backward(backward)

  def graph_of(batch):
    if alone:
      return None, None
    return featurize_batch(batch, symmetry=symmetry, backward=backward_fn)

  def ask_nobody(inputs):
    return jnp.zeros((1, len(inputs) * answers), inputs.dtype)

  @compilation.run_once
  def init(key):
    batch = pack.blank_batch(schema)
    return module.init(key, *graph_of(batch), ask_nobody)["params"]

  @full_precision
  def apply(params, batch):
    if batch.schema != schema:
      raise InputError("the batch has another schema than the metanetwork")
    asked = _ask_each(targets, batch) if probes else None
    return module.apply({"params": params}, *graph_of(batch), asked)

  return BatchFunctional(init, apply)


def _common(targets: Sequence[TargetNetwork]) -> tuple[tuple[int, ...], int]:
  """(shape of an input, numbers that answer one probe) of all targets.

  Raises:
    InputError: no targets, targets that cannot be probed, or that differ in the
      shape of their inputs or in the number of their outputs.
  """
  if not targets:
    raise InputError("probes: no targets, expected those of the dataset")
  found = {
    (
      tuple(target.input_shape),
      answers_of(target, jax.eval_shape(target.init, jax.random.key(0))),
    )
    for target in targets
  }
  if len(found) > 1:
    raise InputError(
      "probes: targets with inputs of shape and numbers of outputs "
      f"{', '.join(map(str, sorted(found)))}: expected one of each"
    )
  return found.pop()


def _ask_each(targets: Sequence[TargetNetwork], batch: GraphBatch) -> Ask:
  """How the networks of a batch answer: inputs [P, ...] -> [G, P K]."""
  values: Any = batch.graph.globals
  if "weights" not in values:
    raise InputError(
      "probes: the batch holds no weights, expected one of a GraphDataset with "
      "with_weights=True"
    )
  names = batch.schema.activations

  def branch(target):
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    zeros, to_weights = ravel_pytree(
      jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    )
    known = target.activations
    index = np.array([known.index(n) if n in known else 0 for n in names])

    def answer(row, activation, inputs):
      weights = to_weights(row[: zeros.size].astype(zeros.dtype))
      return ask(target, weights, jnp.asarray(index)[activation])(inputs)

    return answer

  branches = [branch(target) for target in targets]

  def answer_all(inputs):
    # Computed again for gradients: a branch would keep what each of the others
    # would have to.
    @jax.checkpoint
    def one(network):
      row, architecture, activation = network
      return jax.lax.switch(architecture, branches, row, activation, inputs)

    networks = (values[n] for n in ("weights", "architecture", "activation"))
    return jax.lax.map(one, tuple(networks))

  return answer_all
