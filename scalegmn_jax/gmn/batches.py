"""Metanetworks that read several architectures side by side."""

from typing import Any

from scalegmn_jax.base import BatchFunctional, InputError, full_precision
from scalegmn_jax.gmn import modules
from scalegmn_jax.gmn.features import (
  Backward,
  featurize_batch,
  resolve_backward,
)
from scalegmn_jax.gmn.modules import one_program
from scalegmn_jax.gmn.options import Options, at_least, refuse_unused
from scalegmn_jax.graph.batch import pack
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
) -> BatchFunctional:
  """A ScaleGMN that reads networks of several architectures side by side.

  Layers, head and parameters are the same as in `metanetworks.functional`: for
  one architecture with kernels of one size both compute the same function.

  Args:
    schema: of the architectures, see `graph.batch.schema`.
    outputs: numbers per network.
    width, depth, bidirectional, symmetry, backward, dtype: see
      `options.Options`.

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
  # Without a single group there are several, "scale" as a rule among them.
  refuse_unused(vars(options), {schema.group or "scale"})
  backward_fn = resolve_backward(backward)
  body = modules.Body(dtype, width, depth, bidirectional, False)
  module: Any = modules.Functional(dtype, body, outputs)

  def features_of(batch):
    return featurize_batch(batch, symmetry=symmetry, backward=backward_fn)

  @one_program
  def init(key):
    batch = pack.blank_batch(schema)
    return module.init(key, *features_of(batch))["params"]

  @full_precision
  def apply(params, batch):
    if batch.schema != schema:
      raise InputError("the batch has another schema than the metanetwork")
    return module.apply({"params": params}, *features_of(batch))

  return BatchFunctional(init, apply)
