"""Saving and loading of trained metanetworks: one small file each."""

import dataclasses
import functools
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax import io
from scalegmn_jax.base import (
  Functional,
  InputError,
  Network,
  Operator,
  Params,
  TargetNetwork,
  Weights,
  leaf_name,
)
from scalegmn_jax.eval import keep_better, weight_range
from scalegmn_jax.gmn import inputs, metanetworks, options
from scalegmn_jax.inner.losses import finetune_losses
from scalegmn_jax.symmetry import spec as specs
from scalegmn_jax.targets.registry import make_target

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

ESSENCE = ("images", "shape", "scaling")
"""Keys of `about` that `repr` shows."""

LINKS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "identity": lambda output: output,
  "sigmoid": jax.nn.sigmoid,
}
"""Maps from the output of a functional to its prediction."""

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Trained(Generic[Result]):
  """A metanetwork with its parameters, as a function of one network."""

  kind: ClassVar[str]
  build: ClassVar[Callable[..., Any]]

  target: TargetNetwork
  metanetwork: Any
  params: Params
  model: Mapping[str, Any]
  link: str = "identity"
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> Result:
    """Applies the metanetwork to one network.

    Args:
      weights: θ. A warning says if they are far outside the range of the
        networks that the metanetwork was trained on, where `about` has it.
      activation: index into `target.activations`.

    Raises:
      InputError: no network of the target, or, where values are known, weights
        or a result that are not finite.
    """
    result = self._checked(weights, activation)
    self._check_result(result)
    return result

  def __repr__(self) -> str:
    count = sum(math.prod(jnp.shape(p)) for p in jax.tree.leaves(self.params))
    target = self.target.description.get("name", "user-defined")
    parts = [target, f"{count:,} parameters"]
    known = [str(self.about[key]) for key in ESSENCE if self.about.get(key)]
    if known:
      parts.append(f"for {' '.join(known)}")
    parts += [f"{name}={value!r}" for name, value in self.model.items()]
    return f"{type(self).__name__}({', '.join(parts)})"

  def _checked(self, weights: Weights, activation: jax.Array | int) -> Result:
    """The result for weights that fit; warns if they are unusual."""
    inputs.check_weights(self._shapes, weights)
    inputs.check_activation(self.target.activations, activation)
    inputs.check_finite(weights)
    result, sizes = self._apply(weights, activation)
    if sizes and inputs.known(sizes):
      self._warn_if_far(sizes)
    return result

  def _warn_if_far(self, sizes: Mapping[str, jax.Array]) -> None:
    measured = self.about["statistics"]
    far = weight_range.farthest(measured, sizes)
    if far:
      low, high = measured["range"][far[0]]
      warnings.warn(
        f"the {self.kind} was trained on other networks: weight {far[0]} has "
        f"root mean square {far[1]:.3g} in the balanced gauge, expected "
        f"{low:.3g} to {high:.3g} as in {measured['networks']} networks of its "
        f"zoo",
        stacklevel=4,
      )

  def _check_result(self, result: Result) -> None:
    # By numpy: JAX would compile a program for each shape.
    if inputs.known(result) and not all(
      np.isfinite(np.asarray(leaf, np.float64)).all()
      for leaf in jax.tree.leaves(result)
    ):
      raise InputError(
        f"the result of the {self.kind} is not finite: the weights of the "
        f"network, or its outputs, are too large or too small for float32"
      )

  @functools.cached_property
  def _shapes(self) -> Weights:
    return jax.eval_shape(self.target.init, jax.random.key(0))

  @functools.cached_property
  def _apply(self) -> Callable[..., Any]:
    """(θ, activation) -> (result, `weight_range.sizes` if `about` has theirs).

    Compiled at the first call, with φ as a constant of the program.
    """
    link = LINKS[self.link]

    def apply(weights, activation):
      result = link(self.metanetwork.apply(self.params, weights, activation))
      if "statistics" not in self.about:
        return result, {}
      weights = inputs.computed(weights)
      return result, weight_range.sizes(self.target.spec, weights, activation)

    within = jax.jit(apply)
    # One network takes a millisecond and half of the compilation is spent on
    # making it less. JAX takes options of the outermost program only.
    alone = jax.jit(
      apply, compiler_options={"xla_backend_optimization_level": 0}
    )
    return lambda *given: (alone if inputs.known(given) else within)(*given)


class TrainedOperator(_Trained[Weights]):
  """A trained operator: (weights, activation=0) -> better weights.

  Equivariant. The result has the types of the weights. The first call compiles,
  quickly rather than well; within `jax.jit` and `jax.vmap` it is optimized in
  full.

  An operator is for the networks that it was trained on, and for the images
  that these were trained on, see `about`: the weights of a network do not show
  that its images had another scaling. Some images tell, see `__call__`.

  Multipliers within the gauge have the whole range of floats. The size of the
  function has not: a result that is not finite is refused. All weights times
  1e-12 to 1e3 are in the range of CNNs with three convolutions, and times 1e-18
  to 1e7 with two. Beyond it, an equivariant result would need weights that
  float32 does not have, and features overflow.

  Attributes:
    target: the architecture of the networks that it edits.
    metanetwork: a `base.Operator`.
    params: φ.
    model: keyword arguments of `metanetworks.operator`.
    about: what it was trained on, JSON values, see `save_operator`.
  """

  kind = "operator"
  build = staticmethod(metanetworks.operator)
  metanetwork: Operator

  def __call__(
    self,
    weights: Weights,
    activation: jax.Array | int = 0,
    *,
    images: jax.Array | None = None,
    labels: jax.Array | None = None,
  ) -> Weights:
    """Edits one network.

    Args:
      weights: θ. A warning says if they are far outside the range of the
        networks that the operator was trained on, where `about` has it.
      activation: index into `target.activations`.
      images: [N, *input_shape] as the network was trained on, some tens or
        more. The network is kept as it is if the edit is worse on them.
      labels: [N], the output that stands for each image. With labels, worse is
        a higher cross-entropy; without, predictions that the network
        contradicts, see `keep_better.consistent_predictions`.

    Raises:
      InputError: no network of the target, other images or labels, or, where
        values are known, weights or a result that are not finite.
    """
    if images is None:
      if labels is not None:
        raise InputError("labels are given without images, expected both")
      return super().__call__(weights, activation)
    images = self._check_images(images, labels)
    edited = self._checked(weights, activation)
    return self._keep(weights, edited, activation, images, labels)

  def _check_images(self, images: Any, labels: Any) -> jax.Array:
    """The images in the shape of inputs."""
    shape, expected = jnp.shape(images), tuple(self.target.input_shape)
    flat = len(expected) == 1 and math.prod(shape[1:]) == expected[0]
    if not shape or not shape[0] or not (shape[1:] == expected or flat):
      raise InputError(
        f"images have shape {list(shape)}, expected [N, "
        f"{', '.join(map(str, expected))}]"
      )
    if labels is not None:
      if jnp.shape(labels) != shape[:1] or not jnp.issubdtype(
        jnp.result_type(labels), jnp.integer
      ):
        raise InputError(
          f"labels are {jnp.result_type(labels)} {list(jnp.shape(labels))}, "
          f"expected integers [{shape[0]}]"
        )
      outputs = specs.output_size(self.target.spec)
      if inputs.known(labels) and not (
        0 <= int(jnp.min(labels)) and int(jnp.max(labels)) < outputs
      ):
        raise InputError(
          f"labels are {int(jnp.min(labels))} to {int(jnp.max(labels))}, "
          f"expected outputs of the network, 0 to {outputs - 1}"
        )
    return jnp.reshape(jnp.asarray(images), (shape[0], *expected))

  @functools.cached_property
  def _keep(self) -> Callable[..., Weights]:
    """(θ, θ', activation, images, labels) -> the better weights."""
    target = self.target

    @jax.jit
    def keep(weights, edited, activation, images, labels):
      if labels is None:
        better = keep_better.consistent_predictions(target.apply)
      else:
        better = keep_better.lower_objective(finetune_losses(target, l1=0.0))
      before, after = Network(weights, activation), Network(edited, activation)
      choose = keep_better.choose(better)
      return choose(before, after, images, labels).weights

    return keep


class TrainedFunctional(_Trained[jax.Array]):
  """A trained functional: (weights, activation=0) -> predictions [K].

  Invariant. The first call compiles, quickly rather than well; within `jax.jit`
  and `jax.vmap` it is optimized in full.

  Attributes:
    target: the architecture of the networks that it reads.
    metanetwork: a `base.Functional`.
    params: φ.
    model: keyword arguments of `metanetworks.functional`.
    link: a key of `LINKS`.
    about: what it was trained on, JSON values, see `save_functional`.
  """

  kind = "functional"
  build = staticmethod(metanetworks.functional)
  metanetwork: Functional


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
      the result of `eval.weight_range.measure`.

  Raises:
    InputError: what could not be loaded again: the model or `about` is not
      JSON, or the parameters do not fit the model or are not finite.
  """
  return _save(
    Path(folder) / OPERATOR, TrainedOperator, target, model, params, about, {}
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
    Path(folder) / FUNCTIONAL, TrainedFunctional, target, model, params, about,
    {"link": link},
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
  return _load(Path(folder) / OPERATOR, TrainedOperator, target)


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
  return _load(Path(folder) / FUNCTIONAL, TrainedFunctional, target)


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
    [[name, s.size, *s.groups] for name, s in target.spec.spaces.items()],
    [
      [axis and [axis.space, axis.power] for axis in axes.axes]
      for _, _, axes in leaves
    ],
  ]
  return {
    "weights": {name: list(leaf.shape) for name, leaf, _ in leaves},
    "input_shape": list(target.input_shape),
    "activations": list(target.activations),
    "symmetry": symmetry,
  }


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
  """Raises ValueError for statistics that calls could not use."""
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
  if model.get("prototypes"):
    limits |= {"prototypes": count, "classes": count, "probes": count}
    if model.get("class_combinations"):  # a parameter per pair of classes
      limits["classes"] = math.isqrt(2 * count)
  for name, limit in limits.items():
    if model.get(name, 0) > limit:
      raise ValueError(f"{name} is {model[name]}, its parameters say otherwise")
  output = specs.output_name(target.spec)
  sizes = [
    (leaf.size, any(axis and axis.space == output for axis in axes.axes))
    for _, leaf, axes in specs.leaves(target.spec, shapes)
  ]
  # Prototypes hold all weights between hidden neurons.
  hidden = sum(size for size, last in sizes if not last)
  if model.get("prototypes") and hidden > count:
    raise ValueError(f"its target has {hidden} weights, its parameters {count}")
  total = sum(size for size, _ in sizes)
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
  with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
    sizes = [info.file_size for info in file.zip.infolist()]
    if sum(sizes) > path.stat().st_size:
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
    raise InputError(f"{path}: no trained {kind} here; train one first")
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
