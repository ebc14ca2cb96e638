"""Networks, their gauge directions and their null spaces."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import progress
from scalegmn_jax.base import TargetNetwork, Weights
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import nullspace
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec, split, store

CONTROLS = 16
"""Random directions that tangents are compared with."""

IMAGES = 20
"""Those on which outputs are followed along a tangent."""

ENTRIES = 50_000_000
"""Numbers in all tangents of a network, up to which they are decomposed."""


class Network(NamedTuple):
  """Attributes:
  name: for tables.
  target: its architecture.
  weights: 64 bit numbers.
  cnn: the network of which it computes the map as an MLP, or None.
  """

  name: str
  target: TargetNetwork
  weights: Weights
  cnn: "Network | None" = None

  @property
  def size(self) -> int:
    return sum(w.size for w in jax.tree.leaves(self.weights))


def read(path: str, target: TargetNetwork) -> Network:
  """The network of a .npy file, see `zoo.networks.read_row`."""
  row = codec.read_npy_row(path, target)
  return Network("network of a file", target, _first(target, row))


def of_zoo(
  name: str, config: ConfigDict, target: TargetNetwork, data: Images
) -> Network:
  """That of a zoo with the least training loss."""
  files = build.build_zoo_files(config, target, data)
  rows = split.select_rows(files, "last", target.activations)
  losses = files.metrics["train_loss"].to_numpy()[rows]
  best = np.asarray([rows[np.nanargmin(losses)]])
  return Network(name, target, _first(target, store.read_rows(files, best)))


def _first(target: TargetNetwork, rows: np.ndarray) -> Weights:
  weights = codec.to_weights(target, rows)
  return jax.tree.map(lambda w: np.asarray(w[0], np.float64), weights)


def architectures(
  config: ConfigDict, data: Images
) -> dict[str, tuple[ConfigDict, TargetNetwork]]:
  """The other architectures of the config: {name: (config of a small zoo of
  them, target)}."""
  found = {}
  for name, arguments in config.gauge.architectures.items():
    own = ConfigDict(config.to_dict())
    own.target = arguments
    own.zoo.path = ""
    own.zoo.size = own.zoo.save_every = config.gauge.size
    own.zoo.epochs = (config.gauge.epochs,)
    # The most usual ones: compiled faster than all.
    own.zoo.optimizer = ("adam",)
    own.zoo.initializer = ("glorot_normal",)
    found[name] = own, build.build_target(own, data)
  return found


def with_mlps(found: Sequence[Network]) -> list[Network]:
  """The networks, each CNN followed by its MLP."""
  every = []
  for network in found:
    every.append(network)
    if network.target.description["name"] == "cnn":
      made = unroll.unrolled(network.target)
      dense = jax.tree.map(np.asarray, jax.jit(made.unroll)(network.weights))
      name = f"{network.name}, as an MLP"
      every.append(Network(name, made.target, dense, network))
  return every


def count(
  config: ConfigDict, found: Sequence[Network], data: Images
) -> list[dict[str, Any]]:
  """Rows of a table: the gauge directions of every network."""
  rows = []
  images = data.train_x[:IMAGES]
  with progress.bar("gauge directions", len(found)) as advance:
    for network in found:
      row = _count(config, network, images)
      rows.append(row)
      if network.cnn is not None:
        untied = unroll.unrolled(network.cnn.target).untied
        # Structural zeros have no part in any tangent: they stay the same.
        rows.append(
          row
          | {
            "method": f"{network.cnn.name}, untied",
            "weights": untied,
            "share": row["directions"] / untied,
            "tied": None,
          }
        )
      advance()
  return rows


def _count(config, network, images) -> dict[str, Any]:
  spec, weights = network.target.spec, network.weights
  by_layer = list(tangents.directions(spec).values())
  total = sum(by_layer)
  by_svd = tied = None
  if total * network.size <= ENTRIES:
    by_svd = nullspace.rank(nullspace.tangent_rows(spec, weights))
    if network.cnn is not None:
      tied = nullspace.tied_directions(network.cnn.target, network.cnn.weights)
  tested, felt = _felt(config, network, images)
  return {
    "method": network.name,
    "layers": "+".join(map(str, by_layer)),
    "directions": total,
    "weights": network.size,
    "share": total / network.size,
    "rank": tangents.rank(spec, weights),
    "rank_svd": by_svd,
    "tied": tied,
    "tested": tested,
    "felt": felt,
  }


def _felt(config, network, images) -> tuple[int, float]:
  """(tangents tested, the greatest ‖J t‖/‖t‖ in units of its median for
  random directions).

  Of a network without the scale symmetry the same scalings are tested: its
  outputs do change.
  """
  target = network.target
  # The same layers with the scale group.
  scaled = make_target({**target.description, "activation": "relu"}).spec
  total = sum(tangents.directions(scaled).values())
  random = np.random.RandomState(config.seed)
  numbers = np.sort(random.permutation(total)[: config.gauge.tested])

  def control(weights, key):
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(key, len(leaves))
    random = [
      jax.random.normal(k, w.shape, w.dtype)
      for k, w in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, random)

  along = nullspace.sensitivity(
    target,
    network.weights,
    images,
    lambda weights, rates: tangents.tangent(scaled, weights, rates),
    tangents.generators(scaled, numbers=numbers),
  )
  keys = jax.random.split(jax.random.key(config.seed), CONTROLS)
  others = nullspace.sensitivity(target, network.weights, images, control, keys)
  # A neuron without weights has no direction: its t is zero.
  return len(numbers), float(np.nanmax(along) / np.median(others))


class Measured(NamedTuple):
  """The null space of one network on some inputs.

  Attributes:
    name: of the network.
    inputs: what they are.
    images: numbers of them.
    dimensions: of the null space on so many.
    final: on all of them.
    outputs: on all of them.
  """

  name: str
  inputs: str
  images: Sequence[int]
  dimensions: Sequence[int]
  final: nullspace.NullSpace
  outputs: int

  @property
  def row(self) -> dict[str, Any]:
    """Of the table."""
    space = self.final
    values = space.singular_values
    kept = len(values) - space.dimension
    numbers = {
      name: value for name, value in space._asdict().items()
      if isinstance(value, int)
    }  # fmt: skip
    return {
      "method": f"{self.name}: {self.inputs}",
      "outputs": self.outputs,
      "weights": len(values),
      "least": float(values[kept - 1] / values[0]),
      "zero": float(values[kept] / values[0]) if space.dimension else None,
      **numbers,
    }


def null_spaces(
  config: ConfigDict, found: Sequence[Network], data: Images
) -> list[Measured]:
  """Null spaces of the networks that are not too large, on images and on
  Gaussian noise of their shape."""
  found = [n for n in found if n.size <= config.gauge.largest]
  ends = config.gauge.images
  images = data.train_x[: ends[-1]]
  noise = np.random.RandomState(config.seed).normal(size=images.shape)
  results = []
  with progress.bar("null spaces", 2 * len(found)) as advance:
    for network in found:
      for inputs, x, at in (
        (config.data.name, images, ends),
        ("noise", noise, ends[-1:]),
      ):
        results.append(_null_space(network, inputs, x, at))
        advance()
  return results


def _null_space(network, inputs, x, ends) -> Measured:
  target, weights = network.target, network.weights
  spaces = [
    nullspace.null_space(target.spec, weights, triangle)
    for triangle in nullspace.triangles(target, weights, x, ends)
  ]
  outputs = jax.eval_shape(target.apply, weights, jnp.asarray(x))
  return Measured(
    network.name,
    inputs,
    ends,
    [space.dimension for space in spaces],
    spaces[-1],
    outputs.size,
  )
