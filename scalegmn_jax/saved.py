"""Trained metanetworks as things one keeps: one small file each."""

import dataclasses
import functools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
from scalegmn_jax.targets.registry import make_target

OPERATOR = "operator.npz"
FUNCTIONAL = "functional.npz"
PRETRAINED = Path(__file__).with_name("pretrained")

LINKS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "identity": lambda output: output,
  "sigmoid": jax.nn.sigmoid,
}
"""From the output of a functional to what it predicts."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Trained:
  target: TargetNetwork
  metanetwork: MetaNetwork
  params: Params
  model: Mapping[str, Any]

  @functools.cached_property
  def _apply(self) -> Callable[..., Any]:
    """Compiled when it is first called, φ being part of the program."""
    return jax.jit(functools.partial(self.metanetwork.apply, self.params))


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedOperator(_Trained):
  """An operator that was trained.

  It is compiled when it is first called; `jax.vmap` and `jax.jit` take it.

  Attributes:
    target: the architecture of the networks it edits.
    metanetwork: init and apply.
    params: φ.
    model: keyword arguments of `metanetworks.operator`.
  """

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> Weights:
    """Better weights for one network: θ -> θ', equivariant."""
    return self._apply(weights, activation)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedFunctional(_Trained):
  """A functional that was trained.

  It is compiled when it is first called; `jax.vmap` and `jax.jit` take it.

  Attributes:
    target: the architecture of the networks it reads.
    metanetwork: init and apply.
    params: φ.
    model: keyword arguments of `metanetworks.functional`.
    link: a key of `LINKS`.
  """

  link: str

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> jax.Array:
    """What it predicts of one network: θ -> [K], invariant."""
    return LINKS[self.link](self._apply(weights, activation))


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
  return _save(Path(folder) / OPERATOR, target, {"model": dict(model)}, params)


def save_functional(
  folder: str | os.PathLike[str],
  target: TargetNetwork,
  model: Mapping[str, Any],
  params: Params,
  *,
  link: str = "identity",
) -> Path:
  """Writes `<folder>/functional.npz`, as `save_operator` does.

  Args:
    folder: that exists.
    target: with a description.
    model: keyword arguments of `metanetworks.functional`, JSON values.
    params: φ.
    link: a key of `LINKS`.
  """
  header = {"model": dict(model), "link": link}
  return _save(Path(folder) / FUNCTIONAL, target, header, params)


def load_operator(folder: str | os.PathLike[str]) -> TrainedOperator:
  """The operator that a run left in its folder.

  Raises:
    InputError: there is none, or its file is damaged.
  """

  return _load(Path(folder) / OPERATOR, "operator", _build_operator)


def pretrained(name: str) -> TrainedOperator:
  """An operator that comes with the package.

  Args:
    name: of a file in `scalegmn_jax/pretrained`, whose README says how each was
      trained and what it reaches, such as "cnn_digits".

  Raises:
    InputError: there is no such operator.
  """
  path = PRETRAINED / f"{name}.npz"
  names = sorted(p.stem for p in PRETRAINED.glob("*.npz"))
  if name not in names:
    raise InputError(
      f"no pretrained operator {name!r}, expected one of {', '.join(names)}"
    )
  return _load(path, "operator", _build_operator)


def load_functional(folder: str | os.PathLike[str]) -> TrainedFunctional:
  """The functional that a run left in its folder.

  Raises:
    InputError: there is none, or its file is damaged.
  """

  def build(target, header):
    if header["link"] not in LINKS:
      raise ValueError(f"no link {header['link']!r}")
    return TrainedFunctional(
      target,
      metanetworks.functional(target, **header["model"]),
      None,
      header["model"],
      header["link"],
    )

  return _load(Path(folder) / FUNCTIONAL, "functional", build)


def _save(
  path: Path,
  target: TargetNetwork,
  header: Mapping[str, Any],
  params: Params,
) -> Path:
  text = json.dumps({"target": dict(target.description), **header})
  arrays = {
    f"params/{name}": np.asarray(value)
    for name, value in flax.traverse_util.flatten_dict(params, sep="/").items()
  }
  temporary = path.with_suffix(".tmp.npz")
  np.savez(temporary, allow_pickle=False, header=np.array(text), **arrays)
  os.replace(temporary, path)
  return path


def _build_operator(
  target: TargetNetwork, header: Mapping[str, Any]
) -> TrainedOperator:
  model = header["model"]
  operator = metanetworks.operator(target, **model)
  return TrainedOperator(target, operator, None, model)


def _load(
  path: Path,
  kind: str,
  build: Callable[[TargetNetwork, Mapping[str, Any]], Any],
) -> Any:
  """What `build` makes of (target, header), with the parameters of the file."""
  if not path.exists():
    raise InputError(f"{path}: no trained {kind} here; train one first")
  try:
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
      header = json.loads(str(file["header"]))
      flat = {
        name.removeprefix("params/"): jnp.asarray(file[name])
        for name in file.files
        if name != "header"
      }
    trained = build(make_target(header["target"]), header)
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    expected = jax.eval_shape(trained.metanetwork.init, jax.random.key(0))
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
      f"{path}: not a trained {kind}: {str(error).splitlines()[0]}"
    ) from None
  return dataclasses.replace(trained, params=params)
