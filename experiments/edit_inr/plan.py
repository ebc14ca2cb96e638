"""Editing of implicit representations.

An operator turns the network of an image into the network of its dilation, or
of another edit.
"""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.build import Work, keys
from experiments.build.schema import Key, either, one_of, path, several, whole
from experiments.edit_inr import data as edit_data
from experiments.edit_inr import methods, refit, report
from experiments.inr import methods as inr_methods
from experiments.inr.data import make_renderer
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan
from experiments.runner.select import select_best
from experiments.writers import WRITERS
from scalegmn_jax.base import Params
from scalegmn_jax.batched import edit_networks
from scalegmn_jax.data import pictures
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.partial import NOTHING, Partial

KEYS = {
  **inr_methods.keys_of(WRITERS),
  "probes.basis": Key(
    whole(1, 10**5), "changes with factors read from the answers at all pixels"
  ),
  "edit": Key(one_of(*pictures.EDITS), "of the images that networks render"),
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
  """No value of a key limits another one."""
  del config


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
  operators = {m: WRITERS[m].make(writing) for m in config.methods}
  # Equivariant operators, among which the best is chosen for each network.
  scalegmns = [m for m in operators if WRITERS[m].arguments is not None]
  edit = {name: edit_networks(operator) for name, operator in operators.items()}
  jobs = methods.make_jobs(config, data, writing, operators, edit, render)

  def evaluate(
    params: Mapping[str, Params], partial: Partial = NOTHING
  ) -> Outcome:
    populations = data.populations
    original = {k: render(p.networks) for k, p in populations.items()}
    wanted = {k: data.edit(images) for k, images in original.items()}

    def row(method, images) -> dict[str, Any]:
      return {"method": method} | methods.image_row(
        data, images, wanted["test"]
      )

    rows = [
      row("original", original),
      row("mean_image", methods.mean_image(data)),
    ]
    images = {"original": original["test"]}
    found = {}
    for method in operators:
      progress.console.print(f"measure {label({'method': method})}")
      best = select_best(jobs[method], params)
      edited = {
        k: render(edit[method](best.params, p.networks))
        for k, p in populations.items()
      }
      rows.append(
        row(method, edited)
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
      found[method] = edited
      if method in scalegmns:
        images[method] = edited["test"]
    candidates = {m: found[m] for m in scalegmns}
    if len(candidates) > 1:
      candidates["original"] = original
      chosen = {
        k: methods.choose([c[k] for c in candidates.values()], wanted[k])
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
