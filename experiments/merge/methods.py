"""How two networks are brought together before they are averaged."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.merge.data import Group, Subject, recomputed, stacked
from scalegmn_jax import merging
from scalegmn_jax.base import Networks, SymmetrySpec, Weights
from scalegmn_jax.partial import Partial
from scalegmn_jax.symmetry import actions

METHODS = ("plain", "permutation", "regauged", "aligned", "images")
"""As they are; by permutations alone; the same with the second network in
another gauge; by permutations and multipliers; with images too."""

RECOMPUTED = "recomputed"
"""Aligned by weights, and running statistics recomputed after averaging."""

Aligner = Callable[[Weights], Callable[[Weights], Weights]]
"""a -> (b -> b, brought to a)."""


def permutations_alone(spec: SymmetrySpec) -> SymmetrySpec:
  """The same axes without multipliers."""
  spaces = {
    name: dataclasses.replace(
      space,
      groups=("permutation",) * len(space.groups),
      multipliers=("permutation",) * len(space.multipliers),
    )
    for name, space in spec.spaces.items()
  }
  return dataclasses.replace(spec, spaces=spaces)


def make_aligner(config: ConfigDict, subject: Subject, method: str) -> Aligner:
  """How a method brings networks together."""
  target, spec = subject.target, subject.target.spec
  if method == "plain":
    return lambda a: lambda b: b
  if method in ("permutation", "regauged"):
    few = target._replace(spec=permutations_alone(spec))
    align = merging.aligner(few)
  else:
    images = subject.groups[0].inputs if method == "images" else None
    align = merging.aligner(target, images)

  def regauge(b):
    rng = np.random.default_rng(config.seed)
    g = actions.sample_on_host(rng, spec, decades=config.merge.decades)
    return actions.act(g, spec, b)

  def to(a):
    bring = align(a)
    if method == "regauged":
      return lambda b: bring(regauge(b)).weights
    return lambda b: bring(b).weights

  return to


def rows_of(
  config: ConfigDict, subject: Subject, partial: Partial
) -> list[dict[str, Any]]:
  """A row of the barrier and of the average of all networks, per method."""
  methods: list[str] = [*METHODS]
  if subject.groups[0].batches is not None:
    methods.append(RECOMPUTED)
  rows = []
  for method in methods:
    partial.check()
    keys = {**subject.keys, "method": method}
    name = " ".join(map(str, keys.values()))
    rows.append(
      partial.remember_row(
        name, lambda m=method, k=keys: k | _row(config, subject, m)
      )
    )
  return rows


def _row(config: ConfigDict, subject: Subject, method: str) -> dict[str, Any]:
  align = make_aligner(config, subject, method)
  again = None
  if method == RECOMPUTED:
    batches = subject.groups[0].batches
    assert batches is not None
    again = recomputed(subject.target, batches)
  found = [
    _of_group(group, align, again, config.merge.points)
    for group in subject.groups
  ]
  pairs = [pair for of_pairs, _ in found for pair in of_pairs]
  barriers = [pair["barrier"] for pair in pairs]
  return {
    "networks": sum(group.networks.size for group in subject.groups),
    "pairs": len(pairs),
    "barrier": float(np.mean(barriers)),
    "barrier_std": float(np.std(barriers, ddof=1)) if len(pairs) > 1 else None,
    **{
      key: float(np.mean([pair[key] for pair in pairs]))
      for key in ("loss", "middle", "score")
    },
    "seconds": float(np.median([pair["seconds"] for pair in pairs])),
    **{
      key: float(np.mean([soup[key] for _, soup in found]))
      for key in ("soup", "best")
    },
  }


def _of_group(
  group: Group,
  align: Aligner,
  again: Callable[[Networks], Networks] | None,
  points: int,
) -> tuple[list[dict[str, float]], dict[str, float]]:
  """(values of each pair, values of the average of all networks).

  Args:
    group: the networks.
    align: brings one to another.
    again: recomputes the statistics of averages.
    points: networks on a line.
  """
  host = jax.tree.map(np.asarray, group.networks.weights)
  networks = [
    jax.tree.map(lambda w, i=i: w[i], host) for i in range(group.networks.size)
  ]

  def measure(several):
    averages = stacked(several)
    return group.measure(averages if again is None else again(averages))

  shares, pairs = np.linspace(0, 1, points), []
  for a, b in zip(networks[::2], networks[1::2], strict=False):
    start = time.perf_counter()
    brought = align(a)(b)
    seconds = time.perf_counter() - start
    losses, scores = measure(
      [merging.merge([a, brought], (1 - share, share)) for share in shares]
    )
    chord = (1 - shares) * losses[0] + shares * losses[-1]
    pairs.append(
      {
        "barrier": float((losses - chord).max()),
        "loss": float(chord[points // 2]),
        "middle": float(scores[points // 2]),
        "score": float(scores[[0, -1]].mean()),
        "seconds": seconds,
      }
    )
  bring = align(networks[0])
  soup = merging.merge([networks[0], *map(bring, networks[1:])])
  _, (score,) = measure([soup])
  losses, scores = group.measure(group.networks)
  return pairs, {"soup": float(score), "best": float(scores[losses.argmin()])}
