"""Pictures of gauge freedom."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.gauge.l1 import ZooNorms
from experiments.gauge.null_spaces import NullSpaceResult
from experiments.gauge.report import label
from experiments.runner import pictures as look
from scalegmn_jax.base import TargetNetwork
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec

CHANNELS = (2, 4, 8, 16, 32, 64)

IMAGE_SCALES = (1, 1.5, 2, 3, 4)
"""Factors of the height and width of images."""

CAUSES = {
  "gauge": look.BLUE,
  "unread": look.ORANGE,
  "statistics": look.SKY,
  "inputs": look.GREEN,
  "seldom": look.VERMILION,
  "joint": look.PURPLE,
}
"""{cause of null space dimensions: color}."""


def directions(cnn: TargetNetwork) -> Figure:
  """Gauge directions of CNNs and their MLPs, by channels and image size."""
  description = cnn.description
  height, width, inputs = description["input_shape"]
  wider = {
    c: {**description, "channels": [c] * len(description["channels"])}
    for c in CHANNELS
  }
  larger = {
    int(height * f): {
      **description, "input_shape": [int(height * f), int(width * f), inputs]
    }
    for f in IMAGE_SCALES
  }  # fmt: skip
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle("gauge directions of a CNN and of the MLP with the same map")
  left, middle, right = figure.subplots(1, 3)
  left.set(xlabel="channels of every layer", ylabel="gauge directions")
  middle.set(xlabel="height of the images", ylabel="gauge directions")
  right.set(xlabel="height of the images", ylabel="directions per weight")
  _curves(left, wider, per_weight=False)
  _curves(middle, larger, per_weight=False)
  look.label_ends(right, _curves(right, larger, per_weight=True))
  return figure


def _curves(
  axis: Any, descriptions: Mapping[int, dict[str, Any]], *, per_weight: bool
) -> list[look.Label]:
  """Gauge directions against a size; returns the labels of the curves.

  Args:
    axis: of the picture.
    descriptions: {size: arguments of a CNN}.
    per_weight: divide by the number of weights.
  """
  curves: dict[str, list[float]] = {}
  for description in descriptions.values():
    cnn = make_target(description)
    unrolled = unroll.unrolled(cnn)
    of_cnn, of_mlp = (
      sum(tangents.directions(t.spec).values()) for t in (cnn, unrolled.target)
    )
    points = {"CNN": (of_cnn, codec.layout_of(cnn).size)}
    mlp_sizes = {
      "MLP with the same map": codec.layout_of(unrolled.target).size,
      "MLP without structural zeros": unrolled.untied,
    }
    points |= {name: (of_mlp, size) for name, size in mlp_sizes.items()}
    for name, (count, size) in points.items():
      curves.setdefault(name, []).append(count / size if per_weight else count)
  styles = ("o-", "s-", "^:")
  sizes, labels = list(descriptions), []
  for i, ((name, values), style) in enumerate(
    zip(curves.items(), styles, strict=True)
  ):
    axis.plot(sizes, values, style, color=look.PALETTE[i])
    labels.append(look.Label(sizes[-1], values[-1], name, look.PALETTE[i]))
  axis.set(xscale="log", yscale="log")
  axis.set_xticks(sizes, map(str, sizes))
  axis.minorticks_off()
  return labels


def _subject(result: NullSpaceResult) -> tuple[str, str]:
  return result.keys["network"], result.keys["form"]


def spectrum(results: Sequence[NullSpaceResult]) -> Figure:
  """Singular values of J in ascending order; the null space by cause.

  The panels show the first network, and the other network whose null space
  exceeds the gauge the most.
  """

  def excess(result):
    return result.final.dimension - result.final.gauge

  first = _subject(results[0])
  selected = {first}
  if others := [result for result in results if _subject(result) != first]:
    selected.add(_subject(max(others, key=excess)))
  results = [result for result in results if _subject(result) in selected]
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle("singular values of J; shaded: the null space by cause")
  axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
  for axis, result in zip(axes, results, strict=True):
    space = result.final
    values = space.singular_values[::-1] / space.singular_values[0]
    axis.plot(
      np.arange(1, len(values) + 1),
      np.maximum(values, 1e-20),
      ".",
      color="black",
      markersize=2,
    )
    start = 0.5
    for name, color in CAUSES.items():
      count = getattr(space, name)
      if count:
        axis.axvspan(
          max(start, 0.7), start + count, color=color, alpha=0.3, lw=0,
          label=f"{name}: {count}",
        )  # fmt: skip
      start += count
    axis.axhline(
      space.tolerance / space.singular_values[0], color="gray", linestyle=":"
    )
    axis.set(
      xscale="log",
      yscale="log",
      xlabel=f"singular value, from the least of {len(values):,}",
      title=label(result.keys),
    )
    # Below the axis, where it hides no value.
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3)
  axes[0].set_ylabel("σ / greatest σ")
  return figure


def images(results: Sequence[NullSpaceResult]) -> Figure:
  """The dimension of the null space against the number of images."""
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  figure.suptitle("dimension of the null space of J; dotted: gauge")
  axis = figure.subplots()
  curves = [result for result in results if len(result.images) > 1]
  labels = []
  for i, result in enumerate(curves):
    color = look.PALETTE[i % len(look.PALETTE)]
    axis.plot(result.images, result.dimensions, "o-", color=color)
    axis.axhline(result.final.gauge, color=color, linestyle=":")
    text = f"{label(result.keys)} ({result.final.gauge} gauge)"
    labels.append(
      look.Label(result.images[-1], result.dimensions[-1], text, color)
    )
  axis.set(
    xscale="log",
    yscale="symlog",
    xlabel="images",
    ylabel="dimension",
  )
  axis.set_ylim(bottom=-0.3)
  axis.set_xticks(results[0].images, map(str, results[0].images))
  axis.minorticks_off()
  look.label_ends(axis, labels)
  return figure


def norms(results: Sequence[ZooNorms], heading: str) -> Figure:
  """The gauge share of the L1 norm by network, and the norm by layer.

  Args:
    results: the first one is of a zoo.
    heading: number of networks and seed, see `pictures.heading`.
  """
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle(heading)
  left, right = figure.subplots(1, 2)
  for i, result in enumerate(results):
    share = result.norms.gauge_share
    if len(share) > 1:
      left.hist(share, bins=20, color=look.SKY, label=f"{len(share)} networks")
    else:
      left.axvline(share[0], color=look.PALETTE[i], label=label(result.keys))
  left.set(xlabel="share of the L1 norm that is gauge", ylabel="networks")
  left.legend()
  bars = [
    (label({"network": r.keys["network"], "layer": i + 1}), plain, balanced)
    for r in results
    for i, (plain, balanced) in enumerate(
      zip(*(n.mean(0) for n in r.norms), strict=True)
    )
  ]
  names, plain, balanced = zip(*bars, strict=True)
  at = np.arange(len(names))
  right.bar(at - 0.2, plain, 0.4, color=look.GRAY, label="plain")
  right.bar(at + 0.2, balanced, 0.4, color=look.BLUE, label="balanced")
  right.set_xticks(at, names, rotation=30, ha="right")
  right.set_ylabel("L1 norm by layer, mean")
  right.margins(y=0.2)  # room for the legend
  right.legend(loc="upper center", ncols=2)
  return figure
