"""Tables of gauge freedom, and what they say."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.gauge import l1
from experiments.gauge.networks import Measured
from experiments.runner.experiment import Table

Rows = Sequence[Mapping[str, Any]]

COUNTS = {
  "layers": ("per layer", "{}"),
  "directions": ("directions", "{:,}"),
  "weights": ("weights", "{:,}"),
  "share": ("per weight", "{:.2%}"),
  "rank": ("rank", "{:,}"),
  "rank_svd": ("rank by SVD", "{:,}"),
  "tied": ("keep the sharing", "{:,}"),
  "tested": ("tangents tested", "{:,}"),
  "felt": ("‖J t‖", "{:.1g}"),
}

SPACES = {
  "outputs": ("outputs", "{:,}"),
  "weights": ("weights", "{:,}"),
  "dimension": ("null space", "{:,}"),
  "gauge": ("gauge", "{:,}"),
  "unread": ("unread", "{:,}"),
  "inputs": ("inputs", "{:,}"),
  "seldom": ("seldom", "{:,}"),
  "joint": ("joint", "{:,}"),
  "dead": ("dead neurons", "{:,}"),
  "least": ("least σ kept", "{:.0e}"),
  "zero": ("largest σ left out", "{:.0e}"),
}

NORMS = {
  "networks": ("networks", "{:,}"),
  "l1": ("L1", "{:.0f}"),
  "l1_balanced": ("balanced", "{:.0f}"),
  "share": ("gauge", "{:.1%}"),
  "share_min": ("min", "{:.1%}"),
  "share_max": ("max", "{:.1%}"),
  "penalty": ("λ x gauge", "{:.3f}"),
  "cross_entropy": ("CE", "{:.3f}"),
}

LAYERS = {
  "l1": ("L1", "{:.0f}"),
  "l1_balanced": ("balanced", "{:.0f}"),
  "share": ("share of L1", "{:.1%}"),
  "share_balanced": ("of balanced", "{:.1%}"),
}

OPERATORS = {
  "objective": ("balanced", "{:.4f}"),
  "objective_std": ("std of seeds", "{:.4f}"),
  "objective_plain": ("plain", "{:.4g}"),
  "cross_entropy": ("CE", "{:.4f}"),
  "l1": ("L1", "{:.4g}"),
  "l1_balanced": ("L1 bal.", "{:.4g}"),
  "accuracy": ("accuracy", "{:.3f}"),
}


def counts(rows: Rows) -> Table:
  return Table(
    "gauge directions; ‖J t‖ / ‖t‖ of the worst tangent, in units of that of "
    "random directions (of a network without directions: of the scalings, "
    "which are no symmetries there)",
    COUNTS,
    rows,
    ("directions", "weights", "share", "felt"),
    "network",
  )


def spaces(found: Sequence[Measured]) -> Table:
  return Table(
    "the null space of J by cause, each beyond those before it: gauge; weights "
    "that nothing reads; constant or dependent inputs of a layer; neurons that "
    "are seldom active; several neurons jointly",
    SPACES,
    [space.row for space in found],
    ("dimension", "gauge", "unread", "inputs", "seldom", "joint"),
    "network: inputs",
  )


def norms(rows: Rows, l1: float) -> Table:
  return Table(
    f"the L1 norm of networks, means; λ = {l1:g}",
    NORMS,
    rows,
    ("l1", "l1_balanced", "share", "penalty", "cross_entropy"),
    "zoo",
  )


def layers(found: Mapping[str, l1.Sizes]) -> Table:
  """Of the L1 norms of several populations."""
  rows = [row for name, sizes in found.items() for row in _layers(name, sizes)]
  return Table(
    "the L1 norm by layer, means over the networks of the last step",
    LAYERS,
    rows,
    tuple(LAYERS),
    "layer",
  )


def _layers(name: str, found: l1.Sizes) -> list[dict[str, Any]]:
  plain, balanced = found.plain.mean(0), found.balanced.mean(0)
  return [
    {
      "method": f"{name}: layer {i + 1}",
      "l1": float(plain[i]),
      "l1_balanced": float(balanced[i]),
      "share": float(plain[i] / plain.sum()),
      "share_balanced": float(balanced[i] / balanced.sum()),
    }
    for i in range(len(plain))
  ]


def operators(
  rows: Rows, networks: Mapping[str, int], seeds: int, l1: float
) -> Table:
  return Table(
    f"cross-entropy + {l1:g} x L1, balanced and plain: {networks['test']} test "
    f"networks x test images, {networks['train']} training networks, means "
    f"over {seeds} seed" + "s" * (seeds != 1),
    OPERATORS,
    rows,
    ("objective", "objective_plain", "cross_entropy", "accuracy"),
  )


def lines(
  counted: Rows, found: Sequence[Measured], sizes: Rows, operated: Rows
) -> list[str]:
  """What the tables say."""
  return [
    *_directions(counted),
    *_null_spaces(found),
    *map(_norm, sizes),
    *_operators(operated),
  ]


def _directions(rows: Rows) -> list[str]:
  result = []
  by_name = {row["method"]: row for row in rows}
  for name, row in by_name.items():
    dense = by_name.get(f"{name}, as an MLP")
    if dense is None or not row["directions"]:
      continue
    untied = by_name[f"{name}, untied"]
    line = (
      f"{name}: {row['directions']} gauge directions of {row['weights']:,} "
      f"weights ({row['share']:.2%}), as an MLP {dense['directions']:,} of "
      f"{dense['weights']:,} ({dense['share']:.2%}), or of "
      f"{untied['weights']:,} without structural zeros ({untied['share']:.2%})"
    )
    if dense["tied"] is not None:
      line += f"; weight sharing keeps {dense['tied']} of them"
    result.append(line)
  scaled = [row["felt"] for row in rows if row["directions"]]
  others = [row["felt"] for row in rows if not row["directions"]]
  if scaled:
    line = (
      "Along a tangent outputs change at most "
      f"{max(scaled):.1g} times as much as along a random direction"
    )
    if others:
      line += f", {min(others):.1g} times where scalings are no symmetry"
    result.append(line)
  return result


def _null_spaces(found: Sequence[Measured]) -> list[str]:
  excess = {
    f"{s.name} ({s.inputs})": s.final.dimension - s.final.gauge for s in found
  }
  result = []
  equal = [name for name, more in excess.items() if not more]
  if equal:
    result.append(f"The null space of J is the gauge for {'; '.join(equal)}")
  larger = [f"{name} by {more}" for name, more in excess.items() if more]
  if larger:
    result.append(
      f"The null space of J is larger than the gauge for {'; '.join(larger)}"
    )
  return result


def _norm(row: Mapping[str, Any]) -> str:
  spread = ""
  if row["networks"] > 1:
    spread = f" ({row['share_min']:.1%} to {row['share_max']:.1%})"
  return (
    f"{row['method']}: {row['share']:.1%} of the L1 norm is gauge{spread}, "
    f"worth {row['penalty']:.3f} of the objective beside a cross-entropy of "
    f"{row['cross_entropy']:.3f}"
  )


def _operators(rows: Rows) -> list[str]:
  by_name = {row["method"]: row for row in rows}
  start = by_name["balanced"]["objective"]
  plain, balanced = (
    by_name[l1.method(penalty)] for penalty in ("plain", "balanced")
  )
  return [
    f"The objective with balanced L1 goes from {start:.4f} to "
    f"{plain['objective']:.4f} with the operator trained on the plain penalty, "
    f"to {balanced['objective']:.4f} with that trained on the balanced one",
    "An equivariant operator keeps the gauge of its input: its networks are "
    "balanced after it. Balanced before it, a neuron whose outgoing weights "
    "have decayed is small, and what it is given there as much larger",
  ]
