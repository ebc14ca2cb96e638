"""Which group acts on which axis of which weight.

Sources: Kalogeropoulos et al., "Scale Equivariant Graph Metanetworks" (2024,
arXiv:2406.10685), sections 3 and 4; Godfrey et al., "On the symmetries of deep
learning models and their internal representations" (2022, arXiv:2205.14258).
"""

from collections.abc import Sequence

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
"""The diagonal group of each activation, beside permutation."""


def groups_of(activations: Sequence[str]) -> tuple[str, ...]:
  """The group of each activation; InputError for an unknown name, or none."""
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
    groups: the group of the hidden layers, one per activation of the zoo.
    kernel_dims: spatial axes that come before [in, out] in each of the L
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
  """The space of the outputs: what a network computes last."""
  return list(spec.spaces)[-1]


def output_size(spec: SymmetrySpec) -> int:
  """How many outputs a network has."""
  return spec.spaces[output_name(spec)].size


def leaves(spec: SymmetrySpec, weights: Weights) -> list[tuple]:
  """(name, weight, `Axes`) of every weight, in the order of `weights`."""
  paths, structure = jax.tree_util.tree_flatten_with_path(weights)
  axes = structure.flatten_up_to(spec.axes)
  return [
    (jax.tree_util.keystr(path, simple=True, separator="/"), weight, ax)
    for (path, weight), ax in zip(paths, axes, strict=True)
  ]


def check(spec: SymmetrySpec, weights: Weights) -> None:
  """Raises InputError unless the shapes of `weights` are those of `spec`."""
  for name, weight, axes in leaves(spec, weights):
    if len(axes.axes) != weight.ndim:
      raise InputError(
        f"weight {name}: {weight.ndim} axes, but its spec has {len(axes.axes)}"
      )
    for axis, size in zip(axes.axes, weight.shape, strict=True):
      if axis is not None and spec.spaces[axis.space].size != size:
        raise InputError(
          f"weight {name} has shape {weight.shape}, but space "
          f"{axis.space!r} has {spec.spaces[axis.space].size} neurons"
        )
