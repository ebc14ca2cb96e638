"""The table and the picture of the scaling experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.finetune import report as finetune

COLUMNS = {
  "objective": ("objective", "{:.4f}"),
  "spread": ("std of seeds", "{:.4f}"),
  "accuracy_mean": ("accuracy", "{:.3f}"),
  "accuracy_min": ("min", "{:.3f}"),
  "epochs_to_match": ("Adam epochs to match", "{}"),
}

SHORT = ("objective", "accuracy_mean", "epochs_to_match")


def label(row: Mapping[str, Any]) -> str:
  """The displayed name of a row.

  Rows of operators have the keys {"method": "operator", "networks": training
  networks, "steps": training steps}; for other rows see `finetune.methods`.
  """
  if row["method"] == "operator":
    return f"{row['networks']} networks, {row['steps']:,} steps"
  return finetune.label(row)


def title(test_networks: int, seeds: Sequence[int]) -> str:
  """The title of the table."""
  return (
    "operators by distinct training networks and steps: "
    f"{test_networks} test networks x test images, "
    f"seeds of φ {', '.join(map(str, seeds))}"
  )


def picture(epochs: Mapping[tuple[int, int], float], last: int) -> Figure:
  """Epochs of Adam needed to match, against steps.

  Args:
    epochs: {(training networks, steps): epochs to match}; a curve for each
      number of networks.
    last: the most epochs of Adam that were run.
  """
  figure = Figure(figsize=(5, 4))
  axis = figure.subplots()
  all_steps = sorted({steps for _, steps in epochs})
  for networks in sorted({networks for networks, _ in epochs}):
    curve = [epochs[networks, steps] for steps in all_steps]
    axis.plot(
      all_steps, np.minimum(curve, last), "o-", label=f"{networks} networks"
    )
  axis.axhline(last, color="gray", linestyle=":", linewidth=1)
  axis.annotate(
    f"{last} epochs or more",
    (0.01, last),
    xycoords=("axes fraction", "data"),
    va="bottom",
    fontsize=7,
  )
  axis.set(
    xscale="log",
    xlabel="training steps",
    ylabel="epochs of tuned Adam needed to match",
    ylim=(0, 1.1 * last),
  )
  axis.set_xticks(all_steps, [f"{n:,}" for n in all_steps])
  axis.minorticks_off()
  axis.legend(fontsize=7)
  return figure
