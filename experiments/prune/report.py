"""What was measured of pruning, in tables, words and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.prune.methods import UNTUNED, Measured
from experiments.runner.experiment import Table

ORIGINAL = "as it is"

PUBLISHED = {
  "magnitude": (0.572, 0.523, 0.411, 0.270, 0.159),
  "iterative magnitude": (0.572, 0.549, 0.468, 0.339, 0.133),
  "L1": (0.572, 0.573, 0.570, 0.558, 0.473),
  "operator": (0.572, 0.535, 0.512, 0.508, 0.461),
  "predictor": (0.572, 0.603, 0.597, 0.563, 0.463),
}
"""Accuracy of one small CNN on CIFAR-10-GS at 0, 60, 70, 80 and 90 % of the
precursor of Kuipers et al. 2025 (arXiv:2510.08300); its network, its budget."""

Results = Mapping[str, Measured]


def _percent(share: float) -> str:
  return f"{100 * share:g} %"


def table(
  title: str, original: np.ndarray, results: Results, shares: Sequence[float]
) -> Table:
  """Mean accuracy of each method at each sparsity.

  Args:
    title: what was pruned.
    original: [networks] accuracies before.
    results: see `Measured`.
    shares: the sparsities.
  """
  several = original.size > 1
  # The networks as they are stand at 0 %, whether that is a sparsity or not.
  columns = {f"{s:g}": (_percent(s), "{:.3f}") for s in (0.0, *shares)}
  short = tuple(columns)
  if several:
    columns |= {f"std {s:g}": (f"std {_percent(s)}", "{:.3f}") for s in shares}
  columns["seconds"] = ("s per network", "{:.2g}")
  columns["data_passes"] = ("passes", "{:.3g}")
  rows: list[dict[str, Any]] = [
    {
      "method": ORIGINAL,
      "0": float(original.mean()),
      "std 0": float(original.std()),
      "seconds": 0.0,
      "data_passes": 0.0,
    }
  ]
  for name, found in results.items():
    row = {
      "method": name,
      "seconds": found.seconds,
      "data_passes": found.data_passes,
    }
    for share, accuracy in zip(shares, found.accuracy, strict=True):
      row[f"{share:g}"] = float(accuracy.mean())
      # Over networks, each with the mean over the seeds of φ.
      row[f"std {share:g}"] = float(accuracy.mean(0).std())
    rows.append(row)
  return Table(f"accuracy at each sparsity: {title}", columns, rows, short)


def published() -> Table:
  shares = (0.0, 0.6, 0.7, 0.8, 0.9)
  return Table(
    "published: one small CNN on CIFAR-10-GS, its own start and budget",
    {f"{s:g}": (_percent(s), "{:.3f}") for s in shares},
    [
      {
        "method": name,
        **{f"{s:g}": v for s, v in zip(shares, values, strict=True)},
      }
      for name, values in PUBLISHED.items()
    ],
    [f"{s:g}" for s in shares],
  )


def _budgets(results: Results) -> dict[str, Results]:
  """{title: the methods with fine-tuning, and those without}."""
  tuned = {n: m for n, m in results.items() if m.epochs}
  return {
    f"after {min(m.epochs for m in tuned.values())} epochs": tuned,
    "without fine-tuning": {
      n.removesuffix(UNTUNED): m for n, m in results.items() if not m.epochs
    },
  }


def lines(what: str, results: Results, shares: Sequence[float]) -> list[str]:
  """What a table says of the highest sparsity: which methods are best, with
  fine-tuning and without."""
  last = int(np.argmax(shares))
  said = []
  for after, found in _budgets(results).items():
    means = {n: m.accuracy[last].mean() for n, m in found.items()}
    ranked = sorted(means, key=lambda name: -means[name])
    listed = ", ".join(f"{name} {means[name]:.3f}" for name in ranked)
    said.append(f"{what}, {_percent(shares[last])} pruned, {after}: {listed}")
  return said


def spread(results: Results, shares: Sequence[float]) -> list[str]:
  """How much the seed of φ matters, for methods with several."""
  return [
    f"{name}: standard deviation over {found.accuracy.shape[1]} seeds of φ "
    + ", ".join(
      f"{accuracy.mean(1).std(ddof=1):.3f} at {_percent(share)}"
      for share, accuracy in zip(shares, found.accuracy, strict=True)
    )
    for name, found in results.items()
    if found.accuracy.shape[1] > 1
  ]


def picture(
  title: str, original: np.ndarray, results: Results, shares: Sequence[float]
) -> Figure:
  """Mean accuracy against sparsity, with fine-tuning and without; the bands
  are one standard deviation over networks to both sides."""
  budgets = _budgets(results)
  tuned = next(iter(budgets.values()))
  colors = {name: f"C{i}" for i, name in enumerate(tuned)}
  figure = Figure(figsize=(11.5, 4.2))
  axes = figure.subplots(1, len(budgets), sharey=True)
  x = 100 * np.asarray(shares)
  for axis, (after, found) in zip(axes, budgets.items(), strict=True):
    axis.axhline(original.mean(), color="black", linestyle=":", label=ORIGINAL)
    for name, measured in found.items():
      accuracy = measured.accuracy.mean(1)
      mean, std, color = accuracy.mean(1), accuracy.std(1), colors[name]
      axis.plot(x, mean, "o-", color=color, markersize=3, label=name)
      axis.fill_between(x, mean - std, mean + std, color=color, alpha=0.08)
    axis.set(
      title=after,
      xlabel="share of kernel entries that are zero, %",
      ylim=(0, 1),
    )
  axes[0].set(ylabel="accuracy, test images")
  axes[-1].legend(
    *axes[0].get_legend_handles_labels(), fontsize=7, loc="upper left",
    bbox_to_anchor=(1.02, 1), borderaxespad=0,
  )  # fmt: skip
  figure.suptitle(title, fontsize=10)
  return figure
