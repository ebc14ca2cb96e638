"""Editing implicit representations: the network of an image becomes the network
of its dilation."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.bench.machine import median_seconds
from experiments.inr import renderings
from experiments.runner import progress
from experiments.runner.experiment import Outcome, Plan, Table, TrainingJob
from scalegmn_jax import batched
from scalegmn_jax.base import MetaNetwork, Params, TargetNetwork, Weights
from scalegmn_jax.baselines import constant, symmetry_levels
from scalegmn_jax.data import pictures
from scalegmn_jax.gmn import metanetworks
from scalegmn_jax.saved import save_operator
from scalegmn_jax.symmetry import measure
from scalegmn_jax.training.objectives import rendering_objective

SCALEGMN = ("forward", "bidirectional")

LABELS = {
  "forward": "ScaleGMN, forward",
  "bidirectional": "ScaleGMN, bidirectional",
  "permutation": "permutation-only GMN",
  "mlp": "flat MLP",
  "constant": "the same update for all",
}

COLUMNS = {
  "mse": ("MSE", "{:.5f}"),
  "std": ("std", "{:.5f}"),
  "psnr": ("PSNR", "{:.2f}"),
  "mse_own": ("MSE, own", "{:.5f}"),
  "val_mse": ("val. MSE", "{:.5f}"),
  "symmetry": ("symmetry error", "{:.1e}"),
  "rate": ("rate", "{:g}"),
  "parameters": ("parameters", "{:d}"),
  "seconds": ("s/network", "{:.2g}"),
}

SHORT = ("mse", "psnr", "symmetry", "seconds")

SYMMETRY = 16
"""Test networks on which the error of the symmetry is measured."""


def check(config: ConfigDict) -> None:
  renderings.check(config, LABELS)


def plan(config: ConfigDict) -> Plan:
  given = renderings.fitted(config)
  target = given.target
  zoos = {
    part: renderings.folded(target, getattr(given, part).networks)
    for part in pictures.PARTS
  }
  wanted = {
    part: pictures.dilated(getattr(given, part).pictures.pixels)
    for part in pictures.PARTS
  }
  count, pixels = len(given.grid), wanted["train"]
  device_data = jax.device_put(
    (zoos["train"], pixels.reshape(len(pixels), count, -1), given.grid)
  )
  operators = {
    name: _metanetwork(name, config, target, zoos["train"].weights)
    for name in tuple(config.methods)
  }
  shots = {name: batched.edit_networks(m) for name, m in operators.items()}

  def maker(name: str) -> Callable[[str, float], TrainingJob]:
    task = rendering_objective(
      operators[name], target, networks=config.train.batch_networks
    )

    def validate(params):
      shown = renderings.rendered(given, shots[name](params, zoos["val"]))
      return {"val_objective": float(_errors(shown, wanted["val"]).mean())}

    return lambda run, rate: TrainingJob(
      operators[name], task, device_data, validate, config.train.steps,
      config.seed, _saver(run, name, config, target), rate,
    )  # fmt: skip

  runs = renderings.jobs(config, {name: maker(name) for name in operators})

  def evaluate(params: Mapping[str, Params]) -> Outcome:
    test, aim = zoos["test"], wanted["test"]
    first = jax.tree.map(lambda a: a[:1], test)
    some = jax.tree.map(lambda a: a[:SYMMETRY], test)
    before = renderings.rendered(given, test)
    own = pictures.dilated(before)
    rows = [
      _row("as is", before, aim, own),
      _row("the mean dilated image", _mean(wanted["train"], aim), aim, own),
    ]
    shown = {"image": given.test.pictures.pixels, "INR": before}
    for name, shot in shots.items():
      progress.console.print(f"measure {LABELS[name]}")
      best = renderings.best(runs[name], params)
      phi = best.params
      after = renderings.rendered(given, shot(phi, test))
      error = measure.update_error(shot, target)(
        phi, some, jax.random.key(config.seed)
      )
      rows.append(
        _row(LABELS[name], after, aim, own)
        | {
          "val_mse": best.values["val_objective"],
          "symmetry": float(error.max()),
          "rate": best.rate,
          "parameters": sum(leaf.size for leaf in jax.tree.leaves(phi)),
          "seconds": median_seconds(lambda s=shot, p=phi: s(p, first)),
        }
      )
      if name in SCALEGMN:
        shown[LABELS[name]] = after
    return _outcome(config, given, rows, shown | {"dilated image": aim})

  return Plan({k: v for r in runs.values() for k, v in r.items()}, evaluate)


def _metanetwork(
  name: str, config: ConfigDict, target: TargetNetwork, weights: Weights
) -> MetaNetwork:
  if name == "constant":
    return constant.constant_operator(target)
  if name in SCALEGMN:
    return metanetworks.operator(target, **_arguments(name, config))
  return symmetry_levels.operator_with_symmetry(
    name, config.model.to_dict(), target, weights
  )


def _arguments(name: str, config: ConfigDict) -> dict[str, Any]:
  """Of a ScaleGMN."""
  return config.model.to_dict() | {"bidirectional": name == "bidirectional"}


def _saver(run: str, name: str, config: ConfigDict, target: TargetNetwork):
  """A ScaleGMN is left in the workdir as something to load."""
  if name not in SCALEGMN:
    return None
  return lambda folder, params: save_operator(
    folder / run, target, _arguments(name, config), params
  )


def _errors(shown: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Mean squared errors of pictures: two [B, H, W, C] give [B]."""
  return ((shown - wanted) ** 2).mean((1, 2, 3))


def _mean(train: np.ndarray, test: np.ndarray) -> np.ndarray:
  """The picture of least error for all, if it may be but one."""
  return np.broadcast_to(train.mean(0), test.shape)


def _row(
  label: str, shown: np.ndarray, wanted: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
  """Errors of what networks render.

  Args:
    label: of the row.
    shown: [B, H, W, C].
    wanted: the dilated images.
    own: dilations of what the networks rendered before they were edited.
  """
  errors = _errors(shown, wanted)
  return {
    "method": label,
    "mse": float(errors.mean()),
    "std": float(errors.std()),
    "psnr": float(pictures.psnr(errors).mean()),
    "mse_own": float(_errors(shown, own).mean()),
  }


def _outcome(
  config: ConfigDict,
  given: renderings.Renderings,
  rows: list[dict[str, Any]],
  shown: dict[str, np.ndarray],
) -> Outcome:
  counts = renderings.counts(given)
  table = Table(
    f"INRs of {counts['test']} {config.data.name} test images, edited to "
    f"render their 3 x 3 dilation; {counts['train']} training INRs of "
    f"{len(set(given.train.pictures.image))} images. MSE over pixels in "
    "[0, 1], to the dilated image and (own) to the dilation of what the INR "
    "rendered",
    COLUMNS,
    rows,
    SHORT,
  )
  best = min(rows[2:], key=lambda row: row["mse"])
  lines = [
    f"{best['method']}: MSE {best['mse']:.4f}, where the network as it is has "
    f"{rows[0]['mse']:.4f} and the best single picture {rows[1]['mse']:.4f}",
    f"The INRs render their images to {given.test.psnr.mean():.1f} dB",
  ]
  examples = renderings.one_of_each(given)
  picture = renderings.gallery({k: v[examples] for k, v in shown.items()})
  return Outcome(
    [table],
    lines,
    {"edited.png": picture},
    {"inrs": counts, "psnr": float(given.test.psnr.mean())},
  )
