"""Editing of implicit representations.

An operator turns the network of an image into the network of its dilation.
"""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.edit_inr import data as edit_data
from experiments.edit_inr import methods, report
from experiments.inr import methods as inr_methods
from experiments.inr.data import make_renderer
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import select_best
from scalegmn_jax.base import Params
from scalegmn_jax.batched import edit_networks
from scalegmn_jax.data import pictures
from scalegmn_jax.partial import NOTHING, Partial


def check(config: ConfigDict) -> None:
  """Raises InputError for values that no run can have."""
  inr_methods.check(config, methods.METHODS)


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def plan(config: ConfigDict) -> Plan:
  """Operators by method and learning rate, measured on test networks."""
  data = edit_data.load(config)
  render = make_renderer(data.inrs)
  operators = methods.make_operators(config, data)
  edit = {name: edit_networks(operator) for name, operator in operators.items()}
  jobs = methods.make_jobs(config, data, operators, edit, render)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    networks, dilated = data.networks["test"], data.dilated["test"]
    original = render(networks)
    dilated_inr = pictures.dilated(original)

    def image_row(method, images):
      row = methods.image_row(images, dilated, dilated_inr)
      return {"method": method} | row

    rows = [
      image_row("original", original),
      image_row("mean_image", methods.mean_image(data)),
    ]
    images = {"original": original}
    for method in operators:
      progress.console.print(f"measure {label({'method': method})}")
      best = select_best(jobs[method], params)
      edited = render(edit[method](best.params, networks))
      rows.append(
        image_row(method, edited)
        | partial.remember_row(
          method,
          functools.partial(
            methods.operator_row, data, edit[method], best.params, config.seed
          ),
        )
        | {
          "val_mse": best.metrics["val_objective"],
          "learning_rate": best.job.learning_rate,
        }
      )
      if method in methods.SCALEGMN:
        images[method] = edited
    return report.outcome(config, data, rows, images)

  all_jobs = {k: v for group in jobs.values() for k, v in group.items()}
  return Plan(all_jobs, evaluate)
