"""Operators that edit INRs, their training and their measurement."""

from collections.abc import Callable, Mapping
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
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import rendering_objective

SCALEGMN = ("forward", "bidirectional")

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
      return metanetworks.operator(target, **_model(config, method))
    return symmetry_levels.operator_with_symmetry(
      method, config.model.to_dict(), target, weights
    )

  return {method: make(method) for method in tuple(config.methods)}


def _model(config: ConfigDict, method: str) -> dict[str, Any]:
  """Arguments of `metanetworks.operator` for a ScaleGMN."""
  return config.model.to_dict() | {"bidirectional": method == "bidirectional"}


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
  target, dilated = data.inrs.target, data.dilated
  grid, pixels = data.inrs.grid, dilated["train"]
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
        "val_objective": float(_image_errors(rendered, dilated["val"]).mean())
      }

    def save(folder, params):
      about = build.about(
        config, target, data.networks["train"], "squared error of the dilation",
        dilated["train"].shape[1:],
      )  # fmt: skip
      save_operator(
        folder / name, target, _model(config, method), params, about=about
      )

    return TrainingJob(
      operators[method], objective, device_data, validate, config.train.steps,
      config.seed, save if method in SCALEGMN else None, learning_rate,
    )  # fmt: skip

  return jobs_by_method(config, make_job)


def _image_errors(images: np.ndarray, expected: np.ndarray) -> np.ndarray:
  """Mean squared error of each image: two [B, H, W, C] give [B]."""
  return ((images - expected) ** 2).mean((1, 2, 3))


def mean_image(data: EditData) -> np.ndarray:
  """The mean dilated training image, once per test network.

  It has the least error among all constant images.
  """
  dilated = data.dilated
  return np.broadcast_to(dilated["train"].mean(0), dilated["test"].shape)


def image_row(
  images: np.ndarray, dilated: np.ndarray, dilated_inr: np.ndarray
) -> dict[str, Any]:
  """The numbers of a row: errors of the images that networks render.

  Args:
    images: [B, H, W, C].
    dilated: the dilated images.
    dilated_inr: dilations of the images that the unedited networks render.
  """
  errors = _image_errors(images, dilated)
  return {
    "mse": float(errors.mean()),
    "std": float(errors.std()),
    "psnr": float(pictures.psnr(errors).mean()),
    "mse_inr": float(_image_errors(images, dilated_inr).mean()),
  }


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
