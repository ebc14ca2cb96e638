"""Null spaces of the Jacobian J of networks, by cause."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.gauge.data import GaugeSubject
from experiments.runner import progress
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import nullspace


class NullSpaceResult(NamedTuple):
  """The null space of one network on one set of inputs.

  Attributes:
    keys: the keys of its row: "network", "form" and "data".
    images: numbers of inputs, ascending.
    dimensions: dimension of the null space on each number of inputs.
    final: the null space on all inputs.
    outputs: number of outputs on all inputs.
  """

  keys: dict[str, str]
  images: Sequence[int]
  dimensions: Sequence[int]
  final: nullspace.NullSpace
  outputs: int

  @property
  def row(self) -> dict[str, Any]:
    """Row of the table."""
    space = self.final
    values = space.singular_values
    kept = len(values) - space.dimension
    counts = {
      name: value for name, value in space._asdict().items()
      if isinstance(value, int)
    }  # fmt: skip
    return {
      **self.keys,
      "outputs": self.outputs,
      "weights": len(values),
      "least": float(values[kept - 1] / values[0]),
      "zero": float(values[kept] / values[0]) if space.dimension else None,
      **counts,
    }

  @property
  def curve(self) -> dict[str, Any]:
    """Dimension against the number of inputs, for `results.json`."""
    return {
      **self.keys,
      "images": list(self.images),
      "dimensions": list(self.dimensions),
    }


def null_spaces(
  config: ConfigDict, subjects: Sequence[GaugeSubject], data: Images
) -> list[NullSpaceResult]:
  """Null spaces of the networks that are not too large.

  The inputs are images, and Gaussian noise with the shape of images.
  """
  subjects = [s for s in subjects if s.size <= config.gauge.largest]
  ends = config.gauge.images
  images = data.train_x[: ends[-1]]
  noise = np.random.RandomState(config.seed).normal(size=images.shape)
  results = []
  with progress.bar("null spaces", 2 * len(subjects)) as advance:
    for subject in subjects:
      for name, x, numbers in (
        (config.data.name, images, ends),
        ("noise", noise, ends[-1:]),
      ):
        results.append(_null_space(subject, name, x, numbers))
        advance()
  return results


def _null_space(
  subject: GaugeSubject, data: str, x: np.ndarray, numbers: Sequence[int]
) -> NullSpaceResult:
  target, weights = subject.target, subject.weights
  spaces = [
    nullspace.null_space(target.spec, weights, triangle)
    for triangle in nullspace.triangles(target, weights, x, numbers)
  ]
  outputs = jax.eval_shape(target.apply, weights, jnp.asarray(x))
  return NullSpaceResult(
    {**subject.keys, "data": data},
    numbers,
    [space.dimension for space in spaces],
    spaces[-1],
    outputs.size,
  )
