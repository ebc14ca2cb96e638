"""Networks of several architectures, and a loader of their batches.

Batches drawn uniformly from networks of very different sizes would need padding
to the worst case. Networks are therefore sorted by size and cut into as many
strata as a batch has networks, and a batch has one network of each stratum: it
mixes all sizes, and the size of a batch varies less than the size of a network.
The rows of a batch are padded to the first of a few sizes, the buckets, that
holds them. The last bucket holds any batch that can be drawn, so the number of
compiled shapes is bounded.

Batches are made on the host, in numpy. A batch is a function of the seed and
the step, so that a training loop can resume.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scalegmn_jax import batched, compilation
from scalegmn_jax.base import InputError, Networks, Weights
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.pack import GraphBatch, SectionSizes
from scalegmn_jax.graph.batch.schema import ArchitectureGraph, TypeSchema
from scalegmn_jax.graph.sizes import vertex_sizes

_NUM_SAMPLED_STEPS = 1000
"""Steps whose batches determine the buckets."""


class GraphDataset:
  """N networks of A architectures, on the host.

  Attributes:
    schema: ids and slots of the graphs.
    architectures: the A architectures.
    architecture_index: [N], the architecture of each network.
    sections: [N, 6], the `SectionSizes` of each network.
  """

  def __init__(
    self,
    schema: TypeSchema,
    architectures: Sequence[ArchitectureGraph],
    networks: Sequence[Networks],
    values: Sequence[Mapping[str, np.ndarray]],
    *,
    with_weights: bool = False,
  ):
    """
    Args:
      schema: the schema of these architectures, or of more.
      architectures: the A architectures.
      networks: the networks of each architecture. Networks are numbered in this
        order.
      values: {name: [B, ...]} for the networks of each architecture; batches
        hold the values in `globals`.
      with_weights: batches hold in `globals`, for metanetworks with probes, the
        number of the architecture of each network, "architecture" [G], and its
        weights as a row, "weights" [G, W], padded with zeros.
    """
    self.schema = schema
    self.architectures = tuple(architectures)
    counts = [n.size for n in networks]
    self.architecture_index = np.repeat(np.arange(len(counts)), counts)
    self._row = np.concatenate([np.arange(n) for n in counts])
    self._row_width = 0
    if with_weights:
      self._row_width = max(
        sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(n.weights))
        for n in networks
      )
    sections = [pack.sections_of(a) for a in architectures]
    self.sections = np.array(sections)[self.architecture_index]
    self._networks = [
      (
        [np.asarray(leaf) for leaf in jax.tree.leaves(n.weights)],
        np.asarray(_vertex_sizes(architecture)(n.weights)),
        np.asarray(n.activation),
        dict(arrays),
      )
      for architecture, n, arrays in zip(
        architectures, networks, values, strict=True
      )
    ]

  @property
  def size(self) -> int:
    """N, the number of networks."""
    return len(self.architecture_index)

  def graph(self, number: int) -> Any:
    """The `jraph.GraphsTuple` of one network."""
    index, row = self.architecture_index[number], self._row[number]
    leaves, sizes, activation, values = self._networks[index]
    leaves = [leaf[row] for leaf in leaves]
    values = {name: array[row] for name, array in values.items()}
    if self._row_width:
      flat = np.zeros(self._row_width, np.result_type(*leaves))
      weights = np.concatenate([leaf.ravel() for leaf in leaves])
      flat[: len(weights)] = weights
      values |= {"architecture": np.int32(index), "weights": flat}
    return pack.graph_of(
      self.architectures[index],
      self.schema,
      leaves,
      sizes[row],
      activation[row],
      values,
    )

  def batch(
    self, numbers: np.ndarray, sections: SectionSizes, size: int
  ) -> GraphBatch:
    """A batch of networks in the order of `numbers`, on the device.

    Args:
      numbers: the networks.
      sections, size: see `pack.pack`.
    """
    graphs = [self.graph(n) for n in numbers]
    return jax.device_put(pack.pack(graphs, self.schema, sections, size))

  def rows(self, numbers: np.ndarray) -> np.ndarray:
    """The smallest `SectionSizes` that hold these networks, [6]."""
    total = self.sections[numbers].sum(0)
    total[0] += 1  # the end of padding edges
    return total

  def by_size(self, numbers: np.ndarray) -> np.ndarray:
    """Sorts networks by number of edges, ascending."""
    edges = self.sections[numbers, 2:].sum(1)
    return numbers[np.argsort(edges, kind="stable")]


@functools.cache
def _vertex_sizes(
  architecture: ArchitectureGraph,
) -> Callable[[Weights], jax.Array]:
  """Weights [B, ...] -> `sizes.vertex_sizes` [B, V]; 0 for isolated neurons."""
  topology = architecture.topology

  def one(weights):
    return vertex_sizes(topology, weights, isolated=0.0)

  def all_networks(weights):
    return batched.map_networks(one, weights, vmap_size=None)

  return compilation.run_once(all_networks)


@dataclasses.dataclass(frozen=True, eq=False)
class BatchLoader:
  """Random batches as a function of the step.

  Attributes:
    dataset: the networks.
    strata: numbers of networks of similar size, one array per network of a
      batch.
    buckets: the sizes to which batches are padded, ascending.
    seed: the seed of the draws.
  """

  dataset: GraphDataset
  strata: tuple[np.ndarray, ...]
  buckets: tuple[SectionSizes, ...]
  seed: int

  def __call__(self, step: int) -> GraphBatch:
    """The batch of a step, on the device."""
    numbers = self.numbers(step)
    return self.dataset.batch(numbers, self.bucket(numbers), len(self.strata))

  def numbers(self, step: int) -> np.ndarray:
    """The numbers of the networks of a step."""
    return _draw(self.strata, self.seed, step)

  def bucket(self, numbers: np.ndarray) -> SectionSizes:
    """The first bucket that holds these networks."""
    rows = self.dataset.rows(numbers)
    return next(b for b in self.buckets if (rows <= b).all())

  def padding(self, steps: int) -> float:
    """The fraction of padding among the edges of the first batches."""
    drawn = [self.numbers(step) for step in range(steps)]
    real = sum(self.dataset.sections[n, 2:].sum() for n in drawn)
    return 1 - float(real) / sum(self.bucket(n).edges for n in drawn)


def _draw(strata: Sequence[np.ndarray], seed: int, step: int) -> np.ndarray:
  """One network of each stratum."""
  # RandomState, because numpy guarantees its stream.
  shares = np.random.RandomState((seed, step)).random_sample(len(strata))
  return np.array(
    [s[int(u * len(s))] for s, u in zip(strata, shares, strict=True)]
  )


def batch_loader(
  dataset: GraphDataset,
  numbers: np.ndarray,
  *,
  size: int,
  seed: int,
  buckets: int = 4,
) -> BatchLoader:
  """A loader of random batches.

  Networks are drawn with replacement, uniformly within each stratum; sizes of
  strata differ by one network at most.

  Args:
    dataset: the networks.
    numbers: the networks to draw from.
    size: networks per batch.
    seed: seed of the draws, 0 to 2**32 - 1.
    buckets: maximal number of shapes.

  Raises:
    InputError: fewer networks than a batch has, or no bucket.
  """
  if not 1 <= size <= len(numbers) or buckets < 1:
    raise InputError(
      f"batches of {size} of {len(numbers)} networks in {buckets} buckets: "
      "expected at least one network per batch and one bucket, and no batch "
      "larger than the number of networks"
    )
  strata = np.array_split(dataset.by_size(numbers), size)
  worst = np.sum([dataset.sections[s].max(0) for s in strata], axis=0)
  worst[0] += 1
  levels = [worst]
  if buckets > 1:
    drawn = np.array(
      [dataset.rows(_draw(strata, seed, s)) for s in range(_NUM_SAMPLED_STEPS)]
    )
    drawn = drawn[np.argsort(drawn[:, 2:].sum(1), kind="stable")]
    ends = np.linspace(0, _NUM_SAMPLED_STEPS, buckets)[1:].round().astype(int)
    levels = [drawn[:end].max(0) for end in ends] + levels
  return BatchLoader(
    dataset,
    tuple(strata),
    tuple(dict.fromkeys(SectionSizes(*level.tolist()) for level in levels)),
    seed,
  )


def fixed_batches(
  dataset: GraphDataset, parts: Mapping[str, np.ndarray], size: int
) -> dict[str, list[tuple[np.ndarray, GraphBatch]]]:
  """Batches that contain each network once, all of one shape.

  Args:
    dataset: the networks.
    parts: {name: numbers of networks}.
    size: maximal number of networks per batch.

  Returns:
    {name: [(numbers of the networks, in the order of the batch; the batch)]}.
  """
  batches = {}
  for name, numbers in parts.items():
    count = -(-len(numbers) // size)
    ordered = dataset.by_size(numbers)
    batches[name] = [ordered[i::count] for i in range(count)]
  rows = [dataset.rows(n) for part in batches.values() for n in part]
  sections = SectionSizes(*np.max(rows, axis=0).tolist())
  return {
    name: [(n, dataset.batch(n, sections, size)) for n in part]
    for name, part in batches.items()
  }
