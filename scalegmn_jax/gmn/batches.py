"""Metanetworks that read several architectures side by side."""

from typing import Any

from scalegmn_jax.base import BatchFunctional
from scalegmn_jax.gmn import features as readings
from scalegmn_jax.gmn import modules
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.schema import TypeSchema


def functional(
  vocabulary: TypeSchema,
  *,
  outputs: int = 1,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
) -> BatchFunctional:
  """A ScaleGMN that reads networks of several architectures side by side.

  Its layers, head and parameters are those of `metanetworks.functional`: with a
  vocabulary of one architecture, and kernels of one size, it is that function.

  Args:
    vocabulary: of the architectures, see `graph.vocabulary`.

  The other arguments are those of `metanetworks.operator`.

  Returns:
    A `BatchFunctional` whose apply is (φ, `GraphBatch`) -> [G, outputs], a row
    per graph of the batch; those of padding mean nothing. Each row is
    invariant under the group of its network, and depends on no other network.

  Raises:
    InputError: no such symmetry or backward edge.
  """
  carried = readings.resolve_backward(symmetry, backward)
  module: Any = modules.Functional(
    modules.Body(width, depth, bidirectional, False), outputs
  )

  def read(batch):
    return readings.featurize_batch(batch, symmetry=symmetry, backward=carried)

  def init(key):
    return module.init(key, *read(pack.blank_batch(vocabulary)))["params"]

  def apply(params, batch):
    if batch.schema != vocabulary:
      raise ValueError("the batch has another vocabulary than the metanetwork")
    return module.apply({"params": params}, *read(batch))

  return BatchFunctional(init, apply)
