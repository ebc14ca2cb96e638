"""Tables, verdicts and pictures of amortized fine-tuning."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.build.zoo import OOD
from experiments.finetune.dependence import Numbers
from experiments.finetune.methods import (
  SHARES,
  Comparison,
  Keys,
  Measurement,
  best_constant,
)
from experiments.runner import pictures as look
from experiments.writers import WRITERS
from scalegmn_jax.eval.epochs_to_match import epochs_to_match

COLUMNS = {
  "objective": ("objective", "{:.4f}"),
  "gain_over_constant": ("gain over constant", "{:+.4f}"),
  "cross_entropy": ("CE", "{:.4f}"),
  "objective_plain": ("obj. plain", "{:.4f}"),
  "l1": ("L1", "{:.0f}"),
  "l1_balanced": ("L1 bal.", "{:.0f}"),
  "accuracy_mean": ("accuracy", "{:.3f}"),
  "accuracy_std": ("std", "{:.3f}"),
  "accuracy_min": ("min", "{:.3f}"),
  "accuracy_change_min": ("worst change", "{:+.3f}"),
  "sparsity": ("sparsity", "{:.3f}"),
  "accuracy_pruned": ("acc. pruned", "{:.3f}"),
  "agreement": ("agreement", "{:.3f}"),
  "seconds_alone": ("s alone", "{:.2g}"),
  "seconds_batched": ("s batched", "{:.2g}"),
  "data_passes": ("passes", "{:g}"),
}

SHORT = ("objective", "gain_over_constant", "accuracy_mean", "accuracy_min")

OOD_COLUMNS = (
  "objective", "cross_entropy", "objective_plain", "accuracy_mean",
  "accuracy_std", "accuracy_min", "accuracy_change_min", "sparsity",
  "accuracy_pruned", "agreement",
)  # fmt: skip
"""Columns of the table of out-of-distribution networks."""

OOD_SHORT = ("objective", "accuracy_mean", "accuracy_change_min")

SUPERVISION = {
  "labels": "cross-entropy",
  "outputs": "KL divergence from the network's original outputs",
}
"""{config.loss.supervision: the term of the objective besides L1}."""

OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}

STARTS = {"operator": "operator", "pretrained": "pretrained"}

LABELS = {
  "original": "original",
  "balanced": "balanced",
  "operator": "operator",
  **{name: w.label for name, w in WRITERS.items() if name != "constant"},
  "keep_better": "where better",
  "last_layer": "last layer",
  "common": "one for all",
}

SOURCES = {"best_of_zoo": "best of the zoo", "trained": "one network"}

POPULATIONS = {
  "regauged": "regauged test networks",
  OOD: "out-of-distribution networks",
}

ROUNDING = 1e-3
"""Relative errors of updates up to this size count as rounding errors."""


def label(row: Keys) -> str:
  """The displayed name of a row; for the keys see `methods`."""
  text = _method_label(row)
  if "after" in row:
    # A new gauge or a choice is part of the edit; training is a second method.
    part_of_edit = row["method"] in ("balanced", "keep_better", "common")
    text = STARTS[row["after"]] + (", " if part_of_edit else " + ") + text
  if "population" in row:
    name = row["population"]
    text = f"{POPULATIONS.get(name, name)}: {text}"
  return text


def _method_label(row: Keys) -> str:
  if row["method"] in OPTIMIZERS:
    return f"{optimizer_label(row)}, {epochs_text(row['epochs'])}"
  if row["method"] == "constant":
    text = f"constant: {SOURCES[row['source']]}"
    return f"{text}, {epochs_text(row['epochs'])}" if "epochs" in row else text
  return LABELS[row["method"]]


def optimizer_label(row: Keys) -> str:
  """The name of a method of gradient descent, without its epochs."""
  name = OPTIMIZERS[row["method"]]
  return name if row["schedule"] == "constant" else f"{name} (cosine)"


def epochs_text(count: int) -> str:
  """ "1 epoch", "5 epochs"."""
  return f"{count} epoch" + "s" * (count != 1)


def epochs_to_match_text(epochs: float, last: int) -> str:
  """`epochs_to_match` in words, for a curve of `last` epochs."""
  return f"{epochs:.1f}" if epochs <= last else f"more than {last}"


def title(networks: Mapping[str, int], supervision: str, l1: float) -> str:
  """The title of the main table.

  Args:
    networks: {"train", "val", "test": number of networks}.
    supervision: a key of `SUPERVISION`.
    l1: λ.
  """
  return (
    f"{networks['test']} test networks x test images; "
    f"{networks['train']} training networks, "
    f"{networks['val']} validation networks. Objective: "
    f"{SUPERVISION[supervision]} + {l1:g} x balanced L1"
  )


def find_row(
  measurements: Iterable[Measurement], method: str, after: str | None = None
) -> Measurement | None:
  """The measurement of a method that starts from an edit, if there is one."""
  for m in measurements:
    if m.row["method"] == method and m.row.get("after") == after:
      return m
  return None


def curves(
  measurements: Iterable[Measurement],
) -> dict[tuple[str, str], list[Measurement]]:
  """{(optimizer, schedule): its measurements by epochs}.

  Only gradient descent that starts from the original networks.
  """
  result: dict[tuple[str, str], list[Measurement]] = {}
  for m in measurements:
    if m.row["method"] in OPTIMIZERS and "after" not in m.row:
      key = m.row["method"], m.row["schedule"]
      result.setdefault(key, []).append(m)
  return result


def verdicts(measurements: Sequence[Measurement]) -> list[str]:
  """Sentences about the operator, without the final full stop."""
  start = find_row(measurements, "balanced")
  operator = find_row(measurements, "operator")
  assert start is not None and operator is not None
  constant = best_constant(measurements)
  lines = [] if constant is None else [_constant_verdict(operator, constant)]
  begin = start.row["objective"]
  for points in curves(measurements).values():
    name, last = optimizer_label(points[-1].row), points[-1].row["epochs"]
    end = points[-1].row["objective"]
    if end < begin:
      share = (begin - operator.row["objective"]) / (begin - end)
      lines.append(
        f"The operator gains {share:.0%} of what {epochs_text(last)} of tuned "
        f"{name} gain"
      )
    for m in (operator, find_row(measurements, "last_layer", "operator")):
      if m is not None:
        epochs = epochs_to_match(
          [(p.row["epochs"], p.row["objective"]) for p in points],
          begin,
          m.row["objective"],
        )
        lines.append(
          f"Tuned {name} needs {epochs_to_match_text(epochs, last)} epochs to "
          f"match: {label(m.row)}"
        )
  return lines


def _constant_verdict(operator: Measurement, reference: Measurement) -> str:
  """The operator against the constant, over networks and network by network."""
  gain = reference.row["objective"] - operator.row["objective"]
  better = int((operator.objective < reference.objective).sum())
  return (
    f"The operator is {abs(gain):.4f} {'below' if gain >= 0 else 'above'} the "
    f"best constant (objective; {label(reference.row)}), and below it on "
    f"{better} of {len(operator.objective)} test networks"
  )


def dependence_verdicts(
  measurements: Sequence[Measurement],
  depends: Numbers | None,
  own_orders: bool,
) -> list[str]:
  """What the edits depend on: nothing, the order of classes, the network.

  Args:
    measurements: one per row of the main table.
    depends: see `dependence.numbers`.
    own_orders: whether the classes have an order of each network's own.
  """
  lines = []
  common = find_row(measurements, "common", "operator")
  start = find_row(measurements, "balanced")
  operator = find_row(measurements, "operator")
  if common is not None and start is not None and operator is not None:
    begin, one, each = (m.row["objective"] for m in (start, common, operator))
    line = (
      "One network in place of all that is written"
      f"{', in each order of the classes,' * own_orders} has the objective "
      f"{one:.4f}, the operator {each:.4f}"
    )
    if each < begin:
      share = (begin - one) / (begin - each)
      line += f": it gains {share:.1%} of what the operator gains"
    lines.append(line)
  if depends is not None:
    lines.append(_shares_verdict(depends, own_orders))
    mistakes = depends["mistakes"]
    lines.append(
      "Of the mistakes of the original networks, what is written for each "
      f"repeats {mistakes['own']:.1%}, what is written for others "
      f"{mistakes['others']:.1%}"
    )
  return lines


def _shares_verdict(depends: Numbers, own_orders: bool) -> str:
  """Shares of the outputs; `both` depends on the network."""
  written, read = (
    [
      f"{value:.1%}"
      for value in (
        shares["common"],
        *([shares["task"]] if own_orders else []),
        shares["network"] + shares["both"],
      )
    ]
    for shares in (depends["written"], depends["read"])
  )
  causes = ["is the same for all networks"]
  if own_orders:
    causes += [
      "depends on the order of the classes alone",
      "on the network itself",
    ]
  else:
    causes += ["depends on the network itself"]
  parts = [f"{n} {cause}" for n, cause in zip(written, causes, strict=True)]
  return (
    f"What is written, by its outputs: {', '.join(parts)} (of what is read: "
    f"{', '.join(read)})"
  )


def symmetry_verdict(functions: np.ndarray, updates: np.ndarray) -> str:
  """The symmetry errors [B] of the operator, in words."""
  return (
    "Symmetry: on test networks that are regauged at random the edited "
    f"functions differ by {functions.max():.1e} at most, the updates by "
    f"{np.median(updates):.1e} (median; by more than {ROUNDING:g} on "
    f"{(updates > ROUNDING).sum()} of {len(updates)} networks)"
  )


def tuning(comparison: Comparison) -> dict[str, Any]:
  """{method: {rate: {epochs: validation objective}}}, for `results.json`."""
  return {
    f"{keys['method']}/{keys['schedule']}": {
      str(rate): values for rate, values in keys["objective"].items()
    }
    for keys in comparison.tuning
  }


def pictures(
  measurements: Sequence[Measurement], heading: str
) -> dict[str, Figure]:
  """The pictures of a run.

  Args:
    measurements: one per row of the main table.
    heading: numbers of networks and seed, see `pictures.heading`.

  Returns:
    {file name: figure}.
  """
  figures = {
    "time.png": time(measurements, heading),
    "sparsity.png": sparsity(measurements, heading),
  }
  reference, descents = best_constant(measurements), curves(measurements)
  if reference is not None and descents:
    descent = next(iter(descents.values()))[-1]
    figures["per_network.png"] = per_network(
      measurements, reference, descent, heading
    )
  return figures


def per_network(
  measurements: Sequence[Measurement],
  reference: Measurement,
  descent: Measurement,
  heading: str,
) -> Figure:
  """The objective of each test network, and its gain over the best constant.

  Networks are sorted by the objective of the original; all methods of one
  network share an abscissa. If all networks have the same labels, the constant
  is a flat line, and so is an operator that ignores its input.

  Args:
    measurements: one per row of the main table.
    reference: the best constant among them.
    descent: gradient descent among them.
    heading: see `pictures`.
  """
  original = find_row(measurements, "original")
  operator = find_row(measurements, "operator")
  assert original is not None and operator is not None
  order = np.argsort(original.objective)
  ranks = np.arange(1, len(order) + 1)

  figure = Figure(figsize=(look.PAGE, look.HEIGHT))
  figure.suptitle(heading)
  left, right = figure.subplots(1, 2)
  bottom, top = _gain_limits(
    reference.objective - operator.objective,
    reference.objective - descent.objective,
  )
  right.axhline(0, color=look.BLACK)
  ends = {
    left: [],
    right: [look.Label(ranks[-1], 0, "best constant", look.BLACK)],
  }
  for m, marker in (
    (original, "o"), (reference, "-"), (descent, "^"), (operator, "o")
  ):  # fmt: skip
    color, values = look.color(m.row["method"]), m.objective[order]
    left.plot(ranks, values, marker, color=color, label=label(m.row))
    ends[left].append(look.Label(ranks[-1], values[-1], label(m.row), color))
    if m is original or m is reference:
      continue
    gains = (reference.objective - m.objective)[order]
    right.plot(ranks, gains, marker, color=color, label=label(m.row))
    mean = f"{gains.mean():+.4f}".replace("-", "−")
    text = f"{label(m.row)}: mean {mean}"
    if outside := int((gains < bottom).sum()):
      text += f", {outside} below the axis"
    end = float(np.clip(gains[-1], bottom, top))
    ends[right].append(look.Label(ranks[-1], end, text, color))
  left.set(ylabel="objective on test images")
  right.set(ylabel="best constant minus method", ylim=(bottom, top))
  for axis in (left, right):
    axis.set(xlabel="test network, by original objective")
  for axis, labels in ends.items():
    look.label_ends(axis, labels)
  return figure


def _gain_limits(
  operator: np.ndarray, descent: np.ndarray
) -> tuple[float, float]:
  """The range of the gains [B] without the failures of gradient descent.

  A network on which gradient descent fails would hide the differences between
  the others, and gains that are not finite have no place on an axis.
  """
  operator, descent = (
    gains[np.isfinite(gains)] if np.isfinite(gains).any() else np.zeros(1)
    for gains in (operator, descent)
  )
  low = min(operator.min(), np.quantile(descent, 0.1), 0.0)
  high = max(operator.max(), descent.max(), 0.0)
  margin = 0.1 * (high - low) or 1.0
  return low - margin, high + margin


SPREAD = (0.1, 0.9)
"""Quantiles over test networks between which whiskers and bands reach."""


def time(measurements: Sequence[Measurement], heading: str) -> Figure:
  """The objective against the seconds that each method takes.

  Whiskers reach from the 10th to the 90th percentile of the test networks.
  """
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  figure.suptitle(
    f"{heading}; mean, and 10th to 90th percentile of the test networks"
  )
  axis = figure.subplots()
  references = [
    m.row
    for m in measurements
    if m.row["method"] == "constant"
    or (m.row["method"] == "balanced" and "after" not in m.row)
  ]
  groups: dict[tuple, list[Measurement]] = {}
  for m in measurements:
    row = m.row
    if row["method"] in ("balanced", "constant"):
      continue
    if row["seconds_alone"] > 0:
      key = row.get("after"), row["method"], row.get("schedule")
      groups.setdefault(key, []).append(m)
  values = [m.row["objective"] for m in measurements]
  axis.set(
    xscale="log",
    xlabel="seconds per network, one at a time",
    ylabel="objective on test images",
  )
  if min(values) > 0:
    look.log_scale(axis)
  axis.margins(x=0.12, y=0.08)
  labels, segments = [], []
  for points in groups.values():
    rows = [m.row for m in points]
    color = look.color(rows[0]["method"])
    x = [row["seconds_alone"] for row in rows]
    y = [row["objective"] for row in rows]
    style: dict[str, Any] = {"marker": "*", "markersize": 6}
    if rows[0]["method"] in OPTIMIZERS:
      style = {"marker": "o"}
    axis.plot(x, y, color=color, **style)
    labels.append(look.Label(x[-1], y[-1], _curve_label(rows), color))
    segments.append((x, y))
    for seconds, m in zip(x, points, strict=True):
      whisker = np.quantile(m.objective, SPREAD)
      axis.vlines(seconds, *whisker, color=color, alpha=0.3, linewidth=2)
      segments.append(([seconds] * 2, whisker))
  for row in references:
    axis.axhline(
      row["objective"], color=look.color(row["method"]), linestyle=":"
    )
    segments.append((axis.get_xlim(), [row["objective"]] * 2))
  right = axis.get_xlim()[1]
  look.label_ends(
    axis,
    [
      look.Label(right, row["objective"], label(row), look.color(row["method"]))
      for row in references
    ],
  )
  look.label_points(axis, labels, segments)
  return figure


def _curve_label(points: Sequence[Keys]) -> str:
  """The label of a curve: of its last row, with the span of its epochs."""
  first, last = points[0], points[-1]
  if len(points) == 1:
    return label(last)
  span = f"{first['epochs']} to {epochs_text(last['epochs'])}"
  text = f"{optimizer_label(last)}, {span}"
  return f"{STARTS[last['after']]} + {text}" if "after" in last else text


def sparsity(measurements: Sequence[Measurement], heading: str) -> Figure:
  """Accuracy against the share of weights that are set to zero.

  Bands reach from the 10th to the 90th percentile of the test networks.
  """
  figure = Figure(figsize=(look.COLUMN, look.HEIGHT))
  figure.suptitle(f"{heading};\nmean, and 10th to 90th percentile")
  axis = figure.subplots()
  ends = []
  for m in measurements:
    if m.at_sparsity is not None:
      color, mean = look.color(m.row["method"]), m.at_sparsity.mean(1)
      axis.plot(SHARES, mean, "o-", color=color, label=label(m.row))
      low, high = np.quantile(m.at_sparsity, SPREAD, axis=1)
      axis.fill_between(SHARES, low, high, color=color, alpha=0.1, linewidth=0)
      ends.append(look.Label(SHARES[-1], mean[-1], label(m.row), color))
  axis.set(
    xlabel="share of weights set to zero, smallest first",
    ylabel="accuracy on test images",
    ylim=(0, 1.02),
  )
  look.label_ends(axis, ends)
  return figure
