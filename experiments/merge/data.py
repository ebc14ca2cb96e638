"""Networks of different seeds, and what an average of them is measured by."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.inr.data import fold_phases
from experiments.runner import interrupt, progress
from scalegmn_jax import batched, devices
from scalegmn_jax.base import Networks, TargetNetwork, Weights
from scalegmn_jax.data import pictures
from scalegmn_jax.data.images import Images
from scalegmn_jax.inner.objective import evaluate_network
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import codec, inrs, split

INR = "siren"
"""The name of the networks that are fitted to pictures."""

WIDE = {"cnn": "channels", "mlp": "hidden", "resnet": "widths"}
"""{target: its argument with the widths of the layers}."""

Measure = Callable[[Networks], tuple[np.ndarray, np.ndarray]]
"""networks -> (their losses [B], their scores [B])."""


class Group(NamedTuple):
  """Networks of different seeds that were trained for one purpose.

  Attributes:
    networks: [K], of one architecture.
    measure: loss on training data, and score on test data: the accuracy of
      classifiers, the PSNR (dB) of a picture.
    inputs: [N, ...] for alignment by images.
    batches: [S, N, ...], inputs on which running statistics are recomputed;
      None for networks without them.
  """

  networks: Networks
  measure: Measure
  inputs: np.ndarray
  batches: np.ndarray | None = None


class Subject(NamedTuple):
  """An architecture at one width.

  Attributes:
    name: a key of `config.merge.architectures`, or `INR`.
    width: factor of the widths of its layers.
    target: the architecture.
    groups: the networks.
  """

  name: str
  width: int
  target: TargetNetwork
  groups: list[Group]

  @property
  def keys(self) -> dict[str, Any]:
    """The keys of its rows."""
    return {"network": self.name, "width": self.width}


def architectures(
  config: ConfigDict, images: Images
) -> dict[tuple[str, int], tuple[ConfigDict, TargetNetwork]]:
  """{(name, width): (config of its zoo, the architecture)}.

  Raises:
    InputError: impossible arguments of a target.
  """
  found = {}
  for name, arguments in config.merge.architectures.items():
    for width in config.merge.widths:
      other = ConfigDict(config.to_dict())
      other.target = widened(arguments, width)
      other.zoo.path = ""
      build.start_from_target(other, ())
      found[name, width] = other, build.build_target(other, images)
  return found


def widened(arguments: Mapping[str, Any], width: int) -> ConfigDict:
  """Arguments of a target whose layers are `width` times as wide."""
  key = WIDE[arguments["name"]]
  return ConfigDict(
    {**arguments, key: tuple(width * n for n in arguments[key])}
  )


def siren(config: ConfigDict, images: Images, width: int) -> TargetNetwork:
  """The architecture of the networks that are fitted to pictures."""
  hidden = (width * n for n in config.inr.hidden)
  channels = images.train_x.shape[-1]
  return mlp((2, *hidden, channels), "sine", config.inr.omega)


def classifiers(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> Group:
  """Trains networks on images, or reads them.

  Args:
    config: of their zoo.
    target: the architecture.
    images: the image set.
  """
  files = build.build_zoo_files(config, target, images)
  rows = split.select_rows(files, "last", target.activations)
  networks = codec.load_networks(target, files, rows)
  c, batches = config.merge, None
  x = images.train_x
  if target.train is not None:
    size = config.zoo.batch_size
    count = len(x) // size
    batches = x[: count * size].reshape(count, size, *x.shape[1:])
  measure = _measure_classifiers(target, images, c.measured)
  return Group(networks, measure, x[: c.images], batches)


def _measure_classifiers(
  target: TargetNetwork, images: Images, measured: int
) -> Measure:
  def of_network(data, network):
    (loss, *_), (_, accuracy, _) = (
      evaluate_network(target.apply, network, *part) for part in data
    )
    return loss, accuracy

  apply = batched.apply_batched(of_network)
  data = devices.replicate(
    (
      (images.train_x[:measured], images.train_y[:measured]),
      (images.test_x, images.test_y),
    )
  )
  return lambda networks: jax.device_get(apply(data, networks))


def fitted(
  config: ConfigDict, target: TargetNetwork, images: Images
) -> list[Group]:
  """Fits SIRENs to pictures, several to each, and folds their phases."""
  c = config.inr
  counts = {"train": c.pictures, "val": 1, "test": 1}
  copies = {"train": config.zoo.size, "val": 1, "test": 1}
  selected = pictures.first(images, counts, copies)
  with progress.bar("fit networks", c.epochs) as advance:
    files = inrs.cached_inrs(
      build.zoo_cache(config),
      target,
      selected,
      epochs=c.epochs,
      batch_size=0,
      learning_rate=c.learning_rate,
      seed=config.seed,
      on_epoch=advance,
      check=interrupt.check,
    )
  found = inrs.load(target, files, images, "train")
  networks = fold_phases(target, found.networks)
  height, width = images.train_x.shape[1:3]
  grid = pictures.coordinates(height, width)
  apply = batched.apply_batched(
    lambda grid, network: target.apply(
      network.weights, grid, network.activation
    )
  )

  def measure(networks, pixels):
    rendered = np.asarray(apply(grid, networks))
    error = np.square(rendered - pixels.reshape(-1, pixels.shape[-1]))
    error = error.mean((1, 2))
    return error, pictures.psnr(error)

  groups = []
  for image in sorted(set(found.pictures.image)):
    rows = np.flatnonzero(found.pictures.image == image)
    pixels = found.pictures.pixels[rows[0]]
    groups.append(
      Group(
        networks.take(rows),
        functools.partial(measure, pixels=pixels),
        grid[:: max(1, len(grid) // config.merge.images)],
      )
    )
  return groups


def recomputed(
  target: TargetNetwork, batches: np.ndarray
) -> Callable[[Networks], Networks]:
  """networks -> networks with the running statistics of these inputs."""

  def of_network(batches, network):
    def step(weights, x):
      _, moved = target.in_training(weights, x)
      return moved, None

    return jax.lax.scan(step, network.weights, batches)[0]

  apply = batched.apply_batched(of_network)
  return lambda networks: networks._replace(weights=apply(batches, networks))


def stacked(networks: list[Weights]) -> Networks:
  """Networks with the first activation."""
  weights = jax.tree.map(lambda *w: np.stack(w), *networks)
  return Networks(weights, jnp.zeros(len(networks), jnp.int32))
