"""The look of all pictures: sizes, fonts, colors, labels beside curves.

Pictures are made for print: their sizes are those of a column or a page of a
paper, their texts have the size of a caption, and a PDF with embedded fonts
lies beside each PNG. Colors can be told apart without full color vision.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from scalegmn_jax.io import replace_file

COLUMN = 3.25
"""Width of a column, in inches."""

PAGE = 6.75
"""Width of a page with two columns, in inches."""

HEIGHT = 2.5
"""Height of one row of panels, in inches."""

BLACK, GRAY = "#000000", "#7F7F7F"
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BROWN = "#E69F00", "#56B4E9", "#8C510A"

PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BROWN)
"""Colors of series without a fixed color. The first six, with `BLACK`, are the
palette of Okabe and Ito (2008, Color Universal Design)."""

COLORS = {
  # Metanetworks by symmetry.
  "own_operator": BLUE,
  **dict.fromkeys(("operator", "scalegmn", "target", "bidirectional"), BLUE),
  **dict.fromkeys(("forward", "plain"), SKY),
  "augmented": BLUE,
  "unfolded": GREEN,
  "shifted": BROWN,
  "permutation": VERMILION,
  "mlp": PURPLE,
  "statistics": GREEN,
  "balanced statistics": BROWN,
  # Methods of fine-tuning and pruning.
  "original": GRAY,
  "balanced": GRAY,
  "constant": BLACK,
  "constant_best": BLACK,
  "keep_better": SKY,
  "adam": ORANGE,
  "sgd": BROWN,
  "last_layer": GREEN,
  "magnitude": GREEN,
  "magnitude_l1_gauge": GREEN,
  "magnitude_as_stored": GREEN,
  "magnitude_of_unit_norm": GREEN,
  "iterative_magnitude": SKY,
  "l1": ORANGE,
  "obd": ORANGE,
  "snip": PURPLE,
  "synflow": BROWN,
  "predictor": VERMILION,
}
"""{method: its color in every picture}."""

matplotlib.rcParams.update(
  {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "figure.titlesize": 7,
    "legend.fontsize": 6,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
  }
)

LABEL_SIZE = 6.0
"""Size of labels within the axes, in points."""

LABEL_WIDTH = 22
"""Characters of a line of a label beside the axes."""

_LEADER = {"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
"""The line from a label to its point."""


def color(method: str, number: int = 0) -> str:
  """The color of a method; of another series, the color of its number."""
  return COLORS.get(method, PALETTE[number % len(PALETTE)])


def shades(count: int) -> list[Any]:
  """Colors from light to dark, for a series that is ordered by size."""
  return list(matplotlib.colormaps["viridis_r"](np.linspace(0.2, 1, count)))


def heading(networks: Mapping[str, int], seeds: Iterable[int]) -> str:
  """The title of a picture: numbers of networks, and seeds.

  Args:
    networks: {kind: number}, such as {"test": 32, "training": 461}.
    seeds: of the run or of φ.
  """
  counts = " and ".join(f"{count:,} {kind}" for kind, count in networks.items())
  numbers = [str(seed) for seed in seeds]
  text = f"seed{'s' * (len(numbers) > 1)} {', '.join(numbers)}"
  return f"{counts} networks; {text}" if networks else text


def save(figure: Figure, path: Path) -> None:
  """Writes a picture as PNG and, beside it, as PDF.

  Args:
    figure: the picture.
    path: of the PNG.
  """
  for suffix, metadata in (
    (".png", {"Software": None}),
    (".pdf", {"CreationDate": None}),  # the same bytes each time
  ):
    with replace_file(path.with_suffix(suffix)) as file:
      figure.savefig(file, format=suffix[1:], dpi=200, metadata=metadata)


def log_scale(axis: Axes) -> None:
  """Makes the y axis logarithmic, with plain numbers at 1, 2 and 5."""
  axis.set_yscale("log")
  axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  axis.yaxis.set_major_formatter("{x:g}")
  axis.yaxis.set_minor_locator(NullLocator())


class Label(NamedTuple):
  """A label of a curve or of a point.

  Attributes:
    x, y: end of the curve, or the point.
    text: the label.
    color: of the curve or the point.
  """

  x: float
  y: float
  text: str
  color: Any


def _is_finite(label: Label) -> bool:
  return math.isfinite(label.x) and math.isfinite(label.y)


def label_ends(axis: Axes, labels: Sequence[Label]) -> None:
  """Writes labels at the ends of curves, moved apart where they would collide.

  Args:
    axis: its limits and titles, and the titles of the figure, are set.
    labels: one per curve; a line leads from the end of the curve to the label.
      A label of no finite point is left out.
  """
  labels = [label for label in labels if _is_finite(label)]
  if not labels:
    return
  figure = axis.get_figure(root=True)
  assert figure is not None
  figure.draw_without_rendering()  # the layout
  box = axis.get_window_extent()
  texts = [textwrap.fill(label.text, LABEL_WIDTH) for label in labels]
  unit = 1.4 * LABEL_SIZE / 72 * figure.dpi / box.height
  wanted = [
    axis.transAxes.inverted().transform(
      axis.transData.transform((label.x, label.y))
    )[1]
    for label in labels
  ]
  placed = spread(wanted, [unit * (t.count("\n") + 1) for t in texts])
  for label, text, height in zip(labels, texts, placed, strict=True):
    axis.annotate(
      text,
      (label.x, label.y),
      (1.06, height),
      textcoords="axes fraction",
      color=label.color,
      fontsize=LABEL_SIZE,
      va="center",
      annotation_clip=False,
      arrowprops={**_LEADER, "color": label.color, "relpos": (0, 0.5)},
    )


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> np.ndarray:
  """The nearest positions at which intervals in [0, 1] do not overlap.

  Args:
    wanted: [N] centers.
    sizes: [N]. If they add up to more than 1, the intervals exceed 1.

  Returns:
    [N] centers; their order is the order of `wanted`.
  """
  # Here, since it takes a sixth of the time in which a program starts.
  from scipy.optimize import isotonic_regression

  order = np.argsort(wanted, kind="stable")
  size = np.asarray(sizes)[order]
  # Distance of each center from the first one if all intervals touch.
  offset = np.cumsum(size) - size / 2
  free = isotonic_regression(np.asarray(wanted)[order] - offset).x
  result = np.empty(len(order))
  result[order] = np.clip(free, 0, max(1 - size.sum(), 0)) + offset
  return result


_DIRECTIONS = (
  (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)
)  # fmt: skip
_DISTANCES = (5, 9, 15, 22, 30, 40)
"""Distances of a label from its point, in points."""


def label_points(
  axis: Axes,
  labels: Sequence[Label],
  segments: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
) -> None:
  """Writes labels beside points, where they hide nothing.

  Each label takes the nearest free place in eight directions, the first labels
  first.

  Args:
    axis: its limits and titles, and the titles of the figure, are set.
    labels: one per point. A label of no finite point is left out.
    segments: (x, y) of further points and the lines between them.
  """
  labels = [label for label in labels if _is_finite(label)]
  figure = axis.get_figure(root=True)
  assert figure is not None
  figure.draw_without_rendering()
  frame = axis.get_window_extent()
  drawn = [axis.transData.transform([(at.x, at.y) for at in labels])]
  drawn += [_along(axis.transData.transform(np.transpose(s))) for s in segments]
  points, boxes = np.concatenate(drawn), []
  points = points[np.isfinite(points).all(1)]
  margin = LABEL_SIZE / 2 / 72 * figure.dpi
  for label in labels:
    places = [
      _place(axis, label, distance, right, up)
      for distance in _DISTANCES
      for right, up in _DIRECTIONS
    ]

    def hidden(text: Annotation) -> int:
      box = _extent(text)
      inside = np.all((box.min >= frame.min) & (box.max <= frame.max))
      # Points are drawn with a size.
      wide = box.padded(margin)
      over = np.all((wide.min <= points) & (points <= wide.max), axis=1).sum()
      return over + 4 * (not inside) + 4 * sum(map(box.overlaps, boxes))

    best = min(places, key=hidden)  # the first of several
    for text in places:
      if text is not best:
        text.remove()
    boxes.append(_extent(best).padded(margin))


def _place(
  axis: Axes, label: Label, distance: float, right: int, up: int
) -> Annotation:
  """A label at a distance from its point, in one of `_DIRECTIONS`."""
  return axis.annotate(
    label.text,
    (label.x, label.y),
    (right * distance, up * distance),
    textcoords="offset points",
    color=label.color,
    fontsize=LABEL_SIZE,
    ha=("right", "center", "left")[right + 1],
    va=("top", "center", "bottom")[up + 1],
    arrowprops={**_LEADER, "color": label.color},
  )


def _extent(text: Annotation) -> Bbox:
  """The extent of a label without its line."""
  text.get_window_extent()  # with its line; moves the text to its place
  return Text.get_window_extent(text)


def _along(points: np.ndarray, count: int = 100) -> np.ndarray:
  """Points on the straight lines between points [N, 2], `count` per line."""
  share = np.linspace(0, 1, count)[:, None]
  lines = [
    a + share * (b - a) for a, b in zip(points, points[1:], strict=False)
  ]
  return np.concatenate([points, *lines])
