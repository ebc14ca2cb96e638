"""The table and the picture of the scaling experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.finetune import report as finetune
from experiments.runner import pictures as look

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


def picture(rows: Sequence[Mapping[str, Any]], heading: str) -> Figure:
  """The objective against steps, with the objectives of gradient descent.

  Horizontal lines are the epochs of gradient descent: an operator on a line
  matches that many epochs. Whiskers are one standard deviation over the seeds
  of φ to both sides.

  Args:
    rows: of the table.
    heading: numbers of networks and seeds, see `pictures.heading`.
  """
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  operators = [row for row in rows if row["method"] == "operator"]
  if any(row.get("spread") for row in operators):
    heading += "; whiskers: standard deviation over seeds"
  figure.suptitle(heading)
  axis = figure.subplots()
  descent = [row for row in rows if row["method"] != "operator"]
  labels = []
  counts = sorted({row["networks"] for row in operators})
  for count, color in zip(counts, look.shades(len(counts)), strict=True):
    curve = [row for row in operators if row["networks"] == count]
    curve.sort(key=lambda row: row["steps"])
    axis.errorbar(
      [row["steps"] for row in curve],
      [row["objective"] for row in curve],
      [row.get("spread", 0.0) for row in curve],
      fmt="o-", color=color, capsize=2,
    )  # fmt: skip
    end, text = curve[-1], f"{count} networks"
    labels.append(look.Label(end["steps"], end["objective"], text, color))
  steps = sorted({row["steps"] for row in operators})
  axis.set(
    xscale="log", xlabel="training steps", ylabel="objective on test images"
  )
  axis.set_xticks(steps, [f"{n:,}" for n in steps])
  axis.minorticks_off()
  if min(row["objective"] for row in rows) > 0:
    look.log_scale(axis)
  right = axis.get_xlim()[1]
  for row in descent:
    color = look.color(row["method"])
    axis.axhline(row["objective"], color=color, linestyle=":")
    text = finetune.label(row)
    labels.append(look.Label(right, row["objective"], text, color))
  look.label_ends(axis, labels)
  return figure
