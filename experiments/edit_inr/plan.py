"""Editing of implicit representations.

An operator turns the network of an image into the network of its dilation, or
of another edit.
"""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.build import Work, keys
from experiments.build.schema import (
  Key,
  either,
  one_of,
  path,
  several,
  some_of,
  whole,
)
from experiments.edit_inr import data as edit_data
from experiments.edit_inr import methods, refit, report
from experiments.inr import methods as inr_methods
from experiments.inr.data import make_renderer
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import select_best
from experiments.writers import WRITERS
from scalegmn_jax.base import InputError, Params
from scalegmn_jax.batched import edit_networks
from scalegmn_jax.data import pictures
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial

KEYS = {
  **inr_methods.keys_of(WRITERS),
  "probes.basis": Key(
    whole(1, 10**5), "changes with factors read from the answers at all pixels"
  ),
  "edit": Key(
    either(one_of(*pictures.EDITS), some_of(pictures.EDITS)),
    "of the images that networks render; several: one operator for all",
  ),
  "refit.steps": Key(
    several(whole(1, 10**6), 0), "rows of Adam on each network; (): none"
  ),
  "refit.learning_rates": Key(keys.RATES, "candidates; validation selects one"),
  "ood.name": Key(
    either(one_of(""), keys.KEYS["data.name"].kind),
    "image set that no operator is trained on; '': none",
  ),
  "ood.path": Key(path("download"), "folder or file of these images"),
  "ood.zoo": Key(path("fit them"), "folder of an existing zoo of these images"),
  "ood.test_images": Key(whole(1), "the first test images"),
}
"""Keys of this experiment, see `build.schema`."""


def check(config: ConfigDict) -> None:
  """Checks values of keys that limit each other.

  Raises:
    InputError: an edit that the images of networks do not determine, with a
      rival that has nothing but these images.
  """
  if config.refit.steps and pictures.IDENTITY in edit_data.edits_of(config):
    raise InputError(
      f"config.refit.steps is {config.refit.steps}, expected () with the edit "
      f"{pictures.IDENTITY!r}: Adam is fitted to edits of what a network "
      "renders, which is then the same"
    )


def preview(config: ConfigDict) -> list[Work]:
  """The work of a run; finds mistakes before it begins."""
  parts = inr_methods.preview(config, metanetworks.operator, WRITERS)
  return parts + ([refit.preview(config)] if config.refit.steps else [])


def label(row: Mapping[str, Any]) -> str:
  """The text in the first column of a row."""
  return report.label(row)


def plan(config: ConfigDict) -> Plan:
  """Operators by method and learning rate, measured on test networks."""
  data = edit_data.load(config)
  render = make_renderer(data.inrs)
  writing = methods.writing_of(config, data)
  operators = {
    m: methods.make_operator(m, writing, len(data.edits))
    for m in config.methods
  }
  # Equivariant operators, among which the best is chosen for each network.
  scalegmns = [m for m in operators if WRITERS[m].arguments is not None]
  edit = {m: edit_networks(o.operator) for m, o in operators.items()}
  render_edits = {
    m: methods.make_edits_renderer(data, o, edit[m], render)
    for m, o in operators.items()
  }
  jobs = methods.make_jobs(config, data, writing, operators, render_edits)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    populations = data.populations
    rendered = {k: render(p.networks) for k, p in populations.items()}
    original = {k: dict.fromkeys(data.edits, i) for k, i in rendered.items()}
    wanted = {k: edit_data.edit_all(data.edits, i) for k, i in rendered.items()}

    def row(method, images) -> dict[str, Any]:
      return {"method": method} | methods.image_row(data, images, wanted)

    rows = [
      row("original", original),
      row("mean_image", methods.mean_image(data)),
    ]
    images: dict[str, edit_data.Edited] = {"original": original["test"]}
    found = {}
    for method in operators:
      progress.console.print(f"measure {label({'method': method})}")
      best = select_best(jobs[method], params)
      edited = {
        k: render_edits[method](best.params, p.networks)
        for k, p in populations.items()
      }
      rows.append(
        row(method, edited)
        | partial.remember_row(
          method,
          functools.partial(
            methods.operator_row,
            data,
            operators[method],
            edit[method],
            best.params,
            config.seed,
          ),
        )
        | {
          "val_mse": best.metrics["val_objective"],
          "learning_rate": best.job.learning_rate,
        }
      )
      found[method] = edited
      if method in scalegmns:
        images[method] = edited["test"]
    candidates = {m: found[m] for m in scalegmns}
    # Of the identity the choice would always be the original.
    if len(candidates) > 1 and pictures.IDENTITY not in data.edits:
      candidates["original"] = original
      chosen = {
        k: {
          e: methods.choose(
            [c[k][e] for c in candidates.values()], wanted[k][e]
          )
          for e in data.edits
        }
        for k in populations
      }
      seconds = sum(
        r.get("seconds", 0) for r in rows if r["method"] in candidates
      )
      rows.append(row(methods.CHOICE, chosen) | {"seconds": seconds})
    if config.refit.steps:
      progress.console.print("measure Adam")
      adam = refit.refit(config, data, render, partial.of(refit.METHOD))
      rows += [row(refit.METHOD, r.images) | dict(r.keys) for r in adam.rows]
      rows = report.with_worth(rows, adam.step_seconds)
    return report.outcome(config, data, rows, images)

  all_jobs = {k: v for group in jobs.values() for k, v in group.items()}
  return Plan(all_jobs, evaluate)
