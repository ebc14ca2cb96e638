"""Tables, conclusions and pictures of pruning."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.prune.compare import Results
from experiments.prune.data import PruneData, PruneSubject
from experiments.prune.training import SINGLE
from experiments.runner import pictures as look
from experiments.runner.experiment import Table
from experiments.runner.report import percent

LABELS = {
  "original": "original",
  "magnitude": "magnitude",
  "magnitude_l1_gauge": "magnitude (L1 gauge)",
  "magnitude_as_stored": "magnitude (as stored)",
  "iterative_magnitude": "iterative magnitude",
  "l1": "L1",
  "snip": "SNIP",
  "operator": "operator",
  "predictor": "predictor",
  "constant_best": "constant: best of the zoo",
  SINGLE: "operator (trained on this network)",
}

STYLES = {
  "magnitude_l1_gauge": "s--",
  "magnitude_as_stored": "^:",
  SINGLE: "s--",
}
"""{method: marker and line, where another method has the same color}."""

PUBLISHED = {
  "magnitude": (0.572, 0.523, 0.411, 0.270, 0.159),
  "iterative_magnitude": (0.572, 0.549, 0.468, 0.339, 0.133),
  "l1": (0.572, 0.573, 0.570, 0.558, 0.473),
  "operator": (0.572, 0.535, 0.512, 0.508, 0.461),
  "predictor": (0.572, 0.603, 0.597, 0.563, 0.463),
}
"""{method: test accuracy at each of `PUBLISHED_SPARSITIES`}: one small CNN on
CIFAR-10-GS, from Kuipers et al. 2025 (arXiv:2510.08300), with the network and
the budget of that paper."""

PUBLISHED_SPARSITIES = (0.0, 0.6, 0.7, 0.8, 0.9)


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  text = _name(row)
  return text + ", no fine-tuning" if row.get("epochs") == 0 else text


def _name(row: Mapping[str, Any]) -> str:
  """The label without the epochs of fine-tuning."""
  text = LABELS[row["method"]]
  if row.get("l1_epochs"):
    text += f" ({row['l1_epochs']} epochs before)"
  return text


def table(
  subject: PruneSubject,
  original: np.ndarray,
  results: Results,
  sparsities: Sequence[float],
) -> Table:
  """Mean accuracy of each method at each sparsity.

  Args:
    subject: the pruned networks.
    original: [networks] test accuracies before pruning.
    results: {method: result}.
    sparsities: shares of kernel entries that are zero.
  """
  # The original networks have a cell at 0 %, even if that is no sparsity.
  columns = {
    f"accuracy_{s:g}": (percent(s), "{:.3f}") for s in (0.0, *sparsities)
  }
  short = tuple(columns)
  if original.size > 1:
    columns |= {
      f"std_{s:g}": (f"std {percent(s)}", "{:.3f}") for s in sparsities
    }
  columns["seconds"] = ("s per network", "{:.2g}")
  columns["data_passes"] = ("passes", "{:.3g}")
  rows: list[dict[str, Any]] = [
    {
      "method": "original",
      "accuracy_0": float(original.mean()),
      "std_0": float(original.std()),
      "seconds": 0.0,
      "data_passes": 0.0,
    }
  ]
  for key, result in results.items():
    row = key._asdict() | {
      "seconds": result.seconds,
      "data_passes": result.data_passes,
    }
    for share, accuracy in zip(sparsities, result.accuracy, strict=True):
      row[f"accuracy_{share:g}"] = float(accuracy.mean())
      # Over networks, after the mean over the seeds of φ.
      row[f"std_{share:g}"] = float(accuracy.mean(0).std())
    rows.append(row)
  title = f"accuracy at each sparsity: {subject.title}"
  return Table(title, columns, rows, short)


def published() -> Table:
  """The published accuracies, see `PUBLISHED`."""
  keys = [f"accuracy_{s:g}" for s in PUBLISHED_SPARSITIES]
  return Table(
    "published accuracy at each sparsity (Kuipers et al. 2025, "
    "arXiv:2510.08300): one small CNN on CIFAR-10-GS, another network and "
    "budget than above",
    {
      key: (percent(s), "{:.3f}")
      for key, s in zip(keys, PUBLISHED_SPARSITIES, strict=True)
    },
    [
      {"method": method, **dict(zip(keys, values, strict=True))}
      for method, values in PUBLISHED.items()
    ],
    keys,
  )


def _by_budget(results: Results) -> dict[int, Results]:
  """{epochs of fine-tuning: results}, the largest number first."""
  budgets = sorted({key.epochs for key in results}, reverse=True)
  return {
    epochs: {k: r for k, r in results.items() if k.epochs == epochs}
    for epochs in budgets
  }


def _budget_title(epochs: int) -> str:
  return f"after {epochs} epochs" if epochs else "without fine-tuning"


def ranking(
  subject: PruneSubject, results: Results, sparsities: Sequence[float]
) -> list[str]:
  """Methods by accuracy at the highest sparsity, a line per budget."""
  last = int(np.argmax(sparsities))
  lines = []
  for epochs, group in _by_budget(results).items():
    means = {
      _name(k._asdict()): r.accuracy[last].mean() for k, r in group.items()
    }
    ranked = sorted(means, key=lambda name: -means[name])
    values = ", ".join(f"{name} {means[name]:.3f}" for name in ranked)
    lines.append(
      f"{subject.title}, {percent(sparsities[last])} pruned, "
      f"{_budget_title(epochs)}: {values}"
    )
  return lines


def seed_spread(results: Results, sparsities: Sequence[float]) -> list[str]:
  """The spread over the seeds of φ, a line per method with several."""
  return [
    f"{label(key._asdict())}: standard deviation over "
    f"{result.accuracy.shape[1]} seeds of φ "
    + ", ".join(
      f"{accuracy.mean(1).std(ddof=1):.3f} at {percent(share)}"
      for share, accuracy in zip(sparsities, result.accuracy, strict=True)
    )
    for key, result in results.items()
    if result.accuracy.shape[1] > 1
  ]


def tuning(results: Results) -> list[dict[str, Any]]:
  """The settings of each method, for `results.json`."""
  return [
    key._asdict() | {"settings": result.settings, "tuning": result.tuning}
    for key, result in results.items()
  ]


def picture(
  subject: PruneSubject,
  original: np.ndarray,
  results: Results,
  sparsities: Sequence[float],
  seeds: Sequence[int],
) -> Figure:
  """Mean accuracy against sparsity, one panel per budget.

  The bands are one standard deviation over networks to both sides.
  """
  budgets = _by_budget(results)
  figure = Figure(figsize=(look.PAGE, 1.2 * look.HEIGHT))
  heading = f"{subject.title}; {look.heading({}, seeds)}"
  if original.size > 1:
    heading += "; bands: standard deviation over networks"
  figure.suptitle(heading)
  axes = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
  x = 100 * np.asarray(sparsities)
  labels = []
  for axis, (epochs, group) in zip(axes, budgets.items(), strict=True):
    axis.axhline(original.mean(), color=look.color("original"), linestyle=":")
    labels = [
      look.Label(
        x[-1], original.mean(), LABELS["original"], look.color("original")
      )
    ]
    for key, result in group.items():
      accuracy = result.accuracy.mean(1)
      mean, std = accuracy.mean(1), accuracy.std(1)
      color = look.color(key.method)
      style = STYLES.get(key.method, "o-")
      axis.plot(x, mean, style, color=color)
      axis.fill_between(
        x, mean - std, mean + std, color=color, alpha=0.08, linewidth=0
      )
      name = _name(key._asdict())
      labels.append(look.Label(x[-1], mean[-1], name, color))
    axis.set(
      title=_budget_title(epochs),
      xlabel="share of kernel entries that are zero, %",
      ylim=(0, 1.02),
    )
  axes[0].set(ylabel="accuracy, test images")
  look.label_ends(axes[-1], labels)
  return figure


def subject_report(
  data: PruneData,
  name: str,
  results: Results,
  sparsities: Sequence[float],
  seeds: Sequence[int],
) -> tuple[Table, list[str], Figure]:
  """(table, conclusions, picture) of one subject.

  Args:
    data: the subjects and the test images.
    name: of the subject.
    results: {method: result}.
    sparsities: shares of kernel entries that are zero.
    seeds: of φ.
  """
  subject = data.subjects[name]
  *_, images = data.images.device_splits()
  original = np.asarray(data.evaluate(subject.networks, *images)[1])
  lines = ranking(subject, results, sparsities)
  return (
    table(subject, original, results, sparsities),
    lines + seed_spread(results, sparsities),
    picture(subject, original, results, sparsities, seeds),
  )
