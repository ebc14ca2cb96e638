"""The symmetry of an architecture: which group acts on which weight axis.

Sources: Kalogeropoulos et al., "Scale Equivariant Graph Metanetworks" (2024,
arXiv:2406.10685), sections 3 and 4; Godfrey et al., "On the symmetries of deep
learning models and their internal representations" (2022, arXiv:2205.14258).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Space,
  Split,
  SymmetrySpec,
  TargetNetwork,
  Weights,
  leaf_name,
)

GROUPS = {
  "relu": "scale",  # relu(q x) = q relu(x) for q > 0
  "leaky_relu": "scale",
  "tanh": "sign",  # odd functions: f(-x) = -f(x)
  "sine": "sign",
  "gelu": "permutation",
  "silu": "permutation",
}
"""The diagonal group of each activation, besides permutation."""


def groups_of(activations: Sequence[str]) -> tuple[str, ...]:
  """The group of each activation.

  Raises:
    InputError: no activation, or an unknown name.
  """
  if not activations:
    raise InputError(f"no activation, expected some of {', '.join(GROUPS)}")
  for name in activations:
    if not isinstance(name, str) or name not in GROUPS:
      raise InputError(
        f"unknown activation {name!r}, expected one of {', '.join(GROUPS)}"
      )
  return tuple(GROUPS[name] for name in activations)


def chain(
  sizes: Sequence[int],
  groups: Sequence[tuple[str, ...]],
  kernel_dims: Sequence[int],
) -> SymmetrySpec:
  """The spec of a feed-forward chain with weights ({bias, kernel}, ...).

  Args:
    sizes: neurons of each layer, input and output included (L + 1 of them).
    groups: of each of the L - 1 hidden layers, the group for each activation of
      the target.
    kernel_dims: number of spatial axes before [in, out] in each of the L
      kernels: 0 for a dense layer, 2 for a convolution.
  """
  last = len(sizes) - 1
  names = ["input", *(f"hidden_{i}" for i in range(1, last)), "output"]
  spaces = {
    name: Space(size, group)
    for name, size, group in zip(names, sizes, ((), *groups, ()), strict=True)
  }
  axes = tuple(
    {
      "bias": Axes((Axis(receiver, 1),)),
      "kernel": Axes((*(None,) * dims, Axis(sender, -1), Axis(receiver, 1))),
    }
    for dims, sender, receiver in zip(
      kernel_dims, names[:-1], names[1:], strict=True
    )
  )
  return SymmetrySpec(spaces, axes)


def output_name(spec: SymmetrySpec) -> str:
  """Name of the output space, the last one that a network computes."""
  return list(spec.spaces)[-1]


def output_size(spec: SymmetrySpec) -> int:
  """Number of outputs of a network."""
  return spec.spaces[output_name(spec)].size


def leaves(spec: SymmetrySpec, weights: Weights) -> list[tuple[str, Any, Axes]]:
  """(name, weight, `Axes`) per weight, in the order of `weights`."""
  paths, structure = jax.tree_util.tree_flatten_with_path(weights)
  axes = structure.flatten_up_to(spec.axes)
  return [
    (leaf_name(path), weight, ax)
    for (path, weight), ax in zip(paths, axes, strict=True)
  ]


def trained(spec: SymmetrySpec, weights: Weights) -> list[Any]:
  """All weights but running statistics, in the order of `weights`."""
  return [w for _, w, axes in leaves(spec, weights) if not axes.statistic]


def keep_statistics(
  spec: SymmetrySpec, weights: Weights, edited: Weights
) -> Weights:
  """`edited`, with the running statistics of `weights`."""
  return jax.tree.map(
    lambda axes, old, new: old if axes.statistic else new,
    spec.axes, weights, edited,
  )  # fmt: skip


def untrained_statistic(spec: SymmetrySpec, name: str, axes: Axes) -> float:
  """A running statistic before training: 0 for a mean, 1 for a variance.

  The multipliers of a mean are those of activations, odd in them; those of a
  variance are their squares, or none if ε is added to it. Where no multiplier
  acts on the activations, a mean says so by its name.

  Args:
    spec: the symmetry.
    name: of the weight.
    axes: its entry in the spec.
  """
  odd = any(
    power % 2
    for axis in axes.acting()
    if {*spec.spaces[axis.space].groups} - {"permutation"}
    or spec.spaces[axis.space].multipliers
    for power in axis.powers
  )
  return 0.0 if odd or name.rfind("mean") > name.rfind("var") else 1.0


End = tuple[int, str]
"""(position of an axis, its space)."""


def ends(
  spec: SymmetrySpec, weights: Weights
) -> list[tuple[str, Any, End | None, End | None]]:
  """(name, weight, receiving axis, sending axis) per weight.

  Raises:
    InputError: a weight has a split axis, two axes that receive or send, or
      neurons with several multipliers.
  """
  result = []
  for name, weight, axes in leaves(spec, weights):
    try:
      found = axes.find(1), axes.find(-1)
    except InputError as error:
      raise InputError(f"weight {name}: {error}") from None
    if not axes.is_single:
      raise InputError(
        f"weight {name}: two axes receive or send, expected one each"
      )
    result.append((name, weight, *found))
  return result


def check(target: TargetNetwork) -> Weights:
  """Checks that the spec of a target fits its weights and activations.

  Whether it is a symmetry of the outputs: `testing.assert_symmetric`.

  Args:
    target: the architecture.

  Returns:
    The weights of one network as a pytree of `jax.ShapeDtypeStruct`.

  Raises:
    InputError: a hidden space without a group for each activation, or weights
      that differ from `spec.axes` in names, numbers of axes or sizes.
  """
  spec, shapes = target.spec, jax.eval_shape(target.init, jax.random.key(0))
  for name, space in spec.spaces.items():
    if not space.fixed and len(space.groups) != len(target.activations):
      raise InputError(
        f"space {name!r} has {len(space.groups)} groups, expected one for each "
        f"of the {len(target.activations)} activations"
      )
  _check_structure(spec, shapes)
  for name, weight, axes in leaves(spec, shapes):
    if len(axes.axes) != weight.ndim:
      raise InputError(
        f"weight {name}: {weight.ndim} axes, but its spec has {len(axes.axes)}"
      )
    for axis, size in zip(axes.axes, weight.shape, strict=True):
      if isinstance(axis, Split):
        parts = [segment_sizes(spec, segment) for segment in axis.segments]
        if sum(map(math.prod, parts)) != size:
          raise InputError(
            f"weight {name} has shape {weight.shape}, but the sizes of the "
            f"parts of one of its axes are {parts}"
          )
      elif axis is not None and spec.spaces[axis.space].size != size:
        raise InputError(
          f"weight {name} has shape {weight.shape}, but space "
          f"{axis.space!r} has {spec.spaces[axis.space].size} neurons"
        )
  return shapes


def segment_sizes(
  spec: SymmetrySpec, segment: Sequence[Axis | int]
) -> tuple[int, ...]:
  """Numbers of indices of the factors of a segment, see `base.Split`."""
  return tuple(
    part if isinstance(part, int) else spec.spaces[part.space].size
    for part in segment
  )


def segments(
  spec: SymmetrySpec, weight: Any, position: int, split: Split
) -> Iterator[tuple[Any, tuple[Axis | None, ...]]]:
  """(part, entries of its factors) of a weight along a split axis.

  Args:
    spec: the symmetry.
    weight: an array of jax or numpy.
    position: of the axis, in place of which a part has one for each factor.
    split: the entry of the axis.
  """
  start = 0
  for segment in split.segments:
    sizes = segment_sizes(spec, segment)
    stop = start + math.prod(sizes)
    part = weight[(slice(None),) * position + (slice(start, stop),)]
    shape = (*weight.shape[:position], *sizes, *weight.shape[position + 1 :])
    yield (
      part.reshape(shape),
      tuple(e if isinstance(e, Axis) else None for e in segment),
    )
    start = stop


def _check_structure(spec: SymmetrySpec, weights: Weights) -> None:
  """InputError unless `weights` and `spec.axes` are the same pytree."""
  weight_names, axes_names = _names(weights), _names(spec.axes)
  for name in weight_names:
    if name not in axes_names:
      raise InputError(f"weight {name} is not in spec.axes")
  for name in axes_names:
    if name not in weight_names:
      raise InputError(f"weight {name} of spec.axes is missing")
  ours, theirs = map(jax.tree.structure, (weights, spec.axes))
  if ours != theirs:
    raise InputError(
      f"the weights have the structure {ours}, but spec.axes has {theirs}"
    )


def _names(tree: Any) -> list[str]:
  paths = jax.tree_util.tree_leaves_with_path(tree)
  return [leaf_name(path) for path, _ in paths]
