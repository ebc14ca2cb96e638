"""What is wrong in a declared symmetry that is none.

Outputs show whether a spec is a symmetry, f(gθ) = f(θ). They do not show which
of its entries is wrong: a wrong axis of one weight breaks the agreement of all
weights of a space. An entry is blamed if another value for it makes the spec a
symmetry.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from scalegmn_jax.base import Axes, Axis, Split, SymmetrySpec, Weights
from scalegmn_jax.symmetry import actions
from scalegmn_jax.symmetry.actions import GroupElement
from scalegmn_jax.symmetry.spec import leaves


class Probe(NamedTuple):
  """One network and group elements that should leave its outputs unchanged.

  All arrays are of numpy: to act on the host compiles nothing.

  Attributes:
    outputs: weights -> outputs on fixed inputs.
    weights: θ.
    elements: group elements g of the activation of the network.
  """

  outputs: Callable[[Weights], np.ndarray]
  weights: Weights
  elements: Sequence[GroupElement]

  def error(self, spec: SymmetrySpec) -> float:
    """max over g of ‖f(gθ) − f(θ)‖ / ‖f(θ) − mean f(θ)‖.

    The mean is over inputs. NaN if f(θ) is the same for all inputs or not
    finite, inf if only f(gθ) is not finite.
    """
    before = self.outputs(self.weights)
    if not np.isfinite(before).all():
      return math.nan
    unit = np.linalg.norm(before - before.mean(0, keepdims=True))
    if not unit > 0:
      return math.nan
    errors = [0.0]
    for g in self.elements:
      after = self.outputs(actions.act(g, spec, self.weights))
      distance = math.inf
      if np.isfinite(after).all():
        distance = float(np.linalg.norm(after - before) / unit)
      errors.append(distance)
    return max(errors)

  def only(
    self, *, permutations: bool = False, without: Sequence[str] = ()
  ) -> "Probe":
    """The probe with smaller group elements.

    Args:
      permutations: all multipliers are 1.
      without: spaces whose multipliers are 1.
    """

    def reduced(g):
      return {
        name: e._replace(multiplier=np.ones_like(e.multiplier))
        if permutations or name in without
        else e
        for name, e in g.items()
      }

    return self._replace(elements=[reduced(g) for g in self.elements])

  def space(self, name: str) -> "Probe":
    """The probe with the parts of its group elements that act on one space."""
    return self._replace(elements=[{name: g[name]} for g in self.elements])


class _Correction(NamedTuple):
  """Another declaration of one axis.

  Attributes:
    leaf: position among the leaves of the weights.
    name: name of the weight.
    position: of the axis.
    declared: the entry of the spec.
    better: another entry; None where no group acts.
  """

  leaf: int
  name: str
  position: int
  declared: Axis | None
  better: Axis | None

  def apply(self, spec: SymmetrySpec) -> SymmetrySpec:
    entries, structure = jax.tree.flatten(spec.axes)
    axes = list(entries[self.leaf].axes)
    axes[self.position] = self.better
    entries[self.leaf] = Axes(tuple(axes))
    return dataclasses.replace(
      spec, axes=jax.tree.unflatten(structure, entries)
    )

  def __str__(self):
    return (
      f"axis {self.position} of weight {self.name} is declared as "
      f"{_text(self.declared)}, but {_text(self.better)} fits"
    )


def explain(probe: Probe, spec: SymmetrySpec, tolerance: float) -> str:
  """Says which entries of a spec are wrong.

  Args:
    probe: a network whose outputs change under the spec.
    spec: the declared symmetry.
    tolerance: see `Probe.error`; smaller changes are rounding.

  Returns:
    A clause: axes with the entries that fit, or a group that does not act, or
    the weights that are declared on the spaces that change outputs.
  """
  for candidate in _candidates(spec, probe.weights):
    corrected = functools.reduce(lambda s, c: c.apply(s), candidate, spec)
    if probe.error(corrected) <= tolerance:
      return " and ".join(map(str, candidate))
  too_large = _too_large_groups(probe, spec, tolerance)
  if too_large:
    return too_large
  wrong = [n for n in _hidden(spec) if probe.space(n).error(spec) > tolerance]
  names = [
    name
    for name, _, axes in leaves(spec, probe.weights)
    if any(axis.space in wrong for axis in axes.acting())
  ]
  return (
    f"one of the spaces {', '.join(wrong) or ', '.join(_hidden(spec))} is "
    f"wrong, or an axis of {', '.join(names)}, or a missing one"
  )


def _text(axis: Axis | None) -> str:
  return f"Axis({axis.space!r}, {axis.power})" if axis else "None"


def _hidden(spec: SymmetrySpec) -> list[str]:
  return [name for name, space in spec.spaces.items() if not space.fixed]


def _candidates(
  spec: SymmetrySpec, weights: Weights
) -> list[tuple[_Correction, ...]]:
  """All other declarations of one axis, then of equal axes of one layer.

  Bias and kernel of a layer are declared on the same space, and often wrong
  together. A layer is the weights of one container of the pytree.
  """
  singles = list(_single_candidates(spec, weights))
  layers: dict[tuple[str, Axis | None, Axis | None], list[_Correction]] = {}
  for c in singles:
    if c.declared is not None:
      layer = c.name.rpartition("/")[0]
      layers.setdefault((layer, c.declared, c.better), []).append(c)
  several = [tuple(group) for group in layers.values() if len(group) > 1]
  return [*((c,) for c in singles), *several]


def _single_candidates(
  spec: SymmetrySpec, weights: Weights
) -> Iterator[_Correction]:
  # Of neurons with several multipliers, other powers are not tried.
  hidden = [n for n in _hidden(spec) if not spec.spaces[n].multipliers]
  for leaf, (name, weight, axes) in enumerate(leaves(spec, weights)):
    for position, declared in enumerate(axes.axes):
      if isinstance(declared, Split):
        continue
      if declared is not None and isinstance(declared.power, tuple):
        continue
      acts = declared is not None and declared.space in hidden
      others: list[Axis | None] = [
        Axis(space, power)
        for space in hidden
        if spec.spaces[space].size == weight.shape[position]
        for power in (1, -1)
      ]
      for better in [*others, None] if acts else others:
        if better != declared:
          yield _Correction(leaf, name, position, declared, better)


def _too_large_groups(
  probe: Probe, spec: SymmetrySpec, tolerance: float
) -> str | None:
  """The spaces whose permutations alone are symmetries, or None."""
  if probe.only(permutations=True).error(spec) > tolerance:
    return None
  wrong = [n for n in _hidden(spec) if probe.space(n).error(spec) > tolerance]
  if not wrong or probe.only(without=wrong).error(spec) > tolerance:
    return None
  return (
    f"permutations of {', '.join(wrong)} are symmetries, their multipliers are "
    f"not: expected a smaller group, or other powers of several axes"
  )
