"""Operators that edit INRs, their training and their measurement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build
from experiments.bench.machine import median_seconds
from experiments.edit_inr.data import EditData
from experiments.inr.methods import jobs_by_method
from experiments.runner.experiment import TrainingJob
from scalegmn_jax import devices
from scalegmn_jax.base import Networks, Operator, Params
from scalegmn_jax.baselines import constant, symmetry_levels
from scalegmn_jax.batched import EditFn
from scalegmn_jax.data import pictures
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.gmn.prototypes import data_init
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import rendering_objective

SCALEGMN: Mapping[str, Mapping[str, Any]] = {
  "forward": {"bidirectional": False},
  "bidirectional": {"bidirectional": True},
  "basis": {"bidirectional": False, "depth": 0},
  "both": {"bidirectional": False},
}
"""{method: arguments of `metanetworks.operator` that differ from the config's}.
Two of them write a learned network in a basis, see `WRITING`."""

WRITING = ("basis", "both")
"""Methods that write what answers to probes say, alone or beside messages."""

CHOICE = "choice"
"""The row of what is best for each network, see `choose`."""

METHODS = (*SCALEGMN, "permutation", "mlp", "constant")

SYMMETRY_NETWORKS = 16
"""Test networks on which the symmetry error is measured."""

RenderFn = Callable[[Networks], np.ndarray]
"""networks -> the images that they render [B, H, W, C]."""


def make_operators(config: ConfigDict, data: EditData) -> dict[str, Operator]:
  """{method: operator}."""
  target, weights = data.inrs.target, data.networks["train"].weights

  def make(method):
    if method == "constant":
      return constant.constant_operator(target)
    if method in SCALEGMN:
      operator = metanetworks.operator(target, **_model(config, data, method))
      # Probes begin as pixels, prototypes as training networks.
      return data_init.init_from_data(
        operator, data.networks["train"], data.inrs.grid, config.seed
      )
    return symmetry_levels.operator_with_symmetry(
      method, config.model.to_dict(), target, weights
    )

  return {method: make(method) for method in tuple(config.methods)}


def _model(config: ConfigDict, data: EditData, method: str) -> dict[str, Any]:
  """Arguments of `metanetworks.operator` for a ScaleGMN."""
  model = {**config.model.to_dict(), **SCALEGMN[method]}
  if method in WRITING:
    model |= {
      "prototypes": 1,
      "basis": config.probes.basis,
      "probes": len(data.inrs.grid),
    }
  return model


def make_jobs(
  config: ConfigDict,
  data: EditData,
  operators: Mapping[str, Operator],
  edit: Mapping[str, EditFn],
  render: RenderFn,
) -> dict[str, dict[str, TrainingJob]]:
  """{method: {name of a job: job}}, a job per learning rate.

  Args:
    config: of the run.
    data: networks and the images that they are edited to render.
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

  def make_job(method, name, learning_rate):
    objective = rendering_objective(
      operators[method], target, batch_networks=config.train.batch_networks
    )

    def validate(params):
      rendered = render(edit[method](params, data.networks["val"]))
      return {
        "val_objective": float(_image_errors(rendered, edited["val"]).mean())
      }

    def save(folder, params):
      about = build.about(
        config, target, data.networks["train"],
        f"squared error of the {config.edit}", edited["train"].shape[1:],
      )  # fmt: skip
      save_operator(
        folder / name, target, _model(config, data, method), params, about=about
      )

    return TrainingJob(
      operators[method], objective, device_data, validate, config.train.steps,
      config.seed, save if method in SCALEGMN else None, learning_rate,
    )  # fmt: skip

  return jobs_by_method(config, make_job)


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
