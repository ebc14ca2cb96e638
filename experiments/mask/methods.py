"""What removes weights: operators, and scores without and with data."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.compression import measure
from experiments.compression.measure import CompressionData, Divergences
from experiments.runner.experiment import TrainingJob
from scalegmn_jax.base import Network, Operator, Params, TargetNetwork
from scalegmn_jax.baselines import importance, pruning
from scalegmn_jax.gmn import masks, metanetworks
from scalegmn_jax.gmn.options import Options
from scalegmn_jax.partial import Partial
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import kernels


def arguments(config: ConfigDict, sparsity: float) -> dict[str, Any]:
  """The arguments of the operator of a sparsity."""
  mask = {"writes": "mask", "sparsity": sparsity}
  return config.model.to_dict() | mask


def make_operator(
  config: ConfigDict, target: TargetNetwork, sparsity: float
) -> Operator:
  """The operator of a sparsity; φ fits that of any other."""
  return metanetworks.operator(target, **arguments(config, sparsity))


def make_divergences(config: ConfigDict, target: TargetNetwork) -> Divergences:
  """The learned mask beside the mask of balanced magnitude; the level is the
  sparsity."""
  scorer = metanetworks.scorer(target, Options(**config.model))
  spec = target.spec

  def divergences(params, network: Network, sparsity, x):
    weights, activation = network.weights, network.activation
    count = jnp.round(sparsity * kernels.count(spec, weights)).astype(int)

    def after(scores):
      mask = masks.mask_highest(spec, scores, count)
      left = jax.tree.map(jnp.multiply, weights, mask)
      return measure.divergence_of(target, network, left, x)

    magnitudes = masks.log_magnitudes(spec, weights, activation)
    return after(scorer.apply(params, weights, activation)), after(magnitudes)

  return divergences


def make_jobs(
  config: ConfigDict, data: CompressionData
) -> dict[str, TrainingJob]:
  """A training per seed, for all sparsities."""
  target, sparsities = data.target, config.mask.sparsities

  def save(folder, params, about):
    for sparsity in sparsities:
      place = folder / f"sparsity_{sparsity:g}"
      place.mkdir(exist_ok=True)
      save_operator(
        place, target, arguments(config, sparsity), params, about=about
      )

  return measure.make_jobs(
    config, data, make_divergences(config, target), sparsities,
    make_operator(config, target, sparsities[0]), save,
  )  # fmt: skip


def make_scores(
  config: ConfigDict, data: CompressionData
) -> dict[str, tuple[pruning.PruneMethod, int]]:
  """{method: (how it prunes, training images that it reads)}."""
  c, target = config.mask, data.target
  available = len(data.images.train_x)
  obd, snip = (min(n, available) for n in (c.obd_images, c.snip_images))
  once = pruning.once(0)

  def by(score, images=0, phases=once):
    return pruning.PruneMethod(phases, score), images

  return {
    "magnitude": by(importance.magnitude(target)),
    "magnitude_l1_gauge": by(importance.magnitude(target, power=1)),
    "magnitude_of_unit_norm": by(importance.magnitude_of_unit_norm(target)),
    "magnitude_as_stored": by(importance.magnitude_as_stored),
    "synflow": by(
      importance.synflow(target), phases=pruning.in_rounds(c.synflow_rounds)
    ),
    "obd": by(importance.obd(target, images=obd), obd),
    "snip": by(importance.snip(target, images=snip), snip),
  }


def measure_methods(
  config: ConfigDict,
  data: CompressionData,
  params: Mapping[str, Params],
  partial: Partial,
) -> dict[str, measure.Measured]:
  """{method: what is left of the test networks}, the operator first."""
  target, networks = data.target, data.zoo.test
  train, *_ = data.images.device_splits()
  # No method has epochs of fine-tuning.
  run = pruning.pruner(target, batch_size=1)
  key = jax.random.key(config.seed)
  measured = measure.make_measure(data, partial)
  sparsities = config.mask.sparsities

  def pruned(method: pruning.PruneMethod, sparsity: float) -> measure.Compress:
    return lambda: run(method, networks, sparsity, {}, key, train)

  def edited(sparsity: float) -> list[measure.Compress]:
    operator = make_operator(config, target, sparsity)
    return measure.compress_by(config, data, params, operator)

  results = {
    measure.OPERATOR: measured(
      measure.OPERATOR, 0, [edited(s) for s in sparsities]
    )
  }
  for name, (method, images) in make_scores(config, data).items():
    levels = [[pruned(method, s)] for s in sparsities]
    results[name] = measured(name, images, levels)
  return results
