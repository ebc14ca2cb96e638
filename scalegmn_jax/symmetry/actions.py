"""The symmetry group of an architecture: sample, act, invert, compose.

A group element is a dict {space: Element} over the hidden spaces. It acts on a
bias as b'_i = q_i b_{π(i)} and on a kernel from j to i as
W'_ji = q_i W_{π(j)π(i)} / q_j, which leaves the function of the network
unchanged (Kalogeropoulos et al. 2024, arXiv:2406.10685, section 3). Neurons
with several multipliers multiply a weight by a product of their powers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import (
  Axes,
  Axis,
  Space,
  Split,
  SymmetrySpec,
  Weights,
)
from scalegmn_jax.symmetry import spec as specs


class Element(NamedTuple):
  """Action of a group element on the n neurons of one space.

  Attributes:
    permutation: [n] int, new neuron i is old neuron permutation[i].
    multiplier: [n], q of the new neurons; [M, n] for M multipliers of each.
  """

  permutation: jax.Array
  multiplier: jax.Array


GroupElement = dict[str, Element]
"""{hidden space: `Element`}."""


def sample(
  key: jax.Array,
  spec: SymmetrySpec,
  activation: int = 0,
  *,
  decades: float = 1.0,
  dtype=None,
) -> GroupElement:
  """Samples an element of the group of one activation.

  Args:
    key: consumed.
    spec: the symmetry.
    activation: index of the network's activation (a Python integer).
    decades: positive multipliers are log-uniform in 10**±decades.
    dtype: type of the multipliers; None for the default float type.
  """
  element = {}
  hidden = {name: s for name, s in spec.spaces.items() if not s.fixed}
  for (name, space), k in zip(
    hidden.items(), jax.random.split(key, max(len(hidden), 1)), strict=False
  ):
    k_perm, k_q = jax.random.split(k)
    if space.multipliers:
      qs = [
        _multiplier(k_m, space.size, group, decades, dtype)
        for k_m, group in zip(
          jax.random.split(k_q, len(space.multipliers)),
          space.multipliers,
          strict=True,
        )
      ]
      q = jnp.stack(qs)
    else:
      group = space.groups[activation]
      q = _multiplier(k_q, space.size, group, decades, dtype)
    element[name] = Element(_permutation(k_perm, space), q)
  return element


def _permutation(key: jax.Array, space: Space) -> jax.Array:
  if not space.permuted:
    return jnp.arange(space.size)
  return jax.random.permutation(key, space.size)


def _multiplier(
  key: jax.Array, size: int, group: str, decades: float, dtype
) -> jax.Array:
  if group == "scale":
    u = jax.random.uniform(
      key, (size,), dtype or float, minval=-decades, maxval=decades
    )
    return 10.0**u
  if group == "sign":
    return jax.random.rademacher(key, (size,), dtype or float)
  return jnp.ones(size, dtype or float)


def sample_on_host(
  rng: np.random.Generator,
  spec: SymmetrySpec,
  activation: int = 0,
  *,
  decades: float = 1.0,
) -> GroupElement:
  """As `sample`, with numpy: compiles nothing.

  No permutation is the identity, and in each space some sign is -1: one element
  shows whether all of them are symmetries.

  Args:
    rng: advanced.
    spec: the symmetry.
    activation: index of the network's activation.
    decades: positive multipliers are log-uniform in 10**±decades.
  """

  def signs(n):
    q = rng.choice((-1.0, 1.0), n)
    return -q if (q > 0).all() else q

  def order(n):
    permutation = rng.permutation(n)
    identity = (permutation == np.arange(n)).all()
    return np.roll(permutation, 1) if identity else permutation

  draws = {
    "scale": lambda n: 10 ** rng.uniform(-decades, decades, n),
    "sign": signs,
    "permutation": np.ones,
  }
  element: dict[str, Any] = {}
  for name, space in spec.spaces.items():
    if space.fixed:
      continue
    groups = space.multipliers or (space.groups[activation],)
    q = np.stack([draws[group](space.size) for group in groups])
    permutation: Any = np.arange(space.size)
    if space.permuted:
      permutation = order(space.size)
    multiplier: Any = q if space.multipliers else q[0]
    element[name] = Element(permutation, multiplier)
  return element


def act(g: GroupElement, spec: SymmetrySpec, weights: Weights) -> Weights:
  """g·θ: permutes and multiplies each axis of each weight.

  Elements and weights are arrays of jax, or both of numpy.
  """

  def along(weight, position, axis):
    if axis.space not in g:
      return weight
    permutation, q = g[axis.space]
    weight = weight.take(permutation, axis=position)
    qs = q if isinstance(axis.power, tuple) else (q,)
    for power, multiplier in zip(axis.powers, qs, strict=True):
      if power:
        exponent = power if isinstance(power, int) else float(power)
        weight = times(weight, position, multiplier**exponent)
    return weight

  def transform(weight, axes):
    return transform_axes(spec, weight, axes, along)

  return jax.tree.map(transform, weights, spec.axes)


def times(weight: jax.Array, position: int, factor: jax.Array) -> jax.Array:
  """The weight times a vector along one of its axes."""
  shape = [1] * weight.ndim
  shape[position] = -1
  return weight * factor.astype(weight.dtype).reshape(shape)


Along = Callable[[jax.Array, int, Axis], jax.Array]
"""(array, position of an axis, its entry) -> the transformed array."""


def transform_axes(
  spec: SymmetrySpec,
  weight: jax.Array,
  axes: Axes,
  along: Along,
  *,
  first: Callable[[Axis], bool] = lambda axis: True,
) -> jax.Array:
  """Transforms a weight along all axes, and along the parts of split ones.

  Args:
    spec: the symmetry.
    weight: one weight.
    axes: its entry in the spec.
    along: how it is transformed along one axis, to an array of its shape.
    first: whether an axis is transformed before the others.
  """
  split = [i for i, a in enumerate(axes.axes) if isinstance(a, Split)]
  simple = [(i, a) for i, a in enumerate(axes.axes) if isinstance(a, Axis)]
  for position, axis in sorted(simple, key=lambda item: not first(item[1])):
    weight = along(weight, position, axis)
  for position in split:
    weight = _along_parts(spec, weight, position, axes.axes[position], along)
  return weight


def _along_parts(
  spec: SymmetrySpec, weight: jax.Array, position: int, axis: Any, along: Along
) -> jax.Array:
  """Transforms a weight along an axis that several spaces index."""
  before, after = weight.shape[:position], weight.shape[position + 1 :]
  parts = []
  for part, entries in specs.segments(spec, weight, position, axis):
    for i, entry in enumerate(entries):
      if entry is not None:
        part = along(part, position + i, entry)
    parts.append(part.reshape(*before, -1, *after))
  on_host = not any(isinstance(part, jax.Array) for part in parts)
  module: Any = np if on_host else jnp
  return module.concatenate(parts, axis=position)


def inverse(g: GroupElement) -> GroupElement:
  """g⁻¹, with act(inverse(g), act(g, θ)) = θ; of arrays of jax or of numpy."""
  result = {}
  for name, (permutation, q) in g.items():
    back = permutation.argsort()
    result[name] = Element(back, 1 / q[..., back])
  return result


def compose(g: GroupElement, h: GroupElement) -> GroupElement:
  """gh, with act(compose(g, h), θ) = act(g, act(h, θ))."""
  return {
    name: Element(
      h[name].permutation[permutation], q * h[name].multiplier[..., permutation]
    )
    for name, (permutation, q) in g.items()
  }
