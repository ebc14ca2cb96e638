"""Metanetworks that read several architectures side by side."""

from scalegmn_jax.base import MetaNetwork
from scalegmn_jax.gmn import modules
from scalegmn_jax.gmn import reading as readings
from scalegmn_jax.graph import packing
from scalegmn_jax.graph.vocabulary import Vocabulary


def functional(
  vocabulary: Vocabulary,
  *,
  outputs: int = 1,
  width: int = 32,
  depth: int = 2,
  bidirectional: bool = True,
  symmetry: str = "target",
  backward: str | readings.Backward = "carrier",
) -> MetaNetwork:
  """A ScaleGMN that reads networks of several architectures side by side.

  Its layers, head and parameters are those of `metanetworks.functional`: with a
  vocabulary of one architecture, and kernels of one size, it is that function.

  Args:
    vocabulary: of the architectures, see `graph.vocabulary`.

  The other arguments are those of `metanetworks.operator`.

  Returns:
    A `MetaNetwork` whose apply is (φ, `graph.packing.Batch`) -> [G, outputs], a
    row per graph of the batch; those of padding mean nothing. Each row is
    invariant under the group of its network, and depends on no other network.

  Raises:
    InputError: no such symmetry or backward edge.
  """
  carried = readings.checked(symmetry, backward)
  module = modules.Functional(
    modules.Body(width, depth, bidirectional, False), outputs
  )

  def read(batch):
    return readings.read_batch(batch, symmetry=symmetry, backward=carried)

  def init(key):
    return module.init(key, *read(packing.blank(vocabulary)))["params"]

  def apply(params, batch):
    if batch.vocabulary != vocabulary:
      raise ValueError("the batch has another vocabulary than the metanetwork")
    return module.apply({"params": params}, *read(batch))

  return MetaNetwork(init, apply)
