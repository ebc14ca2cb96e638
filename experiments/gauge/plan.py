"""Gauge freedom: what of the weights the function does not see.

Counts the gauge directions of networks and of the MLPs that compute the same
maps, shows that outputs do not change along them, and how much of an L1
penalty is gauge: in zoos, and in what operators learn from it.
"""

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.gauge import l1 as gauge_l1
from experiments.gauge import networks, tables
from experiments.gauge import pictures as gauge_pictures
from experiments.runner.experiment import Outcome, Plan
from scalegmn_jax.base import Networks
from scalegmn_jax.eval import scores as scoring


def check(config: ConfigDict) -> None:
  build.need(config, "target.name", lambda v: v == "cnn", "'cnn'")
  build.need(
    config, "target.activation", lambda v: len(v) == 1, "one activation"
  )
  for key, least in (("gauge.images", 1), ("train.seeds", 0)):
    build.need(
      config,
      key,
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
  path = config.gauge.network_path
  given = networks.read(path, target) if path else None
  others = networks.architectures(config, data)
  zoos = build.build_zoos(config, target, data)
  files = build.build_zoo_files(config, target, data)
  l1 = config.loss.l1

  def evaluate(params):
    found = [
      networks.of_zoo(name, own, t, data)
      for name, (own, t) in {"zoo": (config, target), **others}.items()
    ]
    if given is not None:
      found.insert(0, given)
    with jax.enable_x64(True):
      found = networks.with_mlps(found)
      counts = networks.count(config, found, data)
      spaces = networks.null_spaces(config, found, data)

    by_step = gauge_l1.of_zoo(config, target, files)
    last = max(by_step)
    norms = [
      gauge_l1.row(f"zoo, step {step}", sizes, loss, l1)
      for step, (sizes, loss) in by_step.items()
    ]
    final = {"zoo": by_step[last][0]}
    summary = norms[-1:]
    if given is not None:
      # As a zoo of one, in the precision of the others.
      weights = jax.tree.map(lambda w: np.float32(w)[None], given.weights)
      zoo = Networks(weights, np.zeros(1, np.int32))
      score = scoring.make_scorer(target, l1=l1)(zoo, data.test_x, data.test_y)
      final[given.name] = gauge_l1.sizes(target, zoo)
      summary.append(
        gauge_l1.row(
          given.name,
          final[given.name],
          float(score.cross_entropy[0]),
          l1,
        )
      )
      norms.append(summary[-1])
    operators = gauge_l1.operator_rows(config, target, data, zoos, params)
    pictures = {
      "directions.png": gauge_pictures.directions(target),
      "l1.png": gauge_pictures.norms(final),
    }
    if spaces:
      pictures["spectrum.png"] = gauge_pictures.spectrum(spaces)
      pictures["images.png"] = gauge_pictures.images(spaces)
    return Outcome(
      [
        tables.counts(counts),
        tables.spaces(spaces),
        tables.norms(norms, l1),
        tables.layers(final),
        tables.operators(operators, zoos.networks, len(config.train.seeds), l1),
      ],
      tables.lines(counts, spaces, summary, operators),
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

  return Plan(gauge_l1.jobs(config, target, data, zoos), evaluate)
