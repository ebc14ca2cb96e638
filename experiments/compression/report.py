"""Tables, conclusions and picture of compressed networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from experiments.compression.measure import Measured
from experiments.runner import pictures as look
from experiments.runner.experiment import Outcome, Table

Results = Mapping[str, Measured]
"""{method: what is left of the test networks}; the operator is the first."""


class Words(NamedTuple):
  """Texts of an experiment.

  Attributes:
    label_of: method -> its label; "original" is a method.
    style_of: method -> its color, and its marker and line.
    where: after "KL from own outputs": for what the columns are.
    axis: of the picture.
  """

  label_of: Callable[[str], str]
  style_of: Callable[[str], tuple[str, str]]
  where: str
  axis: str


class Level(NamedTuple):
  """How far networks are compressed.

  Attributes:
    key: of its column.
    title: of its column.
    sentence: the beginning of a sentence about it.
    place: on the axis of the picture.
    row: keys and values of a row about it.
  """

  key: str
  title: str
  sentence: str
  place: float
  row: Mapping[str, Any]


def label(words: Words, row: Mapping[str, Any], level: str) -> str:
  """The text in the first column of a row; of a level unless it is ''."""
  text = words.label_of(row["method"])
  if row.get("images"):
    text += f", {row['images']} images"
  return f"{text}, {level}" if level else text


def interval(values: np.ndarray) -> tuple[float, float, float]:
  """(mean, low, high): the 95 % t interval of the mean of values [n]."""
  low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
  return float(values.mean()), float(low), float(high)


def divergences(
  words: Words, results: Results, levels: Sequence[Level]
) -> Table:
  """Mean divergence from own outputs of each method at each level."""
  columns = {level.key: (level.title, "{:.4f}") for level in levels}
  rows = [
    {
      "method": name,
      "images": result.images,
      **dict(zip(columns, result.divergence.mean(1).tolist(), strict=True)),
    }
    for name, result in results.items()
  ]
  return Table(
    f"KL from own outputs on test images, nats, {words.where}: means over test "
    "networks",
    columns, rows, tuple(columns),
  )  # fmt: skip


def accuracies(
  results: Results, original: np.ndarray, levels: Sequence[Level]
) -> Table:
  """Mean accuracy of each method at each level."""
  columns = {"0": ("as it is", "{:.3f}")}
  columns |= {level.key: (level.title, "{:.3f}") for level in levels}
  rows: list[dict[str, Any]] = [
    {"method": "original", "images": 0, "0": float(original.mean())}
  ]
  rows += [
    {
      "method": name,
      "images": result.images,
      **{
        level.key: float(a.mean())
        for level, a in zip(levels, result.accuracy, strict=True)
      },
    }
    for name, result in results.items()
  ]
  return Table(
    "accuracy on test images: means over test networks",
    columns, rows, tuple(columns),
  )  # fmt: skip


def differences(results: Results, levels: Sequence[Level]) -> Table:
  """Divergence after the operator minus that after another method."""
  operator, *others = results
  own = results[operator].divergence
  rows: list[dict[str, Any]] = [
    {"method": name, "images": results[name].images, **level.row}
    | dict(
      zip(
        ("difference", "low", "high"),
        interval(own[i] - results[name].divergence[i]),
        strict=True,
      )
    )
    for name in others
    for i, level in enumerate(levels)
  ]
  columns = {
    "difference": ("difference", "{:.4f}"),
    "low": ("low", "{:.4f}"),
    "high": ("high", "{:.4f}"),
  }
  return Table(
    "KL of the operator minus KL of another method: means over test networks, "
    "paired, and the ends of their 95 % t intervals",
    columns, rows, tuple(columns), "operator minus",
  )  # fmt: skip


def conclusions(
  words: Words, results: Results, levels: Sequence[Level]
) -> list[str]:
  """Two sentences per level: the operator beside the best other method."""
  operator, *others = results
  lines, own = [], results[operator].divergence
  for kind, wanted in (("without", False), ("with", True)):
    found = {n: results[n] for n in others if bool(results[n].images) == wanted}
    for i, level in enumerate(levels):
      best = min(found, key=lambda name: found[name].divergence[i].mean())
      theirs = found[best].divergence[i]
      mean, low, high = interval(own[i] - theirs)
      lines.append(
        f"{level.sentence}: KL {own[i].mean():.4f} after the operator, "
        f"{theirs.mean():.4f} after {words.label_of(best)}, the best of those "
        f"{kind} data; difference {mean:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f})"
      )
  return lines


def picture(
  words: Words, results: Results, levels: Sequence[Level], heading: str
) -> Figure:
  """Mean divergence against the level."""
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  figure.suptitle(heading)
  panel = figure.subplots()
  x, labels = [level.place for level in levels], []
  for name, result in results.items():
    y, (color, style) = result.divergence.mean(1), words.style_of(name)
    panel.plot(x, y, style, color=color)
    labels.append(look.Label(x[-1], y[-1], words.label_of(name), color))
  panel.set_xticks(x, [level.title for level in levels])
  panel.set(xlabel=words.axis, ylabel="KL from own outputs, test images")
  look.log_scale(panel)
  look.label_ends(panel, labels)
  return figure


def outcome(
  words: Words,
  results: Results,
  original: np.ndarray,
  levels: Sequence[Level],
  heading: str,
  networks: Mapping[str, int],
) -> Outcome:
  """All results of a run."""
  return Outcome(
    [
      divergences(words, results, levels),
      differences(results, levels),
      accuracies(results, original, levels),
    ],
    conclusions(words, results, levels),
    {"divergence.png": picture(words, results, levels, heading)},
    {"zoo": networks},
  )
