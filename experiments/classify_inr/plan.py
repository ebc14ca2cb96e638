"""Classification of images by the weights of networks that render them."""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.build import Work, keys
from experiments.build.schema import Key, real
from experiments.classify_inr import methods, report
from experiments.inr import methods as inr_methods
from experiments.inr.data import load_inrs
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import select_best
from scalegmn_jax.base import Params
from scalegmn_jax.batched import read_networks
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial

KEYS = {
  **inr_methods.keys_of(methods.METHODS, methods.BASELINES),
  "probes.count": keys.PROBES,
  "augment.rotation": Key(real(0, 360), "greatest angle, degrees"),
  "augment.scale": Key(
    real(0, 100, above=True), "greatest factor of the coordinates"
  ),
  "augment.shift": Key(real(0, 100), "greatest shift of the coordinates"),
  "augment.noise": Key(real(0, 1000), "standard deviation on the weights"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """No value of a key limits another one."""
  del config


def preview(config: ConfigDict) -> list[Work]:
  """The work of a run; finds mistakes before it begins."""
  return inr_methods.preview(config, metanetworks.functional, methods.METHODS)


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def plan(config: ConfigDict) -> Plan:
  """Functionals by method and learning rate, measured on test networks."""
  inrs = load_inrs(config)
  reading = methods.reading_of(config, inrs)
  functionals = methods.make_functionals(config, reading)
  read = {name: read_networks(f) for name, f in functionals.items()}
  jobs = methods.make_jobs(config, inrs, reading, functionals, read)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    rows = []
    for method in config.methods:
      progress.console.print(f"measure {label({'method': method})}")
      row: dict[str, Any] = {"method": method}
      if method in functionals:
        best = select_best(jobs[method], params)
        row |= {"learning_rate": best.job.learning_rate} | dict(best.metrics)
        measured = functools.partial(
          methods.measure_row, inrs, read[method], best.params, config.seed
        )
      else:
        measured = functools.partial(methods.BASELINES[method], inrs)
      rows.append(row | partial.remember_row(method, measured))
    return report.outcome(config, inrs, rows)

  all_jobs = {k: v for group in jobs.values() for k, v in group.items()}
  return Plan(all_jobs, evaluate)
