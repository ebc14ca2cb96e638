"""Gauge directions of networks, counted and confirmed by the Jacobian J."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.gauge.data import GaugeSubject
from experiments.runner import progress
from scalegmn_jax.base import SymmetrySpec, random_array
from scalegmn_jax.data.images import Images
from scalegmn_jax.eval import nullspace
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll

CONTROLS = 16
"""Number of random directions that tangents are compared with."""

IMAGES = 20
"""Number of images on which outputs are followed along a tangent."""

LISTED = 6
"""The most spaces whose directions are listed one by one."""

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
  by_space = tangents.directions(spec)
  total = sum(by_space.values())
  svd_rank = tied = None
  if total * subject.size <= MAX_ENTRIES:
    svd_rank = nullspace.rank(nullspace.tangent_rows(spec, weights))
    if subject.cnn is not None:
      tied = nullspace.tied_directions(subject.cnn.target, subject.cnn.weights)
  tested, sensitivity = _sensitivity(config, subject, images)
  return {
    **subject.keys,
    "layers": _listed(by_space),
    "directions": total,
    **tangents.accounts(spec)._asdict(),
    "weights": subject.size,
    "share": total / subject.size,
    "rank": tangents.rank(spec, weights),
    "svd_rank": svd_rank,
    "tied": tied,
    "tested": tested,
    "sensitivity": sensitivity,
  }


def _listed(by_space: Mapping[str, int]) -> str:
  """Directions per space: 16+8, and 3x16+8 for many spaces."""
  counts = list(by_space.values())
  if len(counts) <= LISTED:
    return "+".join(map(str, counts))
  runs = [(n, len(list(run))) for n, run in itertools.groupby(counts)]
  return "+".join(f"{times}x{n}" if times > 1 else f"{n}" for n, times in runs)


def _with_scalings(spec: SymmetrySpec) -> SymmetrySpec:
  """The same axes, with the scale group on all hidden neurons."""
  spaces = {
    name: dataclasses.replace(
      space,
      groups=("scale",) * len(space.groups),
      multipliers=("scale",) * len(space.multipliers),
    )
    for name, space in spec.spaces.items()
  }
  return dataclasses.replace(spec, spaces=spaces)


def _sensitivity(
  config: ConfigDict, subject: GaugeSubject, images: np.ndarray
) -> tuple[int, float | None]:
  """(number of tangents t tested, the greatest ‖J t‖/‖t‖).

  The unit is the median of ‖J t‖/‖t‖ over random directions. If a network has
  no gauge directions, scalings of its neurons are tested: its outputs change.
  None where its weights have no exponents of such scalings.
  """
  target = subject.target
  scaled = target.spec
  if not sum(tangents.directions(scaled).values()):
    scaled = _with_scalings(scaled)
  total = sum(tangents.directions(scaled).values())
  if not total:
    return 0, None
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
  along = along[~np.isnan(along)]
  if not len(along):
    return 0, None
  return len(numbers), float(along.max() / np.median(controls))
