"""Saving and loading of trained metanetworks: one small file each."""

import json
import math
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import io
from scalegmn_jax.base import (
  InputError,
  Params,
  Space,
  TargetNetwork,
  Weights,
  leaf_name,
)
from scalegmn_jax.gmn import metanetworks, options
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.described import axis_values
from scalegmn_jax.targets.registry import make_target
from scalegmn_jax.trained import LINKS, TrainedFunctional, TrainedOperator

OPERATOR = "operator.npz"
FUNCTIONAL = "functional.npz"
PRETRAINED = Path(__file__).with_name("pretrained")

FORMAT = 2
"""The number in the header of files; files without a number are format 1."""

RENAMED_SINCE_1 = {
  "edge_chunk": "edge_block",
  "combinations": "class_combinations",
}
"""Keyword arguments of metanetworks in format 1 and their present names."""

AnyTrained = TypeVar("AnyTrained", TrainedOperator, TrainedFunctional)


def save_operator(
  folder: str | os.PathLike[str],
  target: TargetNetwork,
  model: Mapping[str, Any],
  params: Params,
  *,
  about: Mapping[str, Any] | None = None,
) -> Path:
  """Writes `<folder>/operator.npz`: parameters, and how to rebuild them.

  Args:
    folder: an existing folder.
    target: the architecture. Without a description, or with the description of
      a function that is not registered, loading has to be given the target.
    model: keyword arguments of `metanetworks.operator`, JSON values.
    params: φ.
    about: what it was trained on, JSON values. `repr` shows the keys `ESSENCE`:
      "images", "shape" and "scaling". Calls compare networks with "statistics",
      the result of `eval.weight_range.measure`, and those with `keep_unlike`
      with "likeness", that of `eval.likeness.measure`.

  Raises:
    InputError: what could not be loaded again: the model or `about` is not
      JSON, or the parameters do not fit the model or are not finite.
  """
  return _save(
    io.as_path(folder) / OPERATOR,
    TrainedOperator,
    target,
    model,
    params,
    about,
    {},
  )


def save_functional(
  folder: str | os.PathLike[str],
  target: TargetNetwork,
  model: Mapping[str, Any],
  params: Params,
  *,
  link: str = "identity",
  about: Mapping[str, Any] | None = None,
) -> Path:
  """Writes `<folder>/functional.npz`: parameters, and how to rebuild them.

  Args:
    folder: an existing folder.
    target: the architecture. Without a description, or with the description of
      a function that is not registered, loading has to be given the target.
    model: keyword arguments of `metanetworks.functional`, JSON values.
    params: φ.
    link: a key of `LINKS`.
    about: what it was trained on, JSON values, see `save_operator`.

  Raises:
    InputError: there is no such link, or what could not be loaded again: the
      model or `about` is not JSON, or the parameters do not fit the model or
      are not finite.
  """
  if link not in LINKS:
    raise InputError(f"link is {link!r}, expected one of {', '.join(LINKS)}")
  return _save(
    io.as_path(folder) / FUNCTIONAL, TrainedFunctional, target, model, params,
    about, {"link": link},
  )  # fmt: skip


def load_operator(
  folder: str | os.PathLike[str], target: TargetNetwork | None = None
) -> TrainedOperator:
  """Loads the operator that a run saved in its folder.

  Args:
    folder: of the run.
    target: the architecture; None to rebuild it from its description.

  Raises:
    InputError: there is none, its file is damaged or of a newer version, or the
      target is missing or another one.
  """
  return _load(io.as_path(folder) / OPERATOR, TrainedOperator, target)


def load_functional(
  folder: str | os.PathLike[str], target: TargetNetwork | None = None
) -> TrainedFunctional:
  """Loads the functional that a run saved in its folder.

  Args:
    folder: of the run.
    target: the architecture; None to rebuild it from its description.

  Raises:
    InputError: there is none, its file is damaged or of a newer version, or the
      target is missing or another one.
  """
  return _load(io.as_path(folder) / FUNCTIONAL, TrainedFunctional, target)


def pretrained(name: str) -> TrainedOperator:
  """Loads an operator that comes with the package.

  Args:
    name: of a file in `scalegmn_jax/pretrained`, such as "cnn_digits". The
      README there lists how each was trained and what it reaches.

  Raises:
    InputError: there is no such operator.
  """
  names = sorted(path.stem for path in PRETRAINED.glob("*.npz"))
  if name not in names:
    raise InputError(
      f"no pretrained operator {name!r}, expected one of {', '.join(names)}"
    )
  return _load(PRETRAINED / f"{name}.npz", TrainedOperator, None)


def _save(
  path: Path,
  trained: type[AnyTrained],
  target: TargetNetwork,
  model: Mapping[str, Any],
  params: Params,
  about: Mapping[str, Any] | None,
  header: Mapping[str, Any],
) -> Path:
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  header = {
    "format": FORMAT,
    "target": dict(target.description),
    "architecture": _architecture(target, shapes),
    "model": dict(model),
    "about": dict(about or {}),
    **header,
  }
  try:
    header = json.loads(json.dumps(header, allow_nan=False))
  except (TypeError, ValueError) as error:
    raise InputError(f"{path}: expected JSON values: {error}") from None
  arrays = {
    f"{_PARAMS}{name}": np.asarray(value)
    for name, value in flax.traverse_util.flatten_dict(params, sep="/").items()
  }
  try:
    _check_arrays(arrays)
    _check_about(header["about"], shapes)
    _check_params(trained.build(target, **model), params)
  except (TypeError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise InputError(f"{path}: could not be loaded again: {reason}") from None
  _write(path, header, arrays)
  return path


def _write(
  path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
  header = {**header, _CHECKSUM: _checksum(header, arrays)}
  with io.replace_file(path) as file:
    text = np.array(json.dumps(header))
    np.savez(file, allow_pickle=False, header=text, **arrays)


_PARAMS = "params/"
_CHECKSUM = "sha256"


def _checksum(
  header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
  """A digest of a file: of its arrays and of its header without the digest."""
  text = np.array(json.dumps(header, sort_keys=True))
  return io.digest({**arrays, "header": text})


def _architecture(target: TargetNetwork, shapes: Weights) -> dict[str, Any]:
  """What a target has to share with the target of a file, as JSON values."""
  leaves = specs.leaves(target.spec, shapes)
  symmetry = [
    [_space(name, space) for name, space in target.spec.spaces.items()],
    [[axis_values(axis) for axis in axes.axes] for _, _, axes in leaves],
  ]
  return {
    "weights": {name: list(leaf.shape) for name, leaf, _ in leaves},
    "input_shape": list(target.input_shape),
    "activations": list(target.activations),
    "symmetry": symmetry,
  }


def _space(name: str, space: Space) -> list[Any]:
  values = [name, space.size, *space.groups]
  if space.multipliers or not space.permuted:
    values.append([space.permuted, *space.multipliers])
  return values


def _check_architecture(path: Path, expected: Any, found: Any) -> None:
  """Raises InputError for a target that is not the target of the file."""
  ours, theirs = found["weights"], expected["weights"]
  for name in [*theirs, *ours]:
    if ours.get(name) != theirs.get(name):
      raise InputError(
        f"{path}: the target has weight {name} of shape {ours.get(name)}, "
        f"expected {theirs.get(name)} as in the target that was saved"
      )
  for key, value in found.items():
    if expected[key] != value:
      text = "" if key == "symmetry" else f" {value}, expected {expected[key]}"
      raise InputError(
        f"{path}: the target has another {key} than the target that was saved"
        f"{text and ':'}{text}"
      )


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
  """Raises ValueError for arrays that are no finite real parameters."""
  for name, array in arrays.items():
    if not name.startswith(_PARAMS):
      raise ValueError(f"array {name} is no parameter")
    if not np.issubdtype(array.dtype, np.floating):
      raise ValueError(f"{name} is {array.dtype}, expected real floats")
    if not np.isfinite(array).all():
      raise ValueError(f"{name} holds NaN or infinity")


def _check_about(about: Any, shapes: Weights) -> None:
  """Raises ValueError for statistics and likeness that calls could not use."""
  if "likeness" in about and not -1 <= about["likeness"]["least"] <= 1:
    raise ValueError("the least likeness is no cosine")
  statistics = about.get("statistics")
  if statistics is None:
    return
  paths = jax.tree_util.tree_leaves_with_path(shapes)
  names = {leaf_name(path) for path, _ in paths}
  ranges = statistics["range"]
  if set(ranges) != names or not all(
    0 <= low <= high < math.inf for low, high in ranges.values()
  ):
    raise ValueError(
      "statistics have other weights than the target, or no range"
    )


def _check_params(metanetwork: Any, params: Params) -> None:
  """Raises ValueError unless the parameters fit."""

  def shapes(tree: Params) -> dict[str, list[int]]:
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name: list(jnp.shape(p)) for name, p in flat.items()}

  found = shapes(params)
  expected = shapes(jax.eval_shape(metanetwork.init, jax.random.key(0)))
  for name in [*expected, *found]:
    if found.get(name) != expected.get(name):
      raise ValueError(
        f"its parameters do not fit its model: {name} has shape "
        f"{found.get(name)}, expected {expected.get(name)}"
      )


_MOST_WEIGHTS = 10**8
"""Weights of a target for which a graph is made without other evidence."""


def _check_sizes(
  target: TargetNetwork,
  shapes: Weights,
  model: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
) -> None:
  """Raises ValueError for sizes that the arrays of the file contradict.

  Building a metanetwork of absurd sizes would take minutes or all memory.
  """
  count = sum(array.size for array in arrays.values())
  limits = {"width": count, "outputs": count, "depth": len(arrays)}
  if model.get("prototypes", 1):  # functionals have probes without prototypes
    limits |= {"prototypes": count, "classes": count, "probes": count}
    if model.get("class_combinations"):  # a parameter per pair of classes
      limits["classes"] = math.isqrt(2 * count)
  for name, limit in limits.items():
    if model.get(name, 0) > limit:
      raise ValueError(f"{name} is {model[name]}, its parameters say otherwise")
  output = specs.output_name(target.spec)
  sizes = [
    (leaf.size, any(axis.space == output for axis in axes.acting()), axes)
    for _, leaf, axes in specs.leaves(target.spec, shapes)
  ]
  # Prototypes hold all weights between hidden neurons.
  hidden = sum(
    size for size, last, axes in sizes if not last and not axes.statistic
  )
  if model.get("prototypes") and hidden > count:
    raise ValueError(f"its target has {hidden} weights, its parameters {count}")
  total = sum(size for size, *_ in sizes)
  if total > _MOST_WEIGHTS:
    raise ValueError(
      f"its target has {total} weights, expected at most {_MOST_WEIGHTS}"
    )


def _upgraded(
  header: Mapping[str, Any], target: TargetNetwork
) -> Mapping[str, Any]:
  """The keyword arguments of the metanetwork, in the names of `FORMAT`."""
  model = header["model"]
  if header.get("format", 1) > 1:
    return model
  model = {RENAMED_SINCE_1.get(name) or name: v for name, v in model.items()}
  # Version 0.1 accepted arguments without effect.
  unused = options.unused(model, metanetworks.acting_groups(target.spec))
  return {name: v for name, v in model.items() if name not in unused}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """(header, {name: array}) of a file, with any content."""
  content = path.read_bytes()
  with np.load(BytesIO(content), allow_pickle=False) as file:
    sizes = [info.file_size for info in file.zip.infolist()]
    if sum(sizes) > len(content):
      raise ValueError("its arrays are compressed")
    arrays = {name: file[name] for name in file.files}
  header = json.loads(str(arrays.pop("header")))
  sections = ("target", "model", "about")
  if not isinstance(header, dict) or not all(
    isinstance(header.get(name, {}), dict) for name in sections
  ):
    raise ValueError("its header is no JSON object")
  return header, arrays


def _rebuilt(
  path: Path, header: Mapping[str, Any], target: TargetNetwork | None
) -> TargetNetwork:
  """The given target, or the target of the description in the header."""
  if target is not None:
    return target
  if not header["target"]:
    raise InputError(
      f"{path}: its target is user-defined, without a description; give target="
    )
  try:
    return make_target(header["target"])
  except InputError as error:
    raise InputError(f"{path}: {error}; register it or give target=") from None


def _load(
  path: Path, trained: type[AnyTrained], target: TargetNetwork | None
) -> AnyTrained:
  """Loads a metanetwork of either kind."""
  kind = trained.kind
  if not path.exists():
    folder = path.parent
    inside = [
      str(file.parent.relative_to(folder))
      for depth in ("*", "*/*")
      for file in sorted(folder.glob(f"{depth}/{path.name}"))
    ]
    hint = f"there are {', '.join(inside)}" if inside else "train one first"
    raise InputError(f"{path}: no trained {kind} here; {hint}")
  expected = f"a trained {kind}"
  with io.input_errors(path, expected):
    header, arrays = _read(path)
    newer = header.get("format", 1) > FORMAT
  if newer:
    raise InputError(
      f"{path}: format {header['format']}, written by a newer scalegmn-jax; "
      f"expected at most {FORMAT}"
    )
  with io.input_errors(path, expected):
    _check_arrays(arrays)
    checksum = header.pop(_CHECKSUM, None)  # older files have none
    if checksum not in (None, _checksum(header, arrays)):
      raise ValueError("its checksum is wrong: it was damaged or changed")
    target = _rebuilt(path, header, target)
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    if "architecture" in header:
      found = _architecture(target, shapes)
      _check_architecture(path, header["architecture"], found)
    model, about = _upgraded(header, target), header.get("about", {})
    _check_sizes(target, shapes, model, arrays)
    _check_about(about, shapes)
    metanetwork = trained.build(target, **model)
    link = header.get("link", "identity")
    if link not in LINKS:
      raise ValueError(f"no link {link!r}")
    # One transfer: one for each array would compile a program per shape.
    flat = jax.device_put(
      {name.removeprefix(_PARAMS): array for name, array in arrays.items()}
    )
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    _check_params(metanetwork, params)
  return trained(target, metanetwork, params, model, link, about)
