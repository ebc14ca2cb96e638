"""Gauge freedom: what of the weights the function does not see.

Counts the gauge directions of networks and of the MLPs that compute the same
maps, shows that outputs do not change along them, and how much of an L1
penalty is gauge: in zoos, and in what operators learn from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.experiment import Outcome, Plan, Table
from experiments.tasks import gauge_l1, gauge_networks, gauge_pictures
from scalegmn_jax.base import Zoo
from scalegmn_jax.eval import scores as scoring

COUNTS = {
  "layers": ("per layer", "{}"),
  "directions": ("directions", "{:,}"),
  "weights": ("weights", "{:,}"),
  "share": ("per weight", "{:.2%}"),
  "rank": ("rank", "{:,}"),
  "rank_svd": ("rank by SVD", "{:,}"),
  "tied": ("keep the sharing", "{:,}"),
  "tested": ("tangents tested", "{:,}"),
  "felt": ("‖J t‖", "{:.0e}"),
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


def check(config: ConfigDict) -> None:
  build.need(config, "target.name", lambda v: v == "cnn", "'cnn'")
  build.need(
    config, "target.activation", lambda v: len(v) == 1, "one activation"
  )
  for key, least in (("images", 1), ("seeds", 0)):
    build.need(
      config,
      f"gauge.{key}",
      lambda v, least=least: v and v[0] >= least and list(v) == sorted(set(v)),
      f"ascending numbers from {least}",
    )
  for key in ("size", "epochs", "tested", "sample", "largest"):
    build.need(config, f"gauge.{key}", lambda v: v >= 1, "at least 1")


def plan(config: ConfigDict) -> Plan:
  data = build.build_images(config)
  build.need(
    config,
    "gauge.images",
    lambda v: v[-1] <= len(data.train_x),
    f"at most the {len(data.train_x)} training images",
  )
  target = build.build_target(config, data)
  zoos = build.build_zoos(config, target, data)
  files = build.build_zoo_files(config, target, data)
  l1 = config.loss.l1
  path = config.gauge.network_path
  given = gauge_networks.read(path, target) if path else None
  others = gauge_networks.architectures(config, data)

  def evaluate(params):
    trained = [
      gauge_networks.of_zoo(name, own, t, data)
      for name, (own, t) in {"zoo": (config, target), **others}.items()
    ]
    with jax.enable_x64(True):
      found = gauge_networks.with_mlps(
        trained if given is None else [given, *trained]
      )
      counts = gauge_networks.count(config, found, data)
      spaces = gauge_networks.null_spaces(config, found, data)

    by_step = gauge_l1.of_zoo(config, target, files)
    norms = [
      gauge_l1.row(f"zoo, step {step}", sizes, loss, l1)
      for step, (sizes, loss) in by_step.items()
    ]
    last, _ = by_step[max(by_step)]
    layers = gauge_l1.layer_rows("zoo", last)
    single = None
    if given is not None:
      # As a zoo of one, in the precision of the others.
      weights = jax.tree.map(lambda w: np.float32(w)[None], given.weights)
      zoo = Zoo(weights, np.zeros(1, np.int32))
      single = gauge_l1.sizes(target, zoo)
      score = scoring.scorer(target, l1=l1)(zoo, data.test_x, data.test_y)
      loss = float(score.cross_entropy[0])
      norms.append(gauge_l1.row(given.name, single, loss, l1))
      layers += gauge_l1.layer_rows(given.name, single)

    summary = norms[len(by_step) - 1 :]  # the last step, and the file
    operators = gauge_l1.operator_rows(config, target, data, zoos, params)
    objective = f"cross-entropy + {l1:g} x L1"
    tables = [
      Table(
        "gauge directions; ‖J t‖ / ‖t‖, the greatest of the tangents, in units "
        "of that of random directions (of networks without directions: of the "
        "scalings, which are no symmetries there)",
        COUNTS, counts, ("directions", "weights", "share", "felt"), "network",
      ),
      Table(
        "the null space of J by cause, each beyond those before it: gauge; "
        "weights that nothing reads; constant or dependent inputs of a layer; "
        "neurons that are seldom active; several neurons jointly",
        SPACES,
        [space.row for space in spaces],
        ("dimension", "gauge", "unread", "inputs", "seldom", "joint"),
        "network: inputs",
      ),
      Table(
        f"the L1 norm of zoo networks, means; λ = {l1:g}",
        NORMS, norms, ("l1", "l1_balanced", "share", "penalty"), "zoo",
      ),
      Table(
        "the L1 norm by layer, means over networks of the last step",
        LAYERS, layers, tuple(LAYERS), "layer",
      ),
      Table(
        f"{zoos.networks['test']} test networks x test images, "
        f"{zoos.networks['train']} training networks, means over "
        f"{len(config.gauge.seeds)} seeds: {objective}, balanced and plain",
        OPERATORS, operators,
        ("objective", "objective_plain", "cross_entropy", "accuracy"),
      ),
    ]  # fmt: skip
    lines = [
      *_directions(counts), *_null_spaces(spaces), *_norms(summary),
      *_operators(operators),
    ]  # fmt: skip
    pictures = {
      "directions.png": gauge_pictures.directions(target),
      "spectrum.png": gauge_pictures.spectrum(spaces),
      "images.png": gauge_pictures.images(spaces),
      "l1.png": gauge_pictures.norms(last, single),
    }
    return Outcome(
      tables,
      lines,
      pictures,
      {
        "zoo": zoos.networks,
        "null_space_by_images": {
          f"{s.name}: {s.inputs}": dict(
            zip(map(str, s.images), s.dimensions, strict=True)
          )
          for s in spaces
        },
      },
    )

  return Plan(gauge_l1.trainees(config, target, data, zoos), evaluate)


Rows = Sequence[Mapping[str, Any]]


def _directions(rows: Rows) -> list[str]:
  """The theorem in numbers, and what of the outputs moves."""
  lines = []
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
    lines.append(line)
  scaled = [row["felt"] for row in rows if row["directions"]]
  others = [row["felt"] for row in rows if not row["directions"]]
  line = (
    "Along a tangent outputs change at most "
    f"{max(scaled):.1g} of what they change along random directions"
  )
  if others:
    line += f"; where scalings are no symmetry, {min(others):.1g}"
  return [*lines, line]


def _null_spaces(spaces: Sequence[gauge_networks.Measured]) -> list[str]:
  """Where the null space is the gauge, and where it is larger."""
  excess = {
    f"{s.name}: {s.inputs}": s.final.dimension - s.final.gauge for s in spaces
  }
  lines = []
  equal = [name for name, more in excess.items() if not more]
  if equal:
    lines.append(f"The null space of J is the gauge for {', '.join(equal)}")
  larger = [f"{name} (by {more})" for name, more in excess.items() if more]
  if larger:
    lines.append(f"It is larger for {', '.join(larger)}")
  return lines


def _norms(rows: Rows) -> list[str]:
  return [
    f"{row['method']}: {row['share']:.1%} of the L1 norm is gauge "
    f"({row['share_min']:.1%} to {row['share_max']:.1%}), worth "
    f"{row['penalty']:.3f} of the objective beside a cross-entropy of "
    f"{row['cross_entropy']:.3f}"
    for row in rows
  ]


def _operators(rows: Rows) -> list[str]:
  by_name = {row["method"]: row for row in rows}
  start = by_name["balanced"]["objective"]
  plain, balanced = (
    by_name[gauge_l1.method(penalty)] for penalty in ("plain", "balanced")
  )
  return [
    "The objective with balanced L1 goes from "
    f"{start:.4f} to {plain['objective']:.4f} with the operator trained on the "
    f"plain penalty and to {balanced['objective']:.4f} with that trained on "
    "the balanced one",
    "An equivariant operator keeps the gauge: networks are balanced after it, "
    f"which takes {balanced['l1']:.4g} to {balanced['l1_balanced']:.4g}; "
    "balanced before it instead, neurons whose outgoing weights have decayed "
    "are small, and get outgoing weights that are as large",
  ]
