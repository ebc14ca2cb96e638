"""Table and picture of the editing of INRs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.edit_inr import methods, refit
from experiments.edit_inr.data import EditData, Edited
from experiments.inr import report as inr_report
from experiments.runner.experiment import Outcome, Table
from experiments.writers import WRITERS
from scalegmn_jax.data import pictures
from scalegmn_jax.eval.epochs_to_match import epochs_to_match

Rows = Sequence[Mapping[str, Any]]

LABELS = {
  "original": "original",
  "mean_image": "best single picture",
  **{name: writer.label for name, writer in WRITERS.items()},
  methods.CHOICE: "best ScaleGMN or original, for each",
}

REFERENCES = ("original", "mean_image", refit.METHOD)
"""Rows without an operator."""

EDITS = {
  "dilation": "3 x 3 dilation",
  "erosion": "3 x 3 erosion",
  "rotation": f"rotation by {pictures.ANGLE:g} degrees",
  pictures.IDENTITY: "image",
}
"""{config.edit: text}."""

COLUMNS = {
  "mse": ("MSE", "{:.5f}"),
  "std": ("std", "{:.5f}"),
  "psnr": ("PSNR", "{:.2f}"),
  "mse_inr": ("MSE to INR", "{:.5f}"),
  "mse_unseen": ("MSE unseen", "{:.5f}"),
  "worth": ("worth in steps", "{}"),
  "faster": ("times as fast", "{:.3g}"),
  "val_mse": ("val. MSE", "{:.5f}"),
  "symmetry_error": ("symmetry error", "{:.1e}"),
  "learning_rate": ("learning rate", "{:g}"),
  "parameters": ("parameters", "{:d}"),
  "seconds": ("s/network", "{:.2g}"),
}

SHORT = ("mse", "mse_unseen", "worth", "symmetry_error", "seconds")


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  if row["method"] == refit.METHOD:
    return f"Adam, {row['steps']} step{'s' * (row['steps'] != 1)}"
  return LABELS[row["method"]]


def with_worth(rows: Rows, seconds_per_step: float) -> list[dict[str, Any]]:
  """The rows, with the steps of Adam that each operator is worth.

  Adds "worth", the steps after which tuned Adam has the error of the operator,
  as text, and "faster", the time of these steps by the time of the operator.
  Adam is interpolated linearly between the numbers of steps of its rows.

  Args:
    rows: one per method, those of Adam included.
    seconds_per_step: of Adam.
  """
  points = [
    (row["steps"], row["mse"]) for row in rows if row["method"] == refit.METHOD
  ]
  (start,) = (row["mse"] for row in rows if row["method"] == "original")
  result = []
  for row in rows:
    row = dict(row)
    if row["method"] not in REFERENCES:
      steps = epochs_to_match(points, start, row["mse"])
      last = points[-1][0]
      row["worth"] = f"{steps:.1f}" if steps <= last else f"more than {last}"
      if steps <= last:
        row["faster"] = steps * seconds_per_step / row["seconds"]
    result.append(row)
  return result


def outcome(
  config: ConfigDict,
  data: EditData,
  rows: Rows,
  images: Mapping[str, Edited],
) -> Outcome:
  """The results of the run.

  Args:
    config: of the run.
    data: the networks and the images.
    rows: one per method and one per reference in `REFERENCES`.
    images: {method: what test networks render after each edit}.
  """
  inrs = data.inrs
  rendered = "their images"
  if config.zoo.coarse > 1:
    rendered = f"means over {_blocks(config)}"
  wanted = ", ".join(EDITS[edit] for edit in data.edits)
  sizes, psnr = inrs.sizes, float(inrs.test.psnr.mean())
  table = Table(
    f"INRs of {sizes['test']} {config.data.name} test images, edited to "
    f"render their {wanted}; {sizes['train']} training INRs of "
    f"{inrs.train_images} images. MSE over pixels in [0, 1] to the edited "
    "image, and to the edit of the image that the INR renders"
    + _explained(config, data),
    _columns(data.edits),
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
    f"The INRs render {rendered} to {psnr:.1f} dB",
  ]
  if "worth" in best:
    line = f"{label(best)} is worth {best['worth']} steps of tuned Adam"
    if "faster" in best:
      line += f", which take {best['faster']:.3g} times as long"
    lines.append(line)
  examples = inr_report.first_of_each_class(inrs.test)
  gallery = {"image": inrs.test.pictures.pixels}
  for edit in data.edits:
    of_edit = f", {edit}" if len(data.edits) > 1 else ""
    for method, rendered in images.items():
      unedited = method == "original"
      name = "INR" if unedited else LABELS[method] + of_edit
      gallery[name] = rendered[edit]
    gallery[f"{edit} of the image"] = data.edited["test"][edit]
  image_rows = inr_report.gallery({k: v[examples] for k, v in gallery.items()})
  return Outcome(
    [table], lines, {"edited.png": image_rows}, {"inrs": sizes, "psnr": psnr}
  )


def _columns(edits: Sequence[str]) -> dict[str, tuple[str, str]]:
  """`COLUMNS`, and one of each edit after them if there are several."""
  of_edits = edits if len(edits) > 1 else ()
  return COLUMNS | {f"mse_{e}": (f"MSE {e}", "{:.5f}") for e in of_edits}


def _blocks(config: ConfigDict) -> str:
  """What coarse INRs are fitted to."""
  return f"{config.zoo.coarse} x {config.zoo.coarse} pixels"


def _explained(config: ConfigDict, data: EditData) -> str:
  """What the columns mean that not every run has."""
  text = ""
  if config.zoo.coarse > 1:
    text += f"; INRs fitted to means over {_blocks(config)}"
  if data.unseen is not None:
    count = data.unseen.networks.size
    text += f"; unseen: INRs of {count} {config.ood.name} test images"
  if config.refit.steps:
    text += (
      "; worth: steps of Adam from each network's own weights, on the edit of "
      "what it renders, that reach the MSE"
    )
  return text
