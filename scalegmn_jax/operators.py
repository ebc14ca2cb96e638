"""Trained operators as things one keeps: one small file."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import (
  InputError,
  MetaNetwork,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.targets.make import make_target

FILE = "operator.npz"


class TrainedOperator(NamedTuple):
  """An operator that was trained.

  Attributes:
    target: the architecture of the networks it edits.
    metanetwork: init and apply.
    params: φ.
    model: keyword arguments of `metanetworks.operator`.
  """

  target: TargetNetwork
  metanetwork: MetaNetwork
  params: Params
  model: Mapping[str, Any]

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> Weights:
    """Better weights for one network: θ -> θ', equivariant."""
    return self.metanetwork.apply(self.params, weights, activation)


def save_operator(
  folder: str | os.PathLike[str],
  target: TargetNetwork,
  model: Mapping[str, Any],
  params: Params,
) -> Path:
  """Writes `<folder>/operator.npz`: parameters, and how to rebuild them.

  Args:
    folder: that exists.
    target: with a description.
    model: keyword arguments of `metanetworks.operator`, JSON values.
    params: φ.
  """
  path = Path(folder) / FILE
  header = json.dumps(
    {"target": dict(target.description), "model": dict(model)}
  )
  arrays = {
    f"params/{name}": np.asarray(value)
    for name, value in flax.traverse_util.flatten_dict(
      params, sep="/"
    ).items()
  }
  temporary = path.with_suffix(".tmp.npz")
  np.savez(temporary, allow_pickle=False, header=np.array(header), **arrays)
  os.replace(temporary, path)
  return path


def load_operator(folder: str | os.PathLike[str]) -> TrainedOperator:
  """The operator that a run left in its workdir.

  Raises:
    InputError: there is none, or its file is damaged.
  """
  path = Path(folder) / FILE
  if not path.exists():
    raise InputError(f"{path}: no trained operator here; train one first")
  try:
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
      header = json.loads(str(file["header"]))
      flat = {
        name.removeprefix("params/"): jnp.asarray(file[name])
        for name in file.files
        if name != "header"
      }
    target = make_target(header["target"])
    metanetwork = metanetworks.operator(target, **header["model"])
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    expected = jax.eval_shape(metanetwork.init, jax.random.key(0))
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, expected):
      raise ValueError("its parameters are not those of its model")
  except (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
  ) as error:
    raise InputError(
      f"{path}: not a trained operator: {str(error).splitlines()[0]}"
    ) from None
  return TrainedOperator(target, metanetwork, params, header["model"])
