"""The iterative rival of operators: render, edit, refit by Adam.

Each network is trained on the edit of the image that it renders, from its own
weights and with all pixels in every step. Learning rates are tuned on
validation networks, one for each number of steps.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.build import work
from experiments.edit_inr.data import EditData, Edited, edits_of
from experiments.inr.data import RenderFn, make_target
from experiments.runner import progress
from scalegmn_jax.base import Networks
from scalegmn_jax.data import pictures
from scalegmn_jax.inner import fit as fits
from scalegmn_jax.inner import tune_grid
from scalegmn_jax.partial import NOTHING, Partial, Result
from scalegmn_jax.zoo import inrs

METHOD = "adam"

VAL_NETWORKS = 64
"""Validation networks on which learning rates are tuned, the first ones."""


class _Settings(NamedTuple):
  """The edited image [P, C] and the learning rate of a network."""

  pixels: jax.Array
  rate: jax.Array


class RefitRow(NamedTuple):
  """All networks after some steps.

  Attributes:
    keys: "steps", "learning_rate" and "seconds" of the row.
    images: {population: {edit: the images that its networks render}}.
  """

  keys: Mapping[str, Any]
  images: Mapping[str, Edited]


class Refit(NamedTuple):
  """Adam at tuned learning rates.

  Attributes:
    rows: in ascending order of steps.
    step_seconds: seconds per step of one network that is refitted alone.
  """

  rows: Sequence[RefitRow]
  step_seconds: float


def refit(
  config: ConfigDict,
  data: EditData,
  render: RenderFn,
  partial: Partial = NOTHING,
) -> Refit:
  """Refits the networks of all populations for `config.refit.steps`.

  Args:
    config: of the run.
    data: networks and the images that they are edited to render.
    render: networks -> the images that they render.
    partial: keeps what has been measured.
  """
  steps = sorted(set(config.refit.steps))
  together = math.gcd(*steps)
  descend = _descent(data, build.default_grad_chunk(0), together)

  def run(
    edit: str,
    networks: Networks,
    rates: jax.Array,
    ends: Sequence[int],
    part: Partial,
  ) -> dict[int, np.ndarray]:
    """{steps: the images that networks render after as many}."""
    pixels = pictures.EDITS[edit](render(networks))
    calls = {end // together: end for end in ends}
    with progress.bar("Adam", max(calls)) as advance:
      found = descend(networks, pixels, rates, list(calls), part, advance)
    return {
      calls[call]: render(networks._replace(weights=weights))
      for call, weights in found.items()
    }

  def tune(part: Partial) -> Result:
    networks = data.networks["val"].take(slice(VAL_NETWORKS))

    def values(points):
      # All new rates at once: more networks in one call.
      copies = len(points)
      many = jax.tree.map(lambda a: jnp.concatenate([a] * copies), networks)
      rates = jnp.repeat(jnp.array([r for (r,) in points]), networks.size)
      errors = {end: np.zeros(copies) for end in steps}
      for edit, pixels in data.edited["val"].items():
        edited = pixels[:VAL_NETWORKS]
        found = run(edit, many, rates, steps, part.of(f"{edit} {points}"))
        for end, images in found.items():
          squares = (images.reshape(copies, *edited.shape) - edited) ** 2
          errors[end] += squares.reshape(copies, -1).mean(1) / len(data.edits)
      return [
        {end: float(errors[end][i]) for end in steps} for i in range(copies)
      ]

    grid = tune_grid.tune_grid(values, [tuple(config.refit.learning_rates)])
    return Result({}, [grid.best[end][0] for end in steps])

  chosen = partial.remember("tuned", tune).values
  images: dict[int, dict[str, dict[str, np.ndarray]]] = {
    end: {name: {} for name in data.populations} for end in steps
  }
  for name, population in data.populations.items():
    for edit, rate in itertools.product(data.edits, sorted(set(chosen))):
      ends = [end for end, r in zip(steps, chosen, strict=True) if r == rate]
      rates = jnp.full(population.networks.size, rate)
      part = partial.of(f"{name} {edit} {rate}")
      found = run(edit, population.networks, rates, ends, part)
      for end, rendered in found.items():
        images[end][name][edit] = rendered
  seconds = partial.remember_row(
    "seconds", lambda: {"step": _step_seconds(data, steps[-1])}
  )["step"]
  return Refit(
    [
      RefitRow(
        {"steps": end, "learning_rate": rate, "seconds": end * seconds},
        images[end],
      )
      for end, rate in zip(steps, chosen, strict=True)
    ],
    seconds,
  )


def preview(config: ConfigDict) -> build.Work:
  """The work of `refit`, if the grid of learning rates does not grow."""
  c, images = config.refit, build.build_images(config)
  target = make_target(config, images)
  height, width, _ = images.train_x.shape[1:]
  unseen = config.ood.test_images if config.ood.name else 0
  networks = len(c.learning_rates) * VAL_NETWORKS + config.zoo.test_images
  steps = max(c.steps) * (networks + unseen) * len(edits_of(config))
  return build.Work(
    "Adam",
    f"{steps:,} steps of one network",
    lambda: 3 * steps * height * width * work.image_flops(target),
  )


def _step_seconds(data: EditData, steps: int) -> float:
  """Seconds per step of one network.

  One call makes all steps, so that nothing but steps counts.
  """
  descend = _descent(data, None, steps)
  population = data.populations["test"]
  network = population.networks.take(slice(1))
  pixels = population.edited[data.edits[0]][:1]
  rate = jnp.full(1, 1e-3)
  return median_seconds(lambda: descend(network, pixels, rate, [1])) / steps


def _descent(
  data: EditData, vmap_size: int | None, together: int
) -> Callable[..., dict[int, Any]]:
  """(networks, pixels [B, H, W, C], rates [B], calls, ...) -> {calls: weights}.

  Args:
    data: the architecture and the grid of pixels.
    vmap_size: networks side by side, see `fit.fit`.
    together: steps of a call.
  """
  grid = jnp.asarray(data.inrs.grid)
  count = len(grid)
  trainer = inrs.pixel_fit(
    data.inrs.target,
    lambda settings: optax.adam(settings.rate),
    batch_size=count,
    vmap_size=vmap_size,
    passes=together,
  )
  init = jax.jit(trainer.init)

  def descend(
    networks: Networks,
    pixels: np.ndarray,
    rates: jax.Array,
    calls: Sequence[int],
    partial: Partial = NOTHING,
    on_epoch: Callable[[], Any] = lambda: None,
  ) -> dict[int, Any]:
    size = networks.size
    settings = _Settings(jnp.asarray(pixels.reshape(size, count, -1)), rates)
    # With all pixels in a step there is nothing to draw.
    keys = jnp.broadcast_to(jax.random.key(0), (size,))
    return fits.run_epochs(
      trainer,
      init(networks.weights, settings),
      settings,
      networks,
      lambda call: keys,
      (grid, jnp.arange(count)),
      calls,
      partial=partial,
      on_epoch=on_epoch,
    )

  return descend
