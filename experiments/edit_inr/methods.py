"""Operators that edit INRs, their training and their measurement."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.edit_inr.data import EditData, Edited
from experiments.inr.data import RenderFn
from experiments.inr.methods import jobs_by_method, steps_by_method
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from experiments.writers import WRITERS, Writing
from scalegmn_jax import devices
from scalegmn_jax.base import ConditionalOperator, Networks, Params
from scalegmn_jax.batched import EditFn
from scalegmn_jax.data import pictures
from scalegmn_jax.gmn.conditional import conditional, is_own
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import rendering_objective

CHOICE = "choice"
"""The row of what is best for each network, see `choose`."""

SYMMETRY_NETWORKS = 16
"""Test networks on which the symmetry error is measured."""

Images = Mapping[str, Edited]
"""{population: the images that its networks render after each edit}."""

RenderEditsFn = Callable[[Params, Networks], Edited]
"""(φ of all edits, networks) -> what the networks render after each edit."""


def writing_of(config: ConfigDict, data: EditData) -> Writing:
  """What the operators of a run are made for; pixels are the inputs."""
  return Writing(
    data.inrs.target, data.networks["train"], data.inrs.grid,
    config.model.to_dict(), config.probes.basis, len(data.inrs.grid),
    *select.seeds(config),
  )  # fmt: skip


def make_operator(
  method: str, writing: Writing, edits: int
) -> ConditionalOperator:
  """The operator of a method, which makes all edits of the run."""
  writer = WRITERS[method]
  own = is_own if writer.shares else lambda name: True
  return conditional(writer.make(writing), edits, own=own)


def make_edits_renderer(
  data: EditData, operator: ConditionalOperator, edit: EditFn, render: RenderFn
) -> RenderEditsFn:
  """Renders networks after each edit.

  Args:
    data: has the edits.
    operator: makes them.
    edit: the operator mapped over networks.
    render: networks -> the images that they render.
  """

  def render_edits(params, networks):
    return {
      name: render(edit(operator.select(params, i), networks))
      for i, name in enumerate(data.edits)
    }

  return render_edits


def make_jobs(
  config: ConfigDict,
  data: EditData,
  writing: Writing,
  operators: Mapping[str, ConditionalOperator],
  render_edits: Mapping[str, RenderEditsFn],
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: job}}, a job per learning rate.

  Args:
    config: of the run.
    data: networks and the images that they are edited to render.
    writing: what the operators were made for.
    operators: {method: operator}.
    render_edits: {method: see `RenderEditsFn`}.
  """
  target, edited = data.inrs.target, data.edited
  shape = data.inrs.train.pictures.pixels.shape[1:]
  grid, pixels = data.inrs.grid, np.stack([*edited["train"].values()])
  device_data = devices.replicate(
    (
      data.networks["train"],
      pixels.reshape(*pixels.shape[:2], len(grid), -1),
      grid,
    )
  )

  objective = functools.partial(
    rendering_objective, target=target,
    batch_networks=config.train.batch_networks,
  )  # fmt: skip
  steps = steps_by_method(
    config, operators, lambda m: make_operator(m, writing, len(data.edits)),
    objective, device_data,
  )  # fmt: skip

  def make_job(method, name, learning_rate):
    arguments = WRITERS[method].arguments

    def validate(params):
      rendered = render_edits[method](params, data.networks["val"])
      errors = [_image_errors(rendered[e], edited["val"][e]) for e in rendered]
      return {"val_objective": float(np.mean(errors))}

    def save(folder: Path, params):
      assert arguments is not None
      for i, one in enumerate(data.edits):
        # An operator for each edit; they share parameters.
        inside = folder / name / (one if len(data.edits) > 1 else "")
        inside.mkdir(parents=True, exist_ok=True)
        about = build.about(
          config, target, data.networks["train"],
          f"squared error of the {one}", shape,
        )  # fmt: skip
        save_operator(
          inside, target, arguments(writing),
          operators[method].select(params, i), about=about,
        )  # fmt: skip

    return TrainingJob(
      operators[method], objective(operators[method]), device_data, validate,
      steps[method], writing.seed, None if arguments is None else save,
      learning_rate,
    )  # fmt: skip

  return jobs_by_method(config, make_job, operators)


def _image_errors(images: np.ndarray, expected: np.ndarray) -> np.ndarray:
  """Mean squared error of each image: two [B, H, W, C] give [B]."""
  return ((images - expected) ** 2).mean((1, 2, 3))


def choose(candidates: Sequence[np.ndarray], wanted: np.ndarray) -> np.ndarray:
  """The images of the candidate that is best for each network.

  What is wanted is the edit of what the network itself renders, so that the
  choice needs no image; it is the same for all networks of one function.

  Args:
    candidates: images [B, H, W, C] of each.
    wanted: edits of the images that the unedited networks render.

  Returns:
    Images [B, H, W, C].
  """
  images = np.stack(candidates)
  errors = [_image_errors(i, wanted) for i in images]
  return images[np.argmin(errors, 0), np.arange(len(wanted))]


def mean_image(data: EditData) -> Images:
  """The mean edited training image, once per network.

  It has the least error among all single images, which is as far as one
  network in place of all could get.
  """
  means = {
    edit: pixels.mean(0) for edit, pixels in data.edited["train"].items()
  }
  return {
    name: {
      edit: np.broadcast_to(means[edit], images.shape)
      for edit, images in population.edited.items()
    }
    for name, population in data.populations.items()
  }


def image_row(data: EditData, images: Images, wanted: Images) -> dict[str, Any]:
  """The numbers of a row: errors of the images that networks render.

  Args:
    data: the populations and their edited images.
    images: what edited networks render.
    wanted: edits of the images that the unedited networks render.
  """

  def errors(name: str, expected: Edited) -> np.ndarray:
    """[edits, B]"""
    return np.stack(
      [_image_errors(images[name][edit], expected[edit]) for edit in data.edits]
    )

  found = {n: errors(n, p.edited) for n, p in data.populations.items()}
  row = {
    "mse": float(found["test"].mean()),
    "std": float(found["test"].std()),
    "psnr": float(pictures.psnr(found["test"]).mean()),
    "mse_inr": float(errors("test", wanted["test"]).mean()),
  }
  if len(data.edits) > 1:
    for edit, of_edit in zip(data.edits, found["test"], strict=True):
      row[f"mse_{edit}"] = float(of_edit.mean())
  if "unseen" in found:
    row["mse_unseen"] = float(found["unseen"].mean())
  return row


def operator_row(
  data: EditData,
  operator: ConditionalOperator,
  edit: EditFn,
  params: Params,
  seed: int,
) -> dict[str, Any]:
  """The numbers of a row that concern the operator, on test networks.

  Args:
    data: the networks.
    operator: makes all edits.
    edit: the operator mapped over networks, see `batched.edit_networks`.
    params: φ of all edits.
    seed: of the group elements by which the symmetry error is measured.
  """
  networks = data.networks["test"]
  one, sample = networks.take(slice(1)), networks.take(slice(SYMMETRY_NETWORKS))
  update_error = measure.update_error(edit, data.inrs.target)
  selected = [operator.select(params, i) for i in range(len(data.edits))]
  errors = [update_error(p, sample, jax.random.key(seed)) for p in selected]
  return {
    "symmetry_error": float(np.max(errors)),
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    "seconds": median_seconds(lambda: edit(selected[0], one)),
  }
