"""Operators that edit INRs, their training and their measurement."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.edit_inr.data import EditData
from experiments.inr.methods import jobs_by_method, steps_by_method
from experiments.runner import select
from experiments.runner.experiment import TrainingJob
from experiments.writers import WRITERS, Writing
from scalegmn_jax import devices
from scalegmn_jax.base import Networks, Operator, Params
from scalegmn_jax.batched import EditFn
from scalegmn_jax.data import pictures
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import rendering_objective

CHOICE = "choice"
"""The row of what is best for each network, see `choose`."""

SYMMETRY_NETWORKS = 16
"""Test networks on which the symmetry error is measured."""

RenderFn = Callable[[Networks], np.ndarray]
"""networks -> the images that they render [B, H, W, C]."""


def writing_of(config: ConfigDict, data: EditData) -> Writing:
  """What the operators of a run are made for; pixels are the inputs."""
  return Writing(
    data.inrs.target, data.networks["train"], data.inrs.grid,
    config.model.to_dict(), config.probes.basis, len(data.inrs.grid),
    *select.seeds(config),
  )  # fmt: skip


def make_jobs(
  config: ConfigDict,
  data: EditData,
  writing: Writing,
  operators: Mapping[str, Operator],
  edit: Mapping[str, EditFn],
  render: RenderFn,
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: job}}, a job per learning rate.

  Args:
    config: of the run.
    data: networks and the images that they are edited to render.
    writing: what the operators were made for.
    operators: {method: operator}.
    edit: {method: the operator mapped over networks}.
    render: networks -> the images that they render.
  """
  target, edited = data.inrs.target, data.edited
  grid, pixels = data.inrs.grid, edited["train"]
  device_data = devices.replicate(
    (
      data.networks["train"],
      pixels.reshape(len(pixels), len(grid), -1),
      grid,
    )
  )

  objective = functools.partial(
    rendering_objective, target=target,
    batch_networks=config.train.batch_networks,
  )  # fmt: skip
  steps = steps_by_method(
    config, operators, lambda m: WRITERS[m].make(writing), objective,
    device_data,
  )  # fmt: skip

  def make_job(method, name, learning_rate):
    arguments = WRITERS[method].arguments

    def validate(params):
      rendered = render(edit[method](params, data.networks["val"]))
      return {
        "val_objective": float(_image_errors(rendered, edited["val"]).mean())
      }

    def save(folder, params):
      assert arguments is not None
      about = build.about(
        config, target, data.networks["train"],
        f"squared error of the {config.edit}", edited["train"].shape[1:],
      )  # fmt: skip
      save_operator(
        folder / name, target, arguments(writing), params, about=about
      )

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


def mean_image(data: EditData) -> dict[str, np.ndarray]:
  """{population: the mean edited training image, once per network}.

  It has the least error among all single images, which is as far as one
  network in place of all could get.
  """
  mean = data.edited["train"].mean(0)
  return {
    name: np.broadcast_to(mean, population.edited.shape)
    for name, population in data.populations.items()
  }


def image_row(
  data: EditData, images: Mapping[str, np.ndarray], edited_inr: np.ndarray
) -> dict[str, Any]:
  """The numbers of a row: errors of the images that networks render.

  Args:
    data: the populations and their edited images.
    images: {population: [B, H, W, C]}.
    edited_inr: edits of the images that the unedited test networks render.
  """
  errors = {
    name: _image_errors(images[name], population.edited)
    for name, population in data.populations.items()
  }
  row = {
    "mse": float(errors["test"].mean()),
    "std": float(errors["test"].std()),
    "psnr": float(pictures.psnr(errors["test"]).mean()),
    "mse_inr": float(_image_errors(images["test"], edited_inr).mean()),
  }
  if "unseen" in errors:
    row["mse_unseen"] = float(errors["unseen"].mean())
  return row


def operator_row(
  data: EditData, edit: EditFn, params: Params, seed: int
) -> dict[str, Any]:
  """The numbers of a row that concern the operator, on test networks.

  Args:
    data: the networks.
    edit: the operator, see `batched.edit_networks`.
    params: φ.
    seed: of the group elements by which the symmetry error is measured.
  """
  networks = data.networks["test"]
  one, sample = networks.take(slice(1)), networks.take(slice(SYMMETRY_NETWORKS))
  update_error = measure.update_error(edit, data.inrs.target)
  errors = update_error(params, sample, jax.random.key(seed))
  return {
    "symmetry_error": float(errors.max()),
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    "seconds": median_seconds(lambda: edit(params, one)),
  }
