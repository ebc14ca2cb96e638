"""Saving and loading of trained metanetworks: one small file each."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from scalegmn_jax.base import (
  Functional,
  InputError,
  Operator,
  Params,
  TargetNetwork,
  Weights,
)
from scalegmn_jax.gmn import metanetworks, options
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

  def __call__(
    self, weights: Weights, activation: jax.Array | int = 0
  ) -> Result:
    """Applies the metanetwork to one network.

    Args:
      weights: θ.
      activation: index into `target.activations`.
    """
    return self._apply(weights, activation)

  def __repr__(self) -> str:
    count = sum(math.prod(jnp.shape(p)) for p in jax.tree.leaves(self.params))
    target = self.target.description.get("name", "user-defined")
    model = ", ".join(f"{name}={value!r}" for name, value in self.model.items())
    return f"{type(self).__name__}({target}, {count:,} parameters, {model})"

  @functools.cached_property
  def _apply(self) -> Callable[..., Any]:
    """Compiled at the first call, with φ as a constant of the program."""
    link = LINKS[self.link]

    def apply(weights, activation):
      return link(self.metanetwork.apply(self.params, weights, activation))

    within = jax.jit(apply)
    # One network takes a millisecond and half of the compilation is spent on
    # making it less. JAX takes options of the outermost program only.
    alone = jax.jit(
      apply, compiler_options={"xla_backend_optimization_level": 0}
    )

    def call(*arguments):
      traced = any(
        isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)
      )
      return (within if traced else alone)(*arguments)

    return call


class TrainedOperator(_Trained[Weights]):
  """A trained operator: (weights, activation=0) -> better weights.

  Equivariant. The first call compiles, quickly rather than well; within
  `jax.jit` and `jax.vmap` it is optimized in full.

  Attributes:
    target: the architecture of the networks that it edits.
    metanetwork: a `base.Operator`.
    params: φ.
    model: keyword arguments of `metanetworks.operator`.
  """

  kind = "operator"
  build = staticmethod(metanetworks.operator)
  metanetwork: Operator


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
) -> Path:
  """Writes `<folder>/operator.npz`: parameters, and how to rebuild them.

  Args:
    folder: an existing folder.
    target: with a description.
    model: keyword arguments of `metanetworks.operator`, JSON values.
    params: φ.

  Raises:
    InputError: the target has no description, or the model is not JSON.
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
  """Writes `<folder>/functional.npz`: parameters, and how to rebuild them.

  Args:
    folder: an existing folder.
    target: with a description.
    model: keyword arguments of `metanetworks.functional`, JSON values.
    params: φ.
    link: a key of `LINKS`.

  Raises:
    InputError: the target has no description, the model is not JSON, or there
      is no such link.
  """
  if link not in LINKS:
    raise InputError(f"link is {link!r}, expected one of {', '.join(LINKS)}")
  header = {"model": dict(model), "link": link}
  return _save(Path(folder) / FUNCTIONAL, target, header, params)


def load_operator(folder: str | os.PathLike[str]) -> TrainedOperator:
  """Loads the operator that a run saved in its folder.

  Raises:
    InputError: there is none, or its file is damaged or of a newer version.
  """
  return _load(Path(folder) / OPERATOR, TrainedOperator)


def load_functional(folder: str | os.PathLike[str]) -> TrainedFunctional:
  """Loads the functional that a run saved in its folder.

  Raises:
    InputError: there is none, or its file is damaged or of a newer version.
  """
  return _load(Path(folder) / FUNCTIONAL, TrainedFunctional)


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
  return _load(PRETRAINED / f"{name}.npz", TrainedOperator)


def _save(
  path: Path,
  target: TargetNetwork,
  header: Mapping[str, Any],
  params: Params,
) -> Path:
  if not target.description:
    raise InputError(
      f"{path}: a target without description cannot be saved: loading could "
      f"not rebuild it"
    )
  header = {"format": FORMAT, "target": dict(target.description), **header}
  try:
    text = json.dumps(header)
  except TypeError as error:
    raise InputError(f"{path}: expected JSON values: {error}") from None
  arrays = {
    f"params/{name}": np.asarray(value)
    for name, value in flax.traverse_util.flatten_dict(params, sep="/").items()
  }
  temporary = path.with_suffix(".tmp.npz")
  np.savez(temporary, allow_pickle=False, header=np.array(text), **arrays)
  os.replace(temporary, path)
  return path


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


@contextlib.contextmanager
def _input_errors(path: Path, kind: str) -> Iterator[None]:
  """Turns whatever a damaged file raises into an `InputError` of one line."""
  try:
    yield
  except (
    OSError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
  ) as error:
    raise InputError(
      f"{path}: not a trained {kind}: {str(error).splitlines()[0]}"
    ) from None


def _load(path: Path, trained: type[AnyTrained]) -> AnyTrained:
  """Loads a metanetwork of either kind."""
  kind = trained.kind
  if not path.exists():
    raise InputError(f"{path}: no trained {kind} here; train one first")
  with _input_errors(path, kind):
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
      header = json.loads(str(file["header"]))
      # One transfer: one for each array would compile a program per shape.
      flat = jax.device_put(
        {
          name.removeprefix("params/"): file[name]
          for name in file.files
          if name != "header"
        }
      )
    newer = header.get("format", 1) > FORMAT
  if newer:
    raise InputError(
      f"{path}: format {header['format']}, written by a newer scalegmn-jax; "
      f"expected at most {FORMAT}"
    )
  with _input_errors(path, kind):
    target = make_target(header["target"])
    model = _upgraded(header, target)
    metanetwork = trained.build(target, **model)
    link = header.get("link", "identity")
    if link not in LINKS:
      raise ValueError(f"no link {link!r}")
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    expected = jax.eval_shape(metanetwork.init, jax.random.key(0))
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, expected):
      raise ValueError("its parameters do not fit its model")
  return trained(target, metanetwork, params, model, link)
