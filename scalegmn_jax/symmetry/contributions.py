"""What each neuron contributes to the outputs of a network, image by image.

The contribution of a neuron to an output f is Σ w ∂f/∂w over its weights: the
derivative of f in the logarithm of a multiplier of these weights alone. For the
outgoing weights of a neuron with activation h it is h ∂f/∂h. It takes nothing
but derivatives of the function, so that any function has it; and it does not
change with the gauge of the network, signs included.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalegmn_jax.base import TargetNetwork, Weights
from scalegmn_jax.symmetry.gauge import parts
from scalegmn_jax.symmetry.spec import leaves

_OUTPUTS = 32
"""The most outputs whose contributions are taken one by one; more of them are
added with random weights to as many."""

_DERIVATIVES = 10**7
"""Derivatives that are computed side by side, about."""


Measure = Callable[[Weights, Any], dict[str, list[np.ndarray]]]
"""(weights, images) -> {hidden space: [n, N x K] per axis that it indexes}."""


def contributions(target: TargetNetwork, activation: int = 0) -> Measure:
  """A function that measures the contributions of all hidden neurons.

  Its results do not change under multipliers and are permuted with the neurons:
  for N images and K outputs, an array [n, N x K] for each axis of a weight that
  the neurons index. Outputs beyond 32 are added with random signs to 32.

  Args:
    target: the architecture.
    activation: index of the networks' activation (a Python integer).

  Returns:
    (weights of one network, inputs [N, ...] or a tuple of them) -> the
    contributions, on the host.
  """
  spec = target.spec
  hidden = [name for name, space in spec.spaces.items() if not space.fixed]

  def summed(products):
    """{space: [[n], ...]} for w ∂f/∂w."""
    found: dict[str, list[jax.Array]] = {name: [] for name in hidden}
    for _, product, axes in leaves(spec, products):
      if axes.statistic:
        continue
      for part, entries in parts(spec, product, axes.axes):
        for i, axis in enumerate(entries):
          if axis is not None and axis.space in found:
            others = tuple(j for j in range(part.ndim) if j != i)
            found[axis.space].append(part.sum(others))
    return found

  def of_image(weights, image):
    def outputs(weights):
      batch = jax.tree.map(lambda x: x[None], image)
      found = jax.tree.leaves(target.apply(weights, batch, activation))
      return jnp.concatenate([y.ravel() for y in found])

    y, pull = jax.vjp(outputs, weights)
    ways = jnp.eye(y.size, dtype=y.dtype)
    if y.size > _OUTPUTS:
      shape = (_OUTPUTS, y.size)
      ways = jax.random.rademacher(jax.random.key(0), shape, y.dtype)

    def of_output(way):
      (gradient,) = pull(way)
      return summed(jax.tree.map(jnp.multiply, weights, gradient))

    size = sum(math.prod(w.shape) for w in jax.tree.leaves(weights))
    together = max(1, min(len(ways), _DERIVATIVES // size))
    return jax.lax.map(of_output, ways, batch_size=together)

  @jax.jit
  def compiled(weights, images):
    return jax.lax.map(lambda image: of_image(weights, image), images)

  def measure(weights, images):
    found = jax.device_get(compiled(weights, images))
    return {
      name: [x.reshape(-1, x.shape[-1]).T for x in several]
      for name, several in found.items()
    }

  return measure
