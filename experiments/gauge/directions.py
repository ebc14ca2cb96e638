"""Gauge directions of networks, counted and confirmed by the Jacobian J."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.gauge.data import GaugeSubject
from experiments.runner import progress
from scalegmn_jax.base import random_array
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import nullspace
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.registry import make_target

CONTROLS = 16
"""Number of random directions that tangents are compared with."""

IMAGES = 20
"""Number of images on which outputs are followed along a tangent."""

MAX_ENTRIES = 50_000_000
"""The most entries of all tangents of a network for an SVD."""


def direction_rows(
  config: ConfigDict, subjects: Sequence[GaugeSubject], data: Images
) -> list[dict[str, Any]]:
  """Rows of a table: the gauge directions of each network.

  An unrolled MLP has a second row, in which its structural zeros are not
  counted as weights.
  """
  rows = []
  images = data.train_x[:IMAGES]
  with progress.bar("gauge directions", len(subjects)) as advance:
    for subject in subjects:
      row = _row(config, subject, images)
      rows.append(row)
      if subject.cnn is not None:
        untied = unroll.unrolled(subject.cnn.target).untied
        # Structural zeros have no part in any tangent: they stay the same.
        rows.append(
          row
          | {
            "form": "untied",
            "weights": untied,
            "share": row["directions"] / untied,
            "tied": None,
          }
        )
      advance()
  return rows


def _row(
  config: ConfigDict, subject: GaugeSubject, images: np.ndarray
) -> dict[str, Any]:
  spec, weights = subject.target.spec, subject.weights
  by_layer = list(tangents.directions(spec).values())
  total = sum(by_layer)
  svd_rank = tied = None
  if total * subject.size <= MAX_ENTRIES:
    svd_rank = nullspace.rank(nullspace.tangent_rows(spec, weights))
    if subject.cnn is not None:
      tied = nullspace.tied_directions(subject.cnn.target, subject.cnn.weights)
  tested, sensitivity = _sensitivity(config, subject, images)
  return {
    **subject.keys,
    "layers": "+".join(map(str, by_layer)),
    "directions": total,
    "weights": subject.size,
    "share": total / subject.size,
    "rank": tangents.rank(spec, weights),
    "svd_rank": svd_rank,
    "tied": tied,
    "tested": tested,
    "sensitivity": sensitivity,
  }


def _sensitivity(
  config: ConfigDict, subject: GaugeSubject, images: np.ndarray
) -> tuple[int, float]:
  """(number of tangents t tested, the greatest ‖J t‖/‖t‖).

  The unit is the median of ‖J t‖/‖t‖ over random directions. The same scalings
  are tested if a network does not have the scale symmetry; its outputs change.
  """
  target = subject.target
  # The same layers with the scale group.
  scaled = make_target({**target.description, "activation": "relu"}).spec
  total = sum(tangents.directions(scaled).values())
  random = np.random.RandomState(config.seed)
  numbers = np.sort(random.permutation(total)[: config.gauge.tested])

  def random_direction(weights, key):
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(key, len(leaves))
    normal = [
      random_array(jax.random.normal, k, w.shape, dtype=w.dtype)
      for k, w in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, normal)

  along = nullspace.sensitivity(
    target,
    subject.weights,
    images,
    lambda weights, rates: tangents.tangent(scaled, weights, rates),
    tangents.generators(scaled, numbers=numbers),
  )
  keys = jax.random.split(jax.random.key(config.seed), CONTROLS)
  controls = nullspace.sensitivity(
    target, subject.weights, images, random_direction, keys
  )
  # The tangent of a neuron without weights is zero: its ratio is NaN.
  return len(numbers), float(np.nanmax(along) / np.median(controls))
