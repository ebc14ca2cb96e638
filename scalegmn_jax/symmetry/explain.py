"""A symmetry in words: every space, its weights and its multipliers."""

import math
from collections.abc import Iterator
from fractions import Fraction

import jax

from scalegmn_jax.base import Axis, Space, Split, SymmetrySpec, leaf_name
from scalegmn_jax.symmetry.spec import segment_sizes


def explain(spec: SymmetrySpec) -> str:
  """Says what acts on which axis, and what is fixed and why.

  Args:
    spec: the symmetry.

  Returns:
    A paragraph per space: its size and multipliers q, and the weights that it
    indexes with their role and the multiplier that acts on them. Then the axes
    on which nothing acts, and the reasons that are known.
  """
  lines = []
  members = _members(spec)
  for name, space in spec.spaces.items():
    if space.fixed:
      continue
    lines.append(f"space {name}: {_title(space)}")
    grouped: dict[tuple[str, Axis], list[str]] = {}
    for weight, place, axis in members[name]:
      grouped.setdefault((weight, axis), []).append(place)
    rows = [
      (f"{weight}{_places(places)}", axis)
      for (weight, axis), places in grouped.items()
    ]
    width = max(len(where) for where, _ in rows)
    lines += [
      f"  {where:<{width}}  {axis.kind:<8}  {_factor(space, axis)}"
      for where, axis in rows
    ]
  if not lines:
    lines.append("no space: nothing acts on these weights")
  if spec.fixed:
    lines.append("fixed:")
    width = max(map(len, spec.fixed))
    lines += [f"  {where:<{width}}  {why}" for where, why in spec.fixed.items()]
  return "\n".join(lines)


def _places(places: list[str]) -> str:
  """Where in a weight: the first place, and how many others are alike."""
  others = f" and {len(places) - 1} more" if len(places) > 1 else ""
  return places[0] + others


def stages(spec: SymmetrySpec, name: str) -> list[tuple[int | Fraction, ...]]:
  """The exponents with which activations of a space scale, each once.

  A stage is a set of activations that scale alike: what is read by a weight of
  exponents -e, or written by one of exponents e, is of stage e. Channels before
  and after a normalization are two stages of one space.

  Args:
    spec: the symmetry.
    name: of a space.
  """
  found = []
  for _, _, axis in _members(spec)[name]:
    powers = axis.powers
    if axis.kind == "sends":
      powers = tuple(-p for p in powers)
    if axis.kind in ("sends", "receives"):
      signs = spec.spaces[name].multipliers
      found.append(
        tuple(
          p % 2 if group == "sign" else p
          for p, group in zip(powers, signs or ("",), strict=True)
        )
      )
  return list(dict.fromkeys(found))


def _members(spec: SymmetrySpec) -> dict[str, list[tuple[str, str, Axis]]]:
  """{space: (axis of a weight, place along it, its entry)}."""
  members: dict[str, list[tuple[str, str, Axis]]] = {n: [] for n in spec.spaces}
  for path, axes in jax.tree_util.tree_leaves_with_path(spec.axes):
    for position, axis in enumerate(axes.axes):
      name = f"{leaf_name(path)}[{position}]"
      for place, part in _parts(spec, axis):
        members[part.space].append((name, place, part))
  return members


def _parts(
  spec: SymmetrySpec, axis: Axis | Split | None
) -> Iterator[tuple[str, Axis]]:
  """(where, entry) of each space along an axis; "*" marks it in a product."""
  if isinstance(axis, Axis):
    yield "", axis
  elif axis is not None:
    start = 0
    for segment in axis.segments:
      sizes = segment_sizes(spec, segment)
      stop = start + math.prod(sizes)
      several = len(axis.segments) > 1
      place = f" {start}:{stop}" if several else ""
      for i, part in enumerate(segment):
        if isinstance(part, Axis):
          texts = ["*" if i == j else str(n) for j, n in enumerate(sizes)]
          product = f" {'x'.join(texts)}" if len(sizes) > 1 else ""
          yield place + product, part
      start = stop


def _title(space: Space) -> str:
  permuted = "permuted" if space.permuted else "not permuted"
  return f"{space.size} neurons, {permuted}, {_groups(space)}"


def _groups(space: Space) -> str:
  if not space.multipliers:
    text = {"scale": "q > 0", "sign": "q = -1 or 1", "permutation": "no q"}
    return " or ".join(text[g] for g in dict.fromkeys(space.groups))
  names = {"scale": "> 0", "sign": "= -1 or 1"}
  return ", ".join(
    f"q{i} {names[group]}" for i, group in enumerate(space.multipliers)
  )


def _factor(space: Space, axis: Axis) -> str:
  """The product of multipliers that acts on an axis."""
  several = isinstance(axis.power, tuple)
  if not several and set(space.groups) == {"permutation"}:
    return "1"
  powers = axis.powers
  names = [f"q{i}" if several else "q" for i in range(len(powers))]
  factors = [
    name if power == 1 else f"{name}^{power}"
    for name, power in zip(names, powers, strict=True)
    if power
  ]
  return " ".join(factors) or "1"
