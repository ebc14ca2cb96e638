"""Tables, picture and conclusions of merging."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.merge.data import INR
from experiments.runner import pictures as look
from experiments.runner.experiment import Table

Row = Mapping[str, Any]

Rows = Sequence[Row]

NAMES = {
  "plain": "as they are",
  "permutation": "permutations alone",
  "regauged": "permutations alone, other gauge",
  "aligned": "aligned",
  "images": "aligned, with images",
  "recomputed": "aligned, statistics recomputed",
}
"""{method: its name in a table}."""

COLUMNS = {
  "pairs": ("pairs", "{}"),
  "loss": ("loss", "{:.4f}"),
  "barrier": ("barrier", "{:.4f}"),
  "barrier_std": ("std", "{:.4f}"),
  "score": ("score", "{:.3f}"),
  "middle": ("average of two", "{:.3f}"),
  "soup": ("average of all", "{:.3f}"),
  "best": ("best one", "{:.3f}"),
  "seconds": ("seconds", "{:.2f}"),
}


def label(row: Row) -> str:
  """The text in the first column of a row."""
  return f"{row['network']}, {row['width']}x: {NAMES[row['method']]}"


def table(rows: Rows) -> Table:
  """The table of all subjects and methods."""
  return Table(
    "networks of different seeds, means over pairs: the loss on training data "
    "of both, and the barrier, the most by which the loss on the line between "
    "them exceeds the line between their losses; accuracy on test images (of a "
    "siren the PSNR of its picture, dB) of each, of the average of two, of the "
    "average of all, and of the network with the least training loss; seconds "
    "to bring one network to another",
    COLUMNS,
    rows,
    ("barrier", "score", "middle", "soup"),
    "networks",
  )


def conclusions(rows: Rows) -> list[str]:
  """A sentence per architecture: its widest networks."""
  lines = []
  for name in dict.fromkeys(row["network"] for row in rows):
    widest = max(row["width"] for row in rows if row["network"] == name)
    found = {
      row["method"]: row
      for row in rows
      if (row["network"], row["width"]) == (name, widest)
    }
    parts = [
      f"{found[method]['barrier']:.4f} {NAMES[method]}"
      for method in NAMES
      if method in found
    ]
    lines.append(f"{name}, {widest}x: the barrier is {', '.join(parts)}")
  return lines


def picture(rows: Rows, heading: str) -> Figure:
  """Barriers against widths, a panel per architecture."""
  names = list(dict.fromkeys(row["network"] for row in rows))
  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle(heading)
  panels = figure.subplots(1, len(names), squeeze=False)[0]
  for panel, name in zip(panels, names, strict=True):
    labels = []
    for method, color in zip(NAMES, look.PALETTE, strict=False):
      curve = [
        row for row in rows if (row["network"], row["method"]) == (name, method)
      ]
      if not curve:
        continue
      x = [row["width"] for row in curve]
      y = [max(row["barrier"], 1e-6) for row in curve]
      panel.plot(x, y, "o-", color=color)
      labels.append(look.Label(x[-1], y[-1], method, color))
    quantity = "error" if name == INR else "loss"
    panel.set(title=name, xlabel="width", ylabel=f"barrier of the {quantity}")
    widths = sorted({row["width"] for row in rows if row["network"] == name})
    panel.set_xscale("log", base=2)
    panel.set_xticks(widths, [f"{width}x" for width in widths])
    look.log_scale(panel)
    look.label_ends(panel, labels)
  return figure
