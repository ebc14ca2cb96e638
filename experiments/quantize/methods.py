"""What quantizes: operators, rounding, and training with data."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.compression import measure
from experiments.compression.measure import CompressionData, Divergences
from experiments.runner import progress
from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import (
  Network,
  Networks,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.baselines import distillation
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.options import Options
from scalegmn_jax.partial import Partial
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import gauge, rounding

GAUGES: dict[str, Callable[..., Weights]] = {
  "nearest": gauge.equalize,
  "nearest_balanced": gauge.balance,
  "nearest_as_stored": lambda spec, weights, activation: weights,
}
"""{method that only rounds: (spec, weights, activation) -> weights}."""

STEPS_PER = ("kernel", "channel")
"""What can have a step of its own."""


class Grid(NamedTuple):
  """How kernels are rounded.

  Attributes:
    bits: of a kernel entry.
    per_channel: a step for each neuron that receives.
  """

  bits: int
  per_channel: bool

  @property
  def name(self) -> str:
    """A name for columns and folders."""
    return f"bits_{self.bits}" + "_per_channel" * self.per_channel

  def round(self, target: TargetNetwork, weights: Weights) -> Weights:
    """Rounds one network, see `rounding.round_kernels`."""
    return rounding.round_kernels(
      target.spec, weights, self.bits, per_channel=self.per_channel
    )


def grids(config: ConfigDict) -> list[Grid]:
  """All grids of a run."""
  c = config.quantize
  return [Grid(b, per == "channel") for per in c.steps_per for b in c.bits]


def round_to(
  target: TargetNetwork, choices: Sequence[Grid], number: Any, weights: Weights
) -> Weights:
  """Rounds one network to the grid of this number, which can be traced: one
  program serves all grids."""
  branches = [functools.partial(grid.round, target) for grid in choices]
  return jax.lax.switch(number, branches, weights)


def arguments(config: ConfigDict, grid: Grid) -> dict[str, Any]:
  """The arguments of the operator of a grid."""
  return config.model.to_dict() | {"writes": "quantized"} | grid._asdict()


def make_operator(
  config: ConfigDict, target: TargetNetwork, grid: Grid
) -> Operator:
  """The operator of a grid; φ fits that of any other."""
  return metanetworks.operator(target, **arguments(config, grid))


def in_gauge(
  target: TargetNetwork, network: Network, name: str = "nearest"
) -> Network:
  """The same function in a gauge, a key of `GAUGES`; by default in the one in
  which operators round."""
  weights = GAUGES[name](target.spec, network.weights, network.activation)
  return network._replace(weights=weights)


def make_divergences(config: ConfigDict, target: TargetNetwork) -> Divergences:
  """Corrected biases beside plain rounding; the level is the position of the
  grid."""
  corrector = metanetworks.corrector(target, Options(**config.model))
  choices = grids(config)

  def divergences(params, network: Network, level, x):
    network = in_gauge(target, network)
    weights, activation = network.weights, network.activation
    rounded = round_to(target, choices, level, weights)
    corrected = corrector.apply(params, weights, rounded, activation)
    divergence = functools.partial(measure.divergence_of, target, network, x=x)
    return divergence(corrected), divergence(rounded)

  return divergences


def make_jobs(
  config: ConfigDict, data: CompressionData
) -> dict[str, TrainingJob]:
  """A training per seed, for all grids."""
  target, choices = data.target, grids(config)

  def save(folder, params, about):
    for grid in choices:
      place = folder / grid.name
      place.mkdir(exist_ok=True)
      save_operator(place, target, arguments(config, grid), params, about=about)

  return measure.make_jobs(
    config, data, make_divergences(config, target), range(len(choices)),
    make_operator(config, target, choices[0]), save,
  )  # fmt: skip


class Distillation(NamedTuple):
  """A way of training with unlabelled images.

  Attributes:
    steps: of Adam.
    biases_only: kernels are rounded and stay.
  """

  steps: int
  biases_only: bool

  @property
  def name(self) -> str:
    """The name of the method."""
    return ("biases_" if self.biases_only else "distillation_") + str(
      self.steps
    )


def distillations(config: ConfigDict) -> list[Distillation]:
  """The rivals that read images."""
  return [
    Distillation(steps, biases)
    for biases in (True, False)
    for steps in config.quantize.distillation_steps
  ]


def measure_methods(
  config: ConfigDict,
  data: CompressionData,
  params: Mapping[str, Params],
  partial: Partial,
) -> dict[str, measure.Measured]:
  """{method: what is left of the test networks}, the operator first."""
  target, networks = data.target, data.zoo.test
  train, val, _ = data.images.device_splits()
  measured, choices = measure.make_measure(data, partial), grids(config)
  key = jax.random.key(config.seed)

  def edited(grid: Grid) -> list[measure.Compress]:
    operator = make_operator(config, target, grid)
    return measure.compress_by(config, data, params, operator)

  def rounded(name: str) -> list[list[measure.Compress]]:
    def one(network, number):
      network = in_gauge(target, network, name)
      return round_to(target, choices, number, network.weights)

    @jax.jit
    def compress(networks: Networks, number):
      return jax.lax.map(lambda network: one(network, number), networks)

    return [[lambda n=n: compress(networks, n)] for n in range(len(choices))]

  def distilled(method: Distillation) -> list[list[measure.Compress]]:
    """At the learning rates that are best on the validation networks."""
    run = distillation.distill(
      target,
      steps=method.steps,
      batch_size=config.train.batch_images,
      biases_only=method.biases_only,
    )

    def one(network, number, rate):
      network = in_gauge(target, network)
      compress = functools.partial(round_to, target, choices, number)
      return run(network, compress, rate, key, train[0])

    @jax.jit
    def compress(networks: Networks, number, rate):
      return jax.lax.map(lambda network: one(network, number, rate), networks)

    @jax.jit
    def validate(number, rate):
      def divergence(network):
        weights = one(network, number, rate)
        return measure.divergence_of(target, network, weights, val[0])

      return jax.lax.map(divergence, data.zoo.val).mean()

    def best(number):
      rates = config.quantize.learning_rates
      found = [float(validate(number, jnp.float32(rate))) for rate in rates]
      rate = rates[int(np.nanargmin(found))]
      progress.console.print(
        f"{method.name}, {choices[number].name}: learning rate {rate:g} of "
        f"{', '.join(f'{rate:g}' for rate in rates)}"
      )
      return compress(networks, number, jnp.float32(rate))

    return [[lambda n=n: best(n)] for n in range(len(choices))]

  results = {
    measure.OPERATOR: measured(
      measure.OPERATOR, 0, [edited(g) for g in choices]
    )
  }
  for name in GAUGES:
    results[name] = measured(name, 0, rounded(name))
  for method in distillations(config):
    read = min(method.steps * config.train.batch_images, len(train[0]))
    results[method.name] = measured(method.name, read, distilled(method))
  return results
