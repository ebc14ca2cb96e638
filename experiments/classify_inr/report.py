"""Table and pictures of the classification of INRs."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.classify_inr.methods import METHODS
from experiments.inr import report as inr_report
from experiments.inr.data import InrSplit, make_renderer
from experiments.readers import READERS
from experiments.runner import pictures as look
from experiments.runner import select
from experiments.runner.experiment import Outcome, Table

Rows = Sequence[Mapping[str, Any]]

LABELS = {
  "plain": "ScaleGMN",
  "augmented": "ScaleGMN, augmented",
  "unfolded": "ScaleGMN, augmented, phases not folded",
  "shifted": "ScaleGMN, augmented, phases shifted at random",
  **{
    name: f"{READERS[name].label}, augmented"
    for name in METHODS.keys() & READERS.keys()
  },
  "statistics": "layer statistics",
  "constant": "constant: frequencies of the classes",
}

COLUMNS = {
  "accuracy": ("accuracy", "{:.3f}"),
  "low": ("from", "{:.3f}"),
  "high": ("to", "{:.3f}"),
  "cross_entropy": ("CE", "{:.3f}"),
  "val_accuracy": ("val. accuracy", "{:.3f}"),
  "sign_error": ("sign error", "{:.1e}"),
  "phase_error": ("phase error", "{:.1e}"),
  "learning_rate": ("learning rate", "{:g}"),
  "parameters": ("parameters", "{:d}"),
  "seconds": ("s/network", "{:.2g}"),
}

SHORT = ("accuracy", "low", "high", "sign_error", "seconds")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return LABELS[row["method"]]


def outcome(config: ConfigDict, inrs: InrSplit, rows: Rows) -> Outcome:
  """The results of the run.

  Args:
    config: of the run.
    inrs: the networks.
    rows: one per method.
  """
  sizes, psnr = inrs.sizes, float(inrs.test.psnr.mean())
  table = Table(
    f"INRs of {sizes['test']} {config.data.name} test images, one INR per "
    f"image; {sizes['train']} training INRs of {inrs.train_images} images. "
    "Accuracy with its 95 % Wilson interval",
    COLUMNS,
    rows,
    SHORT,
  )
  best = max(rows, key=lambda row: row["accuracy"])
  lines = [
    f"{label(best)} classifies {best['accuracy']:.1%} of the test images "
    f"correctly ({best['low']:.1%} to {best['high']:.1%})",
    f"The INRs render their images to {psnr:.1f} dB",
  ]
  examples = inr_report.first_of_each_class(inrs.test)
  rendered = make_renderer(inrs)(inrs.test.networks.take(examples))
  gallery = inr_report.gallery(
    {"image": inrs.test.pictures.pixels[examples], "INR": rendered}
  )
  heading = look.heading(
    {"test": sizes["test"], "training": sizes["train"]}, select.seeds(config)
  )
  pictures = {"accuracy.png": _bars(rows, heading), "inrs.png": gallery}
  return Outcome([table], lines, pictures, {"inrs": sizes, "psnr": psnr})


def _bars(rows: Rows, heading: str) -> Figure:
  """Accuracy and its interval, a bar per row."""
  figure = Figure(figsize=(look.COLUMN, 0.25 * len(rows) + 0.8))
  figure.suptitle(f"{heading}; 95 % intervals")
  axis = figure.subplots()
  for i, row in enumerate(rows):
    value, low, high = row["accuracy"], row["low"], row["high"]
    axis.barh(
      i, value, xerr=[[value - low], [high - value]], capsize=2, alpha=0.7,
      color=look.color(row["method"]), error_kw={"linewidth": 0.8},
    )  # fmt: skip
    axis.annotate(
      f"{value:.3f}", (high, i), (3, 0), textcoords="offset points",
      va="center", fontsize=look.LABEL_SIZE,
    )  # fmt: skip
  names = [textwrap.fill(label(row), look.LABEL_WIDTH) for row in rows]
  axis.set_yticks(range(len(rows)), names)
  axis.invert_yaxis()
  # Room for the numbers right of the bars.
  axis.set(xlim=(0, 1.15), xlabel="accuracy on INRs of test images")
  axis.set_xticks(np.linspace(0, 1, 6))
  return figure
