"""Table and pictures of the classification of INRs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.inr import report as inr_report
from experiments.inr.data import InrSplit, make_renderer
from experiments.runner.experiment import Outcome, Table

Rows = Sequence[Mapping[str, Any]]

LABELS = {
  "plain": "ScaleGMN",
  "augmented": "ScaleGMN, augmented",
  "unfolded": "ScaleGMN, augmented, phases not folded",
  "shifted": "ScaleGMN, augmented, phases shifted at random",
  "permutation": "permutation-only GMN, augmented",
  "mlp": "flat MLP, augmented",
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
  pictures = {"accuracy.png": _bars(rows), "inrs.png": gallery}
  return Outcome([table], lines, pictures, {"inrs": sizes, "psnr": psnr})


def _bars(rows: Rows) -> Figure:
  """Accuracy and its interval, a bar per row."""
  figure = Figure(figsize=(7, 0.5 * len(rows) + 1))
  axis = figure.subplots()
  values = np.array([row["accuracy"] for row in rows])
  errors = [
    [row["accuracy"] - row["low"] for row in rows],
    [row["high"] - row["accuracy"] for row in rows],
  ]
  axis.barh(
    [label(row) for row in rows], values, xerr=errors, color="tab:blue",
    alpha=0.7, capsize=3,
  )  # fmt: skip
  axis.invert_yaxis()
  axis.set(xlim=(0, 1), xlabel="accuracy on INRs of test images")
  return figure
