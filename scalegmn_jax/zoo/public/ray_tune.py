"""Zoos of small CNNs in folders of ray tune.

Schürholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural
Network Models" (2022, arXiv:2209.14764): a folder per training with
`params.json`, `result.json` (an object per line) and a state dict in
`checkpoint_<epoch>/checkpoints`.
"""

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scalegmn_jax.base import InputError, TargetNetwork
from scalegmn_jax.files import pickled
from scalegmn_jax.files.content import unwrap
from scalegmn_jax.io import input_errors
from scalegmn_jax.targets.cnn import cnn
from scalegmn_jax.zoo import pytorch
from scalegmn_jax.zoo.names import number_key
from scalegmn_jax.zoo.public.source import (
  Source,
  existing_folder,
  from_files,
  read_json,
)

PARAMS, RESULTS, STATE = "params.json", "result.json", "checkpoints"

_TYPES = {
  "CNN": ((28, 28), (8, 6, 4), (5, 5, 2), (2, 2, 1)),
  "CNN2": ((28, 28), (6, 9, 6), (5, 5, 2), (2, 2, 1)),
  "CNN3": ((32, 32), (16, 32, 15), (3, 3, 3), (2, 2, 2)),
}
"""{model::type: (size of images, channels, kernel sizes, max pools)}. Each has
dense layers of 20 and 10 neurons."""

_ACTIVATIONS = {"leakyrelu": "leaky_relu", "relu": "relu", "tanh": "tanh"}
"""{model::nlin: our name}. The others differ: the networks pool before the
activation, which is the same as after it for these alone."""

_METRICS = {
  "train_acc": "train_accuracy",
  "val_acc": "val_accuracy",
  "test_acc": "test_accuracy",
}
_CONFIG = {
  "optim::lr": "learning_rate",
  "optim::wd": "l2reg",
  "optim::optimizer": "optimizer",
  "model::dropout": "dropout",
  "model::init_type": "w_init",
}
"""{key of params.json: name in the metrics of the Small CNN Zoo}."""

_CHECKPOINT = re.compile("checkpoint_0*([0-9]+)")
_LAST = "last"


def model_zoo(path: Path, *, steps: str = "") -> Source:
  """A zoo of Schürholt et al., from its raw folders.

  All checkpoints of a training have its folder as `modeldir`. The metrics are
  those of the line with the checkpoint's number as `training_iteration`.

  Args:
    path: the folder with the trainings, with others between.
    steps: epochs to read, "5,25,50", or "last" for the last one of each
      training; empty for all.

  Raises:
    InputError: no such folders, networks of several architectures, or of none
      that is known.
  """
  path = existing_folder(path)
  trials = sorted(
    (file.parent for file in path.rglob(PARAMS)),
    key=lambda trial: number_key(trial.as_posix()),
  )
  if not trials:
    raise InputError(f"{path}: no {PARAMS} in it, expected folders of ray tune")
  params = {trial: _read_params(trial) for trial in trials}
  files, rows = [], []
  for trial in trials:
    name = trial.relative_to(path).as_posix()
    for step, file in _checkpoints(trial, steps):
      files.append(file)
      rows.append(
        {"modeldir": name, "step": step, **_config_columns(params[trial])}
      )
  if not files:
    raise InputError(
      f"{path}: no checkpoint_<epoch>/{STATE} of the steps {steps or 'all'} in "
      f"{len(trials)} trainings"
    )
  target = _target(params)
  metrics = pd.DataFrame(rows)
  # A network of another activation is refused when its file is read.
  activations = {trial: target.activations[0] for trial in trials} | {
    trial: _ACTIVATIONS[values["model::nlin"]]
    for trial, values in params.items()
    if values["model::nlin"] in _ACTIVATIONS
  }
  metrics["config.activation"] = [activations[f.parents[1]] for f in files]

  # The checkpoints of a training follow each other.
  results_of = functools.lru_cache(maxsize=1)(_results)

  def read(file: Path) -> pytorch.Checkpoint:
    trial = file.parents[1]
    _check_known(trial, params[trial])
    result = results_of(trial).get(_step(file.parent))
    if result is None:
      raise InputError(
        f"{trial / RESULTS}: no line with training_iteration "
        f"{_step(file.parent)}, expected the metrics of {file.parent.name}"
      )
    state = unwrap(pickled.load(file), None, file)
    return pytorch.Checkpoint(state, result)

  return from_files(files, target, metrics, read=read)


def _read_params(trial: Path) -> dict[str, Any]:
  expected = "the parameters of a training, with model::type and model::nlin"
  file = trial / PARAMS
  params = read_json(file, expected)
  needed = ("model::type", "model::nlin", "model::channels_in")
  if not isinstance(params, dict) or not set(needed) <= set(params):
    raise InputError(f"{file}: expected an object with {', '.join(needed)}")
  return params


def _config_columns(params: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters that are numbers or texts, as columns."""
  return {
    f"config.{_CONFIG.get(key, key.replace('::', '.'))}": value
    for key, value in params.items()
    if isinstance(value, int | float | str)
  }


def _step(checkpoint: Path) -> int:
  match = _CHECKPOINT.fullmatch(checkpoint.name)
  return int(match[1]) if match else -1


def _checkpoints(trial: Path, steps: str) -> list[tuple[int, Path]]:
  """(epoch, file) of the selected checkpoints of a training, ascending."""
  found = sorted(
    (_step(file.parent), file)
    for file in trial.glob(f"checkpoint_*/{STATE}")
    if _step(file.parent) >= 0
  )
  if steps == _LAST:
    return found[-1:]
  if not steps:
    return found
  try:
    wanted = {int(step) for step in steps.split(",")}
  except ValueError:
    raise InputError(
      f"steps {steps!r}: expected epochs such as 5,25,50, or {_LAST}"
    ) from None
  return [(step, file) for step, file in found if step in wanted]


def _check_known(trial: Path, params: Mapping[str, Any]) -> None:
  """Raises InputError for a network that no target computes."""
  for key, known in (("model::type", _TYPES), ("model::nlin", _ACTIVATIONS)):
    if params[key] not in known:
      raise InputError(
        f"{trial / PARAMS}: {key} {params[key]!r}, expected one of "
        f"{', '.join(known)}"
      )


def _target(params: Mapping[Path, Mapping[str, Any]]) -> TargetNetwork:
  """The architecture of all networks that are known."""
  known, first = {}, None
  for trial, values in params.items():
    try:
      _check_known(trial, values)
    except InputError as error:
      first = first or error
      continue
    known[trial] = values
  if not known:
    assert first is not None, "no trainings"
    raise first
  kinds = {(v["model::type"], v["model::channels_in"]) for v in known.values()}
  if len(kinds) > 1:
    names = ", ".join(f"{name} of {n} channels" for name, n in sorted(kinds))
    raise InputError(
      f"{next(iter(known)).parent}: networks {names}, expected one architecture"
      " per folder"
    )
  ((name, channels),) = kinds
  size, widths, kernels, pools = _TYPES[name]
  activations = {_ACTIVATIONS[v["model::nlin"]] for v in known.values()}
  return cnn(
    (*size, channels), widths, kernels, 1, "VALID", "flatten", 10,
    tuple(sorted(activations)), pools, dense=(20,),
  )  # fmt: skip


def _results(trial: Path) -> dict[int, dict[str, float]]:
  """{epoch: metrics} of a training."""
  file, results = trial / RESULTS, {}
  expected = "an object per line, the results of an epoch"
  with input_errors(file, expected), file.open(encoding="utf-8") as lines:
    for line in lines:
      result = json.loads(line)
      results[int(result["training_iteration"])] = {
        _METRICS.get(key, key): float(value)
        for key, value in result.items()
        if re.fullmatch("(train|val|test)_(acc|loss)", key)
        and isinstance(value, int | float)
        and math.isfinite(value)
      }
  return results
