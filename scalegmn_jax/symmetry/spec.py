"""The symmetry of an architecture: which group acts on which weight axis.

Sources: Kalogeropoulos et al., "Scale Equivariant Graph Metanetworks" (2024,
arXiv:2406.10685), sections 3 and 4; Godfrey et al., "On the symmetries of deep
learning models and their internal representations" (2022, arXiv:2205.14258).
"""

from collections.abc import Sequence
from typing import Any

import jax

from scalegmn_jax.base import (
  Axes,
  Axis,
  InputError,
  Space,
  SymmetrySpec,
  Weights,
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
    if name not in GROUPS:
      raise InputError(
        f"unknown activation {name!r}, expected one of {', '.join(GROUPS)}"
      )
  return tuple(GROUPS[name] for name in activations)


def chain(
  sizes: Sequence[int],
  groups: tuple[str, ...],
  kernel_dims: Sequence[int],
) -> SymmetrySpec:
  """The spec of a feed-forward chain with weights ({bias, kernel}, ...).

  Args:
    sizes: neurons of each layer, input and output included (L + 1 of them).
    groups: the group of the hidden layers, one per activation of the target.
    kernel_dims: number of spatial axes before [in, out] in each of the L
      kernels: 0 for a dense layer, 2 for a convolution.
  """
  last = len(sizes) - 1
  names = ["input", *(f"hidden_{i}" for i in range(1, last)), "output"]
  spaces = {
    name: Space(size, groups if 0 < i < last else ())
    for i, (name, size) in enumerate(zip(names, sizes, strict=True))
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


def check(spec: SymmetrySpec, weights: Weights) -> None:
  """Checks a spec, and that the weights of one network fit it.

  Args:
    spec: the symmetry.
    weights: of one network, arrays or shapes.

  Raises:
    InputError: an unknown group or space, or weights that differ from
      `spec.axes` in names, numbers of axes or sizes.
  """
  for name, space in spec.spaces.items():
    for group in space.groups:
      if group not in GROUPS.values():
        raise InputError(
          f"space {name!r}: unknown group {group!r}, expected one of "
          f"{', '.join(sorted(set(GROUPS.values())))}"
        )
  _check_structure(spec, weights)
  for name, weight, axes in leaves(spec, weights):
    if not isinstance(axes, Axes):
      raise InputError(
        f"weight {name}: its entry in spec.axes is {type(axes).__name__}, "
        "expected Axes"
      )
    if len(axes.axes) != weight.ndim:
      raise InputError(
        f"weight {name}: {weight.ndim} axes, but its spec has {len(axes.axes)}"
      )
    for axis, size in zip(axes.axes, weight.shape, strict=True):
      if axis is None:
        continue
      if axis.space not in spec.spaces:
        raise InputError(
          f"weight {name}: unknown space {axis.space!r}, expected one of "
          f"{', '.join(spec.spaces)}"
        )
      if spec.spaces[axis.space].size != size:
        raise InputError(
          f"weight {name} has shape {weight.shape}, but space "
          f"{axis.space!r} has {spec.spaces[axis.space].size} neurons"
        )


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


def leaf_name(path: Any) -> str:
  """The name of a weight, such as "0/kernel", from its path in the pytree."""
  return jax.tree_util.keystr(path, simple=True, separator="/")
