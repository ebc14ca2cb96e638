"""The symmetry group of an architecture: sample, act, invert, compose.

A group element is a dict {space: Element} over the hidden spaces. It acts on a
bias as b'_i = q_i b_{π(i)} and on a kernel from j to i as
W'_ji = q_i W_{π(j)π(i)} / q_j, which leaves the function of the network
unchanged (Kalogeropoulos et al. 2024, arXiv:2406.10685, section 3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax.base import SymmetrySpec, Weights


class Element(NamedTuple):
  """Action of a group element on the n neurons of one space.

  Attributes:
    permutation: [n] int, new neuron i is old neuron permutation[i].
    multiplier: [n], q of the new neurons.
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
    group = space.groups[activation]
    if group == "scale":
      u = jax.random.uniform(
        k_q, (space.size,), dtype or float, minval=-decades, maxval=decades
      )
      q = 10.0**u
    elif group == "sign":
      q = jax.random.rademacher(k_q, (space.size,), dtype or float)
    else:
      q = jnp.ones(space.size, dtype or float)
    element[name] = Element(jax.random.permutation(k_perm, space.size), q)
  return element


def act(g: GroupElement, spec: SymmetrySpec, weights: Weights) -> Weights:
  """g·θ: permutes and multiplies each axis of each weight."""

  def transform(weight, axes):
    for position, axis in enumerate(axes.axes):
      if axis is None or axis.space not in g:
        continue
      permutation, q = g[axis.space]
      weight = jnp.take(weight, permutation, axis=position)
      if axis.power:
        shape = [1] * weight.ndim
        shape[position] = -1
        weight = weight * (q**axis.power).astype(weight.dtype).reshape(shape)
    return weight

  return jax.tree.map(transform, weights, spec.axes)


def inverse(g: GroupElement) -> GroupElement:
  """g⁻¹, with act(inverse(g), act(g, θ)) = θ."""
  result = {}
  for name, (permutation, q) in g.items():
    back = jnp.argsort(permutation)
    result[name] = Element(back, 1 / q[back])
  return result


def compose(g: GroupElement, h: GroupElement) -> GroupElement:
  """gh, with act(compose(g, h), θ) = act(g, act(h, θ))."""
  return {
    name: Element(
      h[name].permutation[permutation], q * h[name].multiplier[permutation]
    )
    for name, (permutation, q) in g.items()
  }
