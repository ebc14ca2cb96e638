"""Implicit neural representations of images, as experiments need them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import build
from experiments.runner import progress
from experiments.runner.experiment import TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import Networks, Params, TargetNetwork
from scalegmn_jax.data import download, pictures
from scalegmn_jax.symmetry import phase
from scalegmn_jax.targets.mlp import mlp
from scalegmn_jax.zoo import inrs, parts, store


def check(config: ConfigDict, methods: Iterable[str]) -> None:
  """Raises InputError for values that both experiments with INRs refuse.

  Args:
    config: with the section of `common.inrs`, `methods` and `rates`.
    methods: those that there are.
  """
  known = tuple(methods)
  for key, good, expected in (
    ("zoo.vmap_size", lambda v: v >= 0, "0 or more"),
    ("target.omega", lambda v: v > 0, "a positive number"),
    (
      "methods",
      lambda v: len(v) > 0 and set(v) <= set(known),
      f"some of {', '.join(known)}",
    ),
  ):
    build.need(config, key, good, expected)
  for name in tuple(config.methods):
    build.need(
      config,
      f"learning_rates.{name}",
      lambda v: len(v) > 0 and min(v) > 0,
      "positive numbers",
    )


def jobs(
  config: ConfigDict, methods: Mapping[str, Callable[[str, float], TrainingJob]]
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a run: a job}}, a run for each learning rate.

  Args:
    config: with `rates`.
    methods: {method: (name of the run, rate) -> job}.
  """
  return {
    method: {
      name: make(name, rate)
      for rate in config.learning_rates[method]
      for name in [f"{method}/{rate:g}"]
    }
    for method, make in methods.items()
  }


class Best(NamedTuple):
  """The run of a method whose learning rate was best on validation.

  Attributes:
    params: its φ.
    rate: its learning rate.
    values: what validation measures of φ.
  """

  params: Params
  rate: float | None
  values: Mapping[str, float]


def best(runs: Mapping[str, TrainingJob], params: Mapping[str, Params]) -> Best:
  """Of the runs of one method."""
  found = [
    Best(params[name], run.learning_rate, run.validate(params[name]))
    for name, run in runs.items()
  ]
  return min(found, key=lambda b: b.values["val_objective"])


class Renderings(NamedTuple):
  """The SIRENs of a run.

  Attributes:
    target: their architecture.
    train, val, test: networks as they were fitted, by the part of the image
      set that their images are from.
    grid: [P, 2], the coordinates of the pixels.
    source: folder of the files.
  """

  target: TargetNetwork
  train: inrs.Inrs
  val: inrs.Inrs
  test: inrs.Inrs
  grid: np.ndarray
  source: str


def fitted(config: ConfigDict) -> Renderings:
  """Reads the zoo of a run, or fits it."""
  c = config.zoo
  data = build.build_images(config)
  height, width, channels = data.train_x.shape[1:]
  target = mlp(
    (2, *config.target.hidden, channels), "sine", config.target.omega
  )
  if c.path:
    files = store.read_zoo(c.path)
  else:
    chosen = pictures.first(
      data,
      {part: c[f"{part}_images"] for part in pictures.PARTS},
      {"train": c.views, "val": 1, "test": 1},
    )
    epochs = parts.count_parts(len(chosen.label), c.save_every) * c.epochs
    with progress.bar("fit networks", epochs) as advance:
      files = inrs.cached_inrs(
        Path(c.cache) if c.cache else download.user_cache() / "zoos",
        target,
        chosen,
        epochs=c.epochs,
        batch_size=c.batch_size,
        learning_rate=c.learning_rate,
        seed=config.seed,
        chunk=c.save_every,
        together=build.default_grad_chunk(c.vmap_size),
        on_epoch=advance,
      )
  train, val, test = (
    inrs.load(target, files, data, part) for part in pictures.PARTS
  )
  progress.console.print(
    f"zoo: {files.path}: {len(train.psnr)}, {len(val.psnr)} and "
    f"{len(test.psnr)} networks for training, validation and test, fitted to "
    f"{test.psnr.mean():.1f} dB"
  )
  grid = pictures.coordinates(height, width)
  return Renderings(target, train, val, test, grid, str(files.path))


def folded(target: TargetNetwork, zoo: Networks) -> Networks:
  """The same functions in canonical phases."""
  omega = target.description["omega"]

  def fold(weights):
    return phase.fold(target.spec, weights, omega)

  return zoo._replace(weights=jax.jit(jax.vmap(fold))(zoo.weights))


def shifted(target: TargetNetwork, zoo: Networks, key: jax.Array) -> Networks:
  """The same functions in random phases."""
  omega = target.description["omega"]

  def shift(weights, key):
    turns = phase.sample(key, target.spec)
    return phase.shift(target.spec, weights, turns, omega)

  keys = jax.random.split(key, zoo.activation.shape[0])
  return zoo._replace(weights=jax.jit(jax.vmap(shift))(zoo.weights, keys))


def rendered(given: Renderings, zoo: Networks) -> np.ndarray:
  """What networks show: [B, H, W, C]."""
  grid = jnp.asarray(given.grid)

  def render(grid, network):
    return given.target.apply(network.weights, grid, network.activation)

  shape = given.test.pictures.pixels.shape[1:]
  rendering = batched.apply_batched(render, batch_size=1)
  return np.asarray(rendering(grid, zoo)).reshape(-1, *shape)


def counts(given: Renderings) -> dict[str, int]:
  """{part: networks}."""
  return {part: len(getattr(given, part).psnr) for part in pictures.PARTS}


def one_of_each(given: Renderings) -> np.ndarray:
  """The first test network of each class."""
  label = given.test.pictures.label
  return np.array([np.flatnonzero(label == k)[0] for k in np.unique(label)])


def gallery(rows: dict[str, np.ndarray], columns: int = 10) -> Figure:
  """Pictures under each other that belong together: {name: [B, H, W, C]}."""
  columns = min(columns, len(next(iter(rows.values()))))
  figure = Figure(figsize=(1.0 * columns + 1.2, 1.05 * len(rows)))
  axes = figure.subplots(len(rows), columns, squeeze=False)
  for line, (name, pixels) in zip(axes, rows.items(), strict=True):
    for axis, picture in zip(line, pixels, strict=False):
      shown = np.clip(picture, 0, 1)
      axis.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown,
                  cmap="gray", vmin=0, vmax=1)  # fmt: skip
      axis.set_xticks([])
      axis.set_yticks([])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
  return figure
