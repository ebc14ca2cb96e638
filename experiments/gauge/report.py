"""Tables of gauge freedom and their conclusions."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.gauge.data import FILE
from experiments.gauge.l1 import ZooNorms
from experiments.gauge.null_spaces import NullSpaceResult
from experiments.runner.experiment import Table

Row = Mapping[str, Any]

Rows = Sequence[Row]

FORMS = {
  "trained": "",
  "mlp": ", as an MLP",
  "untied": ", as an MLP without structural zeros",
}
"""Suffixes of a network: as it was trained; its CNN unrolled to an MLP; the MLP
when its structural zeros are not counted as weights."""

DIRECTIONS = {
  "layers": ("per space", "{}"),
  "directions": ("directions", "{:,}"),
  "before": ("before a scale", "{:,}"),
  "after": ("after a scale", "{:,}"),
  "summed": ("taken by sums", "{:,}"),
  "weights": ("weights", "{:,}"),
  "share": ("per weight", "{:.2%}"),
  "rank": ("rank", "{:,}"),
  "svd_rank": ("rank by SVD", "{:,}"),
  "tied": ("keep weight sharing", "{:,}"),
  "tested": ("tangents tested", "{:,}"),
  "sensitivity": ("‖J t‖", "{:.1g}"),
}

SPACES = {
  "outputs": ("outputs", "{:,}"),
  "weights": ("weights", "{:,}"),
  "dimension": ("null space", "{:,}"),
  "gauge": ("gauge", "{:,}"),
  "unread": ("unread", "{:,}"),
  "statistics": ("stats", "{:,}"),
  "inputs": ("inputs", "{:,}"),
  "seldom": ("seldom", "{:,}"),
  "joint": ("joint", "{:,}"),
  "dead": ("dead neurons", "{:,}"),
  "least": ("least σ kept", "{:.0e}"),
  "zero": ("greatest σ dropped", "{:.0e}"),
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
  "share_balanced": ("share of balanced", "{:.1%}"),
}

OPERATORS = {
  "objective": ("balanced", "{:.4f}"),
  "objective_std": ("std over seeds", "{:.4f}"),
  "objective_plain": ("plain", "{:.4g}"),
  "cross_entropy": ("CE", "{:.4f}"),
  "l1": ("L1", "{:.4g}"),
  "l1_balanced": ("L1 bal.", "{:.4g}"),
  "accuracy": ("accuracy", "{:.3f}"),
}


def label(row: Row) -> str:
  """The text in the first column of a row of any table."""
  if "method" in row:
    return _operator_label(row)
  name = "network of a file" if row["network"] == FILE else row["network"]
  name += FORMS[row.get("form", "trained")]
  if "data" in row:
    return f"{name}: {row['data']}"
  if "layer" in row:
    return f"{name}: layer {row['layer']}"
  return f"{name}, step {row['step']}" if "step" in row else name


def _operator_label(row: Row) -> str:
  if row["method"] != "operator":
    return row["method"]
  balanced = ", balanced input" if row["input"] == "balanced" else ""
  return f"operator, {row['penalty']} penalty{balanced}"


def direction_table(rows: Rows) -> Table:
  """Gauge directions of networks."""
  return Table(
    "gauge directions; ‖J t‖ / ‖t‖ of the worst tangent t, in units of the "
    "median over random directions (for a network without gauge directions, t "
    "are the scalings, which change its function). Before and after a scale: "
    "of neurons before and after the γ of a normalization. Taken by sums: how "
    "many more there would be if no two layers wrote to the same neurons, as "
    "they do in a residual stream",
    DIRECTIONS,
    rows,
    ("directions", "weights", "share", "sensitivity"),
    "network",
  )


def null_space_table(results: Sequence[NullSpaceResult]) -> Table:
  """Null spaces by cause."""
  return Table(
    "the null space of J by cause, each in addition to the causes before it: "
    "gauge; weights that no output depends on; running statistics, scale and "
    "bias of a neuron; constant or dependent inputs of a layer; neurons that "
    "are seldom active; several neurons jointly",
    SPACES,
    [result.row for result in results],
    ("dimension", "gauge", "unread", "statistics", "inputs", "seldom", "joint"),
    "network: inputs",
  )


def norm_table(results: Sequence[ZooNorms], l1: float) -> Table:
  """L1 norms of populations.

  Args:
    results: of each step of the zoo, and of a network of a file.
    l1: λ.
  """
  return Table(
    f"the L1 norm of networks, means; λ = {l1:g}",
    NORMS,
    [result.row(l1) for result in results],
    ("l1", "l1_balanced", "share", "penalty", "cross_entropy"),
    "zoo",
  )


def layer_table(results: Sequence[ZooNorms]) -> Table:
  """L1 norms of populations by layer."""
  return Table(
    "the L1 norm by layer, means over the networks of the last step",
    LAYERS,
    [row for result in results for row in _layer_rows(result)],
    tuple(LAYERS),
    "layer",
  )


def _layer_rows(result: ZooNorms) -> list[dict[str, Any]]:
  plain, balanced = (n.mean(0) for n in result.norms)
  return [
    {
      "network": result.keys["network"],
      "layer": i + 1,
      "l1": float(plain[i]),
      "l1_balanced": float(balanced[i]),
      "share": float(plain[i] / plain.sum()),
      "share_balanced": float(balanced[i] / balanced.sum()),
    }
    for i in range(len(plain))
  ]


def operator_table(
  rows: Rows, networks: Mapping[str, int], num_seeds: int, l1: float
) -> Table:
  """Scores of edited test networks.

  Args:
    rows: one per method, penalty and input.
    networks: {"train", "test": number of networks}.
    num_seeds: seeds of φ.
    l1: λ.
  """
  return Table(
    f"cross-entropy + {l1:g} x L1, balanced and plain: {networks['test']} test "
    f"networks x test images, {networks['train']} training networks, means "
    f"over {num_seeds} seed" + "s" * (num_seeds != 1),
    OPERATORS,
    rows,
    ("objective", "objective_plain", "cross_entropy", "accuracy"),
  )


def conclusions(
  directions: Rows,
  null_spaces: Sequence[NullSpaceResult],
  norms: Sequence[ZooNorms],
  operators: Rows,
  l1: float,
) -> list[str]:
  """Sentences about the tables.

  Args:
    directions: rows of the first table.
    null_spaces: results of the second table.
    norms: of the last step of the zoo, and of a network of a file.
    operators: rows of the last table.
    l1: λ.
  """
  return [
    *_direction_lines(directions),
    *_null_space_lines(null_spaces),
    *(_norm_line(result.row(l1)) for result in norms),
    *_operator_lines(operators),
  ]


def _direction_lines(rows: Rows) -> list[str]:
  lines = []
  by_form = {(row["network"], row["form"]): row for row in rows}
  for (name, form), row in by_form.items():
    mlp = by_form.get((name, "mlp"))
    if form != "trained" or mlp is None or not row["directions"]:
      continue
    untied = by_form[name, "untied"]
    line = (
      f"{label(row)}: {row['directions']} gauge directions of "
      f"{row['weights']:,} weights ({row['share']:.2%}), as an MLP "
      f"{mlp['directions']:,} of {mlp['weights']:,} ({mlp['share']:.2%}), or "
      f"of {untied['weights']:,} without structural zeros "
      f"({untied['share']:.2%})"
    )
    if mlp["tied"] is not None:
      line += f"; weight sharing keeps {mlp['tied']} of them"
    lines.append(line)
  lines += _account_lines(rows)
  measured = [row for row in rows if row["sensitivity"] is not None]
  gauge = [row["sensitivity"] for row in measured if row["directions"]]
  others = [row["sensitivity"] for row in measured if not row["directions"]]
  if gauge:
    line = (
      f"Along a tangent, outputs change at most {max(gauge):.1g} times as much "
      "as along a random direction"
    )
    if others:
      line += f"; {min(others):.1g} times if scalings are no symmetry"
    lines.append(line)
  return lines


def _account_lines(rows: Rows) -> list[str]:
  """What normalizations add to the directions, and what sums of layers take."""
  lines = []
  for row in rows:
    causes = []
    scale = "a scale, such as the γ of a normalization"
    if row["before"]:
      causes.append(f"{row['before']} of neurons before {scale}")
      scale = "it"
    if row["after"]:
      causes.append(f"{row['after']} of neurons after {scale}")
    if row["summed"]:
      causes.append(
        f"{row['summed']} more if no two layers wrote to the same neurons"
      )
    if causes:
      rank = row["rank"]
      independent = "" if rank == row["directions"] else f" (rank {rank})"
      lines.append(
        f"{label(row)}: {row['directions']} gauge directions{independent} of "
        f"{row['weights']:,} weights ({row['share']:.2%}): {', '.join(causes)}"
      )
  if any(row["before"] or row["summed"] for row in rows):
    lines.append(
      "A BatchNorm adds one direction per channel, which its γ divides out; "
      "layers that write to one residual stream share one direction per channel"
    )
  return lines


def _null_space_lines(results: Sequence[NullSpaceResult]) -> list[str]:
  equal, larger, lines = [], [], []
  for result in results:
    name, space = label(result.keys), result.final
    if more := space.dimension - space.gauge:
      known = space.statistics
      larger.append(
        f"{name} by {more}"
        + (f" ({known} of running statistics, scales, biases)" if known else "")
      )
    else:
      equal.append(name)
  if equal:
    lines.append(f"The null space of J is the gauge for {'; '.join(equal)}")
  if larger:
    lines.append(
      f"The null space of J is larger than the gauge for {'; '.join(larger)}"
    )
  return lines


def _norm_line(row: Row) -> str:
  spread = ""
  if row["networks"] > 1:
    spread = f" ({row['share_min']:.1%} to {row['share_max']:.1%})"
  return (
    f"{label(row)}: {row['share']:.1%} of the L1 norm is gauge{spread}, or "
    f"{row['penalty']:.3f} of the objective; the cross-entropy is "
    f"{row['cross_entropy']:.3f}"
  )


def _operator_lines(rows: Rows) -> list[str]:
  objective = {
    (row["method"], row.get("penalty"), row.get("input")): row["objective"]
    for row in rows
  }
  start = objective["balanced", None, None]
  plain, balanced = (
    objective["operator", penalty, "original"]
    for penalty in ("plain", "balanced")
  )
  return [
    f"The objective with balanced L1 goes from {start:.4f} to {plain:.4f} by "
    f"the operator trained with the plain penalty, to {balanced:.4f} by the "
    "operator trained with the balanced penalty",
    "An equivariant operator keeps the gauge of its input. If the input is "
    "balanced, a neuron whose outgoing weights have decayed is small, and the "
    "update of these weights is correspondingly larger",
  ]
