"""Pictures of gauge freedom."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.gauge.l1 import Sizes
from experiments.gauge.networks import Measured
from scalegmn_jax.base import TargetNetwork
from scalegmn_jax.symmetry import tangents
from scalegmn_jax.targets import unroll
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.zoo import codec

CHANNELS = (2, 4, 8, 16, 32, 64)
FACTORS = (1, 1.5, 2, 3, 4)
"""Of the sides of images."""

CAUSES = {
  "gauge": "C0",
  "unread": "C1",
  "inputs": "C2",
  "seldom": "C3",
  "joint": "C4",
}


def directions(cnn: TargetNetwork) -> Figure:
  """Gauge directions of CNNs and of their MLPs, by channels and image size."""
  made = cnn.description
  height, width, inputs = made["input_shape"]
  wider = {
    c: {**made, "channels": [c] * len(made["channels"])} for c in CHANNELS
  }
  larger = {
    int(height * f): {
      **made, "input_shape": [int(height * f), int(width * f), inputs]
    }
    for f in FACTORS
  }  # fmt: skip
  figure = Figure(figsize=(12, 3.8))
  left, middle, right = figure.subplots(1, 3)
  _curves(left, wider, per_weight=False)
  _curves(middle, larger, per_weight=False)
  _curves(right, larger, per_weight=True)
  left.set(xlabel="channels of every layer", ylabel="gauge directions")
  middle.set(xlabel="height of the images", ylabel="gauge directions")
  right.set(xlabel="height of the images", ylabel="directions per weight")
  left.legend(fontsize=8)
  return figure


def _curves(axis, descriptions, *, per_weight: bool) -> None:
  curves: dict[str, list[float]] = {}
  for description in descriptions.values():
    cnn = make_target(description)
    dense = unroll.unrolled(cnn)
    own, of_dense = (
      sum(tangents.directions(t.spec).values()) for t in (cnn, dense.target)
    )
    points = {"CNN": (own, codec.layout_of(cnn).size)}
    sizes = {
      "MLP of the same map": codec.layout_of(dense.target).size,
      "MLP without structural zeros": dense.untied,
    }
    points |= {name: (of_dense, size) for name, size in sizes.items()}
    for name, (count, size) in points.items():
      curves.setdefault(name, []).append(count / size if per_weight else count)
  styles = ("o-", "s-", "^:")
  for (name, values), style in zip(curves.items(), styles, strict=True):
    axis.plot(list(descriptions), values, style, markersize=4, label=name)
  axis.set(xscale="log", yscale="log")
  axis.set_xticks(list(descriptions), map(str, descriptions))
  axis.minorticks_off()


def spectrum(spaces: Sequence[Measured]) -> Figure:
  """Singular values of J from the least on, the null space by cause: of the
  first network, and of that of the others with most besides the gauge."""

  def excess(measured):
    return measured.final.dimension - measured.final.gauge

  first = spaces[0].name
  shown = {first}
  if others := [space for space in spaces if space.name != first]:
    shown.add(max(others, key=excess).name)
  spaces = [space for space in spaces if space.name in shown]
  figure = Figure(figsize=(4.2 * len(spaces), 3.8))
  axes = figure.subplots(1, len(spaces), sharey=True, squeeze=False)[0]
  for axis, measured in zip(axes, spaces, strict=True):
    space = measured.final
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
      title=f"{measured.name}: {measured.inputs}",
    )
    axis.legend(fontsize=8, loc="center right")
  axes[0].set_ylabel("σ / σ of the greatest")
  return figure


def images(spaces: Sequence[Measured]) -> Figure:
  """The dimension of the null space by the number of images."""
  figure = Figure(figsize=(6, 4.2))
  axis = figure.subplots()
  curves = [space for space in spaces if len(space.images) > 1]
  for i, measured in enumerate(curves):
    color = f"C{i % 10}"
    axis.plot(
      measured.images, measured.dimensions, "o-", color=color, markersize=4,
      label=f"{measured.name} ({measured.final.gauge} gauge)",
    )  # fmt: skip
    axis.axhline(measured.final.gauge, color=color, linestyle=":", linewidth=1)
  axis.set(
    xscale="log",
    yscale="symlog",
    xlabel="images",
    ylabel="null space of J; dotted: gauge",
  )
  axis.set_ylim(bottom=-0.3)
  axis.set_xticks(spaces[0].images, map(str, spaces[0].images))
  axis.minorticks_off()
  axis.legend(fontsize=7)
  return figure


def norms(found: Mapping[str, Sizes]) -> Figure:
  """What of the L1 norm is gauge: its share by network, and by layer.

  Args:
    found: {name of a population: norms}; the first is a zoo.
  """
  figure = Figure(figsize=(9, 3.8))
  left, right = figure.subplots(1, 2)
  for i, (name, sizes) in enumerate(found.items()):
    if len(sizes.share) > 1:
      left.hist(sizes.share, bins=20, label=f"{len(sizes.share)} networks")
    else:
      left.axvline(sizes.share[0], color=f"C{i}", label=name)
  left.set(xlabel="share of the L1 norm that is gauge", ylabel="networks")
  left.legend(fontsize=8)
  bars = [
    (f"{name}, {i + 1}", plain, balanced)
    for name, sizes in found.items()
    for i, (plain, balanced) in enumerate(
      zip(sizes.plain.mean(0), sizes.balanced.mean(0), strict=True)
    )
  ]
  names, plain, balanced = zip(*bars, strict=True)
  at = np.arange(len(names))
  right.bar(at - 0.2, plain, 0.4, color="C7", label="plain")
  right.bar(at + 0.2, balanced, 0.4, color="C0", label="balanced")
  right.set_xticks(at, names, rotation=30, ha="right", fontsize=8)
  right.set_ylabel("L1 norm by layer, mean")
  right.legend(fontsize=8)
  return figure
