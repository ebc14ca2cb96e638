"""Growth of time and memory of an operator's training step."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import build
from experiments.bench import machine, measure
from experiments.bench.training import operator_program
from scalegmn_jax.base import TargetNetwork
from scalegmn_jax.targets.cnn import cnn

AXES = ("networks", "width", "weights")

FITTED = 16
"""Exponents are fitted on sizes within this factor of the largest one."""


def curve(config: ConfigDict, axis: str) -> dict[str, Any]:
  """The points of one curve and its exponents at the largest sizes.

  A point above `config.growth.timed` is compiled and not run; its memory is
  XLA's estimate.
  """
  c = config.growth
  points = []
  for size in c[axis]:
    arguments = {"width": c.at_width, "networks": c.at_networks}
    if axis == "weights":
      # The weights of a kernel are n_in n_out: quadratic in the channels.
      target = cnn(
        c.input_shape,
        [max(1, round(size * n)) for n in c.channels],
        stride=c.strides,
        padding="SAME",
      )
      arguments["networks"] = 1
      arguments["edge_block"] = c.edge_block or None
    else:
      target = cnn(**config.target)
      arguments[axis] = size
    x = _weights(target) if axis == "weights" else size
    timed = x <= c.timed[axis]
    program = operator_program(
      target,
      depth=c.depth,
      images=c.images,
      grad_chunk=build.default_grad_chunk(config.grad_chunk),
      abstract=not timed,
      **arguments,
    )
    executable, point = measure.compile_part(program.step)
    seconds = None
    if timed:
      seconds = measure.seconds_per_call(program.step, executable, c.runs)
    points.append({"x": x, "seconds": seconds, **point})
  return {
    "grows": axis,
    "points": points,
    "peak_bytes": machine.peak_bytes(),
    "exponents": {
      key: exponent(
        [p["x"] for p in points if p[key] is not None],
        [p[key] for p in points if p[key] is not None],
      )
      for key in ("seconds", "memory_bytes")
    },
  }


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float | None:
  """The least-squares slope of log y against log x at the largest x.

  None if fewer than two points are within a factor of `FITTED` of the largest.
  """
  if not xs:
    return None
  pairs = [
    (math.log(x), math.log(y))
    for x, y in zip(xs, ys, strict=True)
    if x * FITTED >= max(xs) and y > 0
  ]
  if len(pairs) < 2:
    return None
  mean_x = sum(x for x, _ in pairs) / len(pairs)
  mean_y = sum(y for _, y in pairs) / len(pairs)
  covariance = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
  return covariance / sum((x - mean_x) ** 2 for x, _ in pairs)


def _weights(target: TargetNetwork) -> int:
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return sum(s.size for s in jax.tree.leaves(shapes))
