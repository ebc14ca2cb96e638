"""Networks of several architectures, and batches of them for a loop.

A batch that is drawn at random from networks of very different sizes would have
to be padded to the worst case. So networks are sorted by size and cut into as
many strata as a batch has networks, and a batch takes one of each stratum: it
mixes all sizes, and its size varies by less than that of one network does. Its
rows are then padded to the first of a few sizes, the buckets, that holds them.
The last bucket holds any batch that can be drawn, so nothing else is ever
compiled.

Batches are made on the host, in numpy. A batch is a function of the seed and of
the number of the step, so that a loop can go on where it was.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scalegmn_jax.base import InputError, Networks, Weights
from scalegmn_jax.graph.batch import pack
from scalegmn_jax.graph.batch.pack import GraphBatch, SectionSizes
from scalegmn_jax.graph.batch.schema import ArchitectureGraph, TypeSchema
from scalegmn_jax.symmetry import gauge

_SAMPLE = 1000
"""Steps whose batches the buckets are made for."""


class GraphDataset:
  """N networks of A architectures, on the host.

  Attributes:
    vocabulary: with which they are read.
    architectures: A of them.
    of: [N], the architecture of each network.
    sections: [N, 6], the rows of each network, see `packing.Sections`.
  """

  def __init__(
    self,
    vocabulary: TypeSchema,
    architectures: Sequence[ArchitectureGraph],
    zoos: Sequence[Networks],
    values: Sequence[Mapping[str, np.ndarray]],
  ):
    """
    Args:
      vocabulary: of these architectures, or of more.
      architectures: A of them.
      zoos: the networks of each architecture. They are numbered in this order.
      values: of the networks of each architecture, arrays [B, ...]: what a
        batch is to hold of them in `globals`.
    """
    self.vocabulary = vocabulary
    self.architectures = tuple(architectures)
    counts = [len(zoo.activation) for zoo in zoos]
    self.of = np.repeat(np.arange(len(counts)), counts)
    self._row = np.concatenate([np.arange(n) for n in counts])
    sections = [pack.sections_of(a) for a in architectures]
    self.sections = np.array(sections)[self.of]
    self._zoos = [
      (
        [np.asarray(leaf) for leaf in jax.tree.leaves(zoo.weights)],
        np.asarray(_sizes(architecture)(zoo.weights)),
        np.asarray(zoo.activation),
        dict(given),
      )
      for architecture, zoo, given in zip(
        architectures, zoos, values, strict=True
      )
    ]

  def graph(self, network: int) -> Any:
    """The `jraph.GraphsTuple` of one network."""
    at, row = self.of[network], self._row[network]
    leaves, sizes, activation, values = self._zoos[at]
    return pack.graph_of(
      self.architectures[at],
      self.vocabulary,
      [leaf[row] for leaf in leaves],
      sizes[row],
      activation[row],
      {name: array[row] for name, array in values.items()},
    )

  def batch(
    self, networks: np.ndarray, sections: SectionSizes, size: int
  ) -> GraphBatch:
    """These networks, in this order, on the device; see `packing.pack`."""
    graphs = [self.graph(n) for n in networks]
    return jax.device_put(pack.pack(graphs, self.vocabulary, sections, size))

  def rows(self, networks: np.ndarray) -> np.ndarray:
    """The least `Sections` that hold these networks, [6]."""
    total = self.sections[networks].sum(0)
    total[0] += 1  # for the padding edges to lead to
    return total

  def by_size(self, networks: np.ndarray) -> np.ndarray:
    """These networks, those of the fewest edges first."""
    edges = self.sections[networks, 2:].sum(1)
    return networks[np.argsort(edges, kind="stable")]


@functools.cache
def _sizes(architecture: ArchitectureGraph) -> Callable[[Weights], jax.Array]:
  """Weights [B, ...] -> [B, V], see `gauge.vertex_sizes`; 0 of neurons without
  any weight."""
  topology = architecture.topology

  def one(weights):
    sizes = gauge.vertex_sizes(topology.spec, weights, isolated=0.0)
    return jax.numpy.concatenate([sizes[name] for name in topology.spaces])

  # Runs once: to compile it quickly matters more than its speed.
  quick = {"xla_backend_optimization_level": 0}
  return jax.jit(jax.vmap(one), compiler_options=quick)


@dataclasses.dataclass(frozen=True, eq=False)
class BatchLoader:
  """Random batches: a function of the step.

  Attributes:
    population: the networks.
    strata: numbers of networks of about the same size, one array per network
      of a batch.
    buckets: to which batches are padded, the smallest first.
    seed: another one gives other batches.
  """

  population: GraphDataset
  strata: tuple[np.ndarray, ...]
  buckets: tuple[SectionSizes, ...]
  seed: int

  def __call__(self, step: int) -> GraphBatch:
    """The batch of a step, on the device."""
    networks = self.networks(step)
    return self.population.batch(
      networks, self.bucket(networks), len(self.strata)
    )

  def networks(self, step: int) -> np.ndarray:
    """The numbers of the networks of a step."""
    return _drawn(self.strata, self.seed, step)

  def bucket(self, networks: np.ndarray) -> SectionSizes:
    """The first that holds these networks."""
    rows = self.population.rows(networks)
    return next(b for b in self.buckets if (rows <= b).all())

  def padding(self, steps: int) -> float:
    """The share of padding among the edges of the first batches."""
    drawn = [self.networks(step) for step in range(steps)]
    real = sum(self.population.sections[n, 2:].sum() for n in drawn)
    return 1 - float(real) / sum(self.bucket(n).edges for n in drawn)


def _drawn(strata: Sequence[np.ndarray], seed: int, step: int) -> np.ndarray:
  # RandomState: numpy promises its stream for good.
  shares = np.random.RandomState((seed, step)).random_sample(len(strata))
  return np.array(
    [s[int(u * len(s))] for s, u in zip(strata, shares, strict=True)]
  )


def batch_loader(
  population: GraphDataset,
  networks: np.ndarray,
  *,
  size: int,
  seed: int,
  buckets: int = 4,
) -> BatchLoader:
  """A loader of random batches.

  Networks are drawn with replacement; those of a stratum equally often, and
  strata differ by one network at most.

  Args:
    population: the networks.
    networks: the numbers of those to draw from.
    size: networks per batch.
    seed: of the draws, 0 to 2**32 - 1.
    buckets: at most that many shapes.

  Raises:
    InputError: fewer networks than a batch has, or no bucket.
  """
  if not 1 <= size <= len(networks) or buckets < 1:
    raise InputError(
      f"batches of {size} of {len(networks)} networks in {buckets} buckets: "
      "expected at least one of each, and no more than there are"
    )
  strata = np.array_split(population.by_size(networks), size)
  worst = np.sum([population.sections[s].max(0) for s in strata], axis=0)
  worst[0] += 1
  levels = [worst]
  if buckets > 1:
    drawn = np.array(
      [population.rows(_drawn(strata, seed, s)) for s in range(_SAMPLE)]
    )
    drawn = drawn[np.argsort(drawn[:, 2:].sum(1), kind="stable")]
    ends = np.linspace(0, _SAMPLE, buckets)[1:].round().astype(int)
    levels = [drawn[:end].max(0) for end in ends] + levels
  return BatchLoader(
    population,
    tuple(strata),
    tuple(dict.fromkeys(SectionSizes(*level.tolist()) for level in levels)),
    seed,
  )


def fixed_batches(
  population: GraphDataset, parts: Mapping[str, np.ndarray], size: int
) -> dict[str, list[tuple[np.ndarray, GraphBatch]]]:
  """Batches in which every network is once, all of one shape.

  Args:
    population: the networks.
    parts: {name: numbers of networks}.
    size: networks per batch, at most.

  Returns:
    {name: [(numbers of the networks of a batch, in its order; the batch)]}.
  """
  hands = {}
  for name, networks in parts.items():
    count = -(-len(networks) // size)
    ordered = population.by_size(networks)
    hands[name] = [ordered[i::count] for i in range(count)]
  rows = [population.rows(n) for hand in hands.values() for n in hand]
  sections = SectionSizes(*np.max(rows, axis=0).tolist())
  return {
    name: [(n, population.batch(n, sections, size)) for n in hand]
    for name, hand in hands.items()
  }
