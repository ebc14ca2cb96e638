"""Table and picture of the editing of INRs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.edit_inr.data import EditData
from experiments.inr import report as inr_report
from experiments.runner.experiment import Outcome, Table

Rows = Sequence[Mapping[str, Any]]

LABELS = {
  "original": "original",
  "mean_image": "mean dilated image",
  "forward": "ScaleGMN, forward",
  "bidirectional": "ScaleGMN, bidirectional",
  "permutation": "permutation-only GMN",
  "mlp": "flat MLP",
  "constant": "constant update",
}

REFERENCES = ("original", "mean_image")
"""Rows without an operator."""

COLUMNS = {
  "mse": ("MSE", "{:.5f}"),
  "std": ("std", "{:.5f}"),
  "psnr": ("PSNR", "{:.2f}"),
  "mse_inr": ("MSE to INR", "{:.5f}"),
  "val_mse": ("val. MSE", "{:.5f}"),
  "symmetry_error": ("symmetry error", "{:.1e}"),
  "learning_rate": ("learning rate", "{:g}"),
  "parameters": ("parameters", "{:d}"),
  "seconds": ("s/network", "{:.2g}"),
}

SHORT = ("mse", "psnr", "symmetry_error", "seconds")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return LABELS[row["method"]]


def outcome(
  config: ConfigDict,
  data: EditData,
  rows: Rows,
  images: Mapping[str, np.ndarray],
) -> Outcome:
  """The results of the run.

  Args:
    config: of the run.
    data: the networks and the images.
    rows: one per method and one per reference in `REFERENCES`.
    images: {method: images that test networks render [B, H, W, C]}.
  """
  inrs = data.inrs
  sizes, psnr = inrs.sizes, float(inrs.test.psnr.mean())
  table = Table(
    f"INRs of {sizes['test']} {config.data.name} test images, edited to "
    f"render their 3 x 3 dilation; {sizes['train']} training INRs of "
    f"{inrs.train_images} images. MSE over pixels in [0, 1] to the dilated "
    "image, and to the dilation of the image that the INR renders",
    COLUMNS,
    rows,
    SHORT,
  )
  reference = {r["method"]: r["mse"] for r in rows if r["method"] in REFERENCES}
  best = min(
    (row for row in rows if row["method"] not in REFERENCES),
    key=lambda row: row["mse"],
  )
  lines = [
    f"{label(best)}: MSE {best['mse']:.4f}; the unedited network has "
    f"{reference['original']:.4f}, the best constant image "
    f"{reference['mean_image']:.4f}",
    f"The INRs render their images to {psnr:.1f} dB",
  ]
  examples = inr_report.first_of_each_class(inrs.test)
  gallery = {
    "image": inrs.test.pictures.pixels,
    **{"INR" if m == "original" else LABELS[m]: v for m, v in images.items()},
    "dilated image": data.dilated["test"],
  }
  picture = inr_report.gallery({k: v[examples] for k, v in gallery.items()})
  return Outcome(
    [table], lines, {"edited.png": picture}, {"inrs": sizes, "psnr": psnr}
  )
