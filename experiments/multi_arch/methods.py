"""Methods that predict the accuracy of networks of several architectures."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.multi_arch.data import MultiArchData
from experiments.predict_accuracy.methods import (
  count_parameters,
  predict_seeds,
)
from experiments.readers import PROBING
from scalegmn_jax.base import BatchFunctional, Params
from scalegmn_jax.baselines import standardized, statistics
from scalegmn_jax.data.images import Images
from scalegmn_jax.gmn import batches, probes
from scalegmn_jax.graph.batch.pack import GraphBatch

METANETWORKS = ("scalegmn", "probes", "both", "permutation")
"""Methods that are metanetworks."""

EVALUATED = ("test", "unseen")
"""Parts of the data that methods are compared on."""

ReadPart = Callable[[Params, str], np.ndarray]
"""(φ, name of a part of the data) -> logits of its networks."""


class MultiArchPredictions(NamedTuple):
  """Predicted accuracies by one method.

  Attributes:
    values: {"test", "unseen": [S, n], for each seed}.
    num_parameters: of the metanetwork.
    steps: of its training.
  """

  values: Mapping[str, np.ndarray]
  num_parameters: int | None = None
  steps: int | None = None


def build_functional(
  config: ConfigDict, method: str, data: MultiArchData, images: Images | None
) -> BatchFunctional:
  """The functional of a method, one of `METANETWORKS`.

  Args:
    config: of the run.
    method: the method.
    data: the networks.
    images: their images, for methods with probes, which begin as training
      images.
  """
  schema = data.dataset.schema
  model = config.model.to_dict()
  if method == "probes":
    model["depth"] = 0
  if method in PROBING:
    assert images is not None
    targets = [a.target for a in data.dataset.architectures]
    functional = batches.functional(
      schema, probes=config.probes.count, targets=targets, **model
    )
    return probes.init_from_inputs(
      functional, images.train_x, config.seed, probes=config.probes.count
    )
  if method == "scalegmn":
    return batches.functional(schema, **model)
  model.pop("backward", None)  # has no effect without multipliers
  baseline = batches.functional(
    schema, symmetry="permutation", outputs=len(schema.activations), **model
  )
  return standardized.standardized_batch_functional(
    baseline, data.dataset, data.parts["train"]
  )


def read_parts(
  functional: BatchFunctional,
  batches_of: Mapping[str, Sequence[tuple[np.ndarray, GraphBatch]]],
  data: MultiArchData,
) -> ReadPart:
  """A functional applied to all networks of a part of the data.

  Args:
    functional: of batches.
    batches_of: see `dataset.fixed_batches`.
    data: the networks.
  """
  apply = jax.jit(functional.apply)

  def read(params: Params, part: str) -> np.ndarray:
    logit_of = {}
    for numbers, batch in batches_of[part]:
      logits = np.asarray(apply(params, batch))[:, 0]
      # Rows of padding are at the end.
      logit_of |= dict(zip(numbers.tolist(), logits, strict=False))
    return np.array([logit_of[n] for n in data.parts[part].tolist()])

  return read


def predict_with_functional(
  read: ReadPart, params: Sequence[Params], steps: int
) -> MultiArchPredictions:
  """Predictions of a trained functional.

  Args:
    read: see `read_parts`.
    params: φ of each seed.
    steps: of training.
  """
  return MultiArchPredictions(
    {
      part: predict_seeds(lambda p, part=part: read(p, part), params)
      for part in EVALUATED
    },
    count_parameters(params[0]),
    steps,
  )


def _statistics(data: MultiArchData) -> MultiArchPredictions:
  """A regressor on layer statistics, pooled over layers."""
  names = data.dataset.schema.activations
  blocks = []
  for graph, networks in zip(
    data.dataset.architectures, data.networks, strict=True
  ):
    index = np.array([names.index(n) for n in graph.target.activations])
    activation = index[np.asarray(networks.activation)]
    blocks.append(
      statistics.pooled_layer_statistics(
        networks._replace(activation=activation), len(names)
      )
    )
  features = {
    part: np.concatenate(blocks)[numbers]
    for part, numbers in data.parts.items()
  }
  train, val = ((features[p], data.true(p)) for p in ("train", "val"))
  predict = statistics.fit_regressor(train, val).predict
  return MultiArchPredictions(
    {part: predict(features[part])[None] for part in EVALUATED}
  )


def _architecture_mean(data: MultiArchData) -> MultiArchPredictions:
  """The mean accuracy of the training networks of each architecture.

  An architecture without training networks has the mean of all of them.
  """
  means = np.full(len(data.names), data.accuracies[data.last_train].mean())
  for number in np.unique(data.dataset.architecture_index[data.last_train]):
    members = data.last_train & (data.dataset.architecture_index == number)
    means[number] = data.accuracies[members].mean()
  return MultiArchPredictions(
    {part: means[data.architecture_index(part)][None] for part in EVALUATED}
  )


def _constant(data: MultiArchData) -> MultiArchPredictions:
  """The mean accuracy of all training networks."""
  mean = data.accuracies[data.last_train].mean()
  return MultiArchPredictions(
    {part: np.full((1, len(data.parts[part])), mean) for part in EVALUATED}
  )


BASELINES: dict[str, Callable[[MultiArchData], MultiArchPredictions]] = {
  "statistics": _statistics,
  "architecture": _architecture_mean,
  "constant": _constant,
}
"""Methods that are not metanetworks."""
