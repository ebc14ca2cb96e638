"""The last layer alone: one pass over the data, and a convex problem.

What a network computes before its last layer are features of the images; given
them, cross-entropy + λ·L1 is convex in the weights of that layer, and a few
proximal Newton steps (Lee, Sun, Saunders 2014, "Proximal Newton-Type Methods
for Minimizing Composite Functions", arXiv:1206.1623) are all it takes. By
itself it is what can be had without touching the other layers; after one shot
it is what a look at the data adds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scalegmn_jax.base import InputError, Networks, TargetNetwork
from scalegmn_jax.inner import objective
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry import spec as specs

_IMAGES = 1024
"""Images whose features are computed at a time."""

_RIDGE = 1e-6
"""Of the Hessian, as a share of its mean diagonal: features that are zero for
all images have none."""

_CURVATURE = 1e-3
"""The least that an image counts with: where a network is sure of all its
answers there is no curvature, and no end to a Newton step."""

_STEPS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
"""Shares of a Newton step, of which the best is taken. More than one, because
the bound of the Hessian is up to twice as large as the Hessian."""


def last_layer_solver(
  target: TargetNetwork, *, l1: float, steps: int = 5, sweeps: int = 5
) -> Callable[[Networks, jax.Array, jax.Array], Networks]:
  """Networks with another last layer, one after the other.

  What is minimized over the kernel and the bias of the output space is the
  divergence from what the network is to answer (`answers.wanted`) + λ times
  their L1 norm, in the balanced gauge of the network. The objective, the steps
  and so the functions that come out are invariant under the symmetry; the
  networks come out in the balanced gauge.

  Args:
    target: the architecture. Its outputs are linear in that layer.
    l1: λ.
    steps: Newton steps. None of them makes the objective worse.
    sweeps: of coordinate descent over the weights, in each of them.

  Returns:
    (zoo, images [N, ...], labels [N]) -> zoo, jitted. The features of all
    images are kept, [N, inputs of the layer + 1], of one network at a time.

  Raises:
    InputError: when called, if the outputs have other weights than a kernel and
      a bias.
  """

  @jax.jit
  def solve(zoo, images, labels):
    def one(network):
      weights = gauge.balance(target.spec, network.weights, network.activation)
      inputs, layer, replace = _split(
        target, weights, network.activation, images
      )
      wanted = objective.target_probs(
        target.apply, network, images, labels, layer.shape[1]
      )
      solved = proximal_newton(
        inputs, wanted, layer, l1=l1, steps=steps, sweeps=sweeps
      )
      return network._replace(weights=replace(solved))

    return jax.lax.map(one, zoo)

  return solve


def proximal_newton(
  inputs: jax.Array,
  wanted: jax.Array,
  start: jax.Array,
  *,
  l1: float,
  steps: int,
  sweeps: int,
) -> jax.Array:
  """argmin_W KL(wanted ‖ softmax(inputs W)) + λ‖W‖₁, or near it.

  Each step minimizes a quadratic model of the divergence + λ‖W‖₁ by coordinate
  descent. The model's Hessian has a block for each output, 2 Σ p (1 - p) f fᵀ;
  together they are no less than the Hessian, since the difference is diagonally
  dominant. So outputs are solved for side by side. What they share changes no
  probability, and is set to its best after each step.

  Args:
    inputs: f [N, d].
    wanted: probabilities [N, K]; rows of zeros do not count.
    start: W [d, K]; zero where that is better.
    l1: λ.
    steps: of Newton.
    sweeps: of coordinate descent, in each step.

  Returns:
    W [d, K]; `start` where the objective is not finite.
  """
  size = inputs.shape[1]
  inside = wanted.sum(-1, keepdims=True)
  count = jnp.maximum(wanted.sum(), 1)
  # Rows take turns in an order that does not depend on that of the neurons.
  order = jnp.argsort((inside * inputs**2).sum(0))

  def objective(w):
    return objective.divergence(inputs @ w, wanted) + l1 * jnp.abs(w).sum()

  def newton(w, _):
    p = jax.nn.softmax(inputs @ w) * inside
    gradient = inputs.T @ (p - wanted) / count
    curvature = jnp.maximum(2 * p * (1 - p), _CURVATURE * inside) / count
    hessian = jax.vmap(lambda c: (inputs * c[:, None]).T @ inputs, 1)(curvature)
    diagonal = jnp.diagonal(hessian, axis1=1, axis2=2)  # [K, d]
    ridge = _RIDGE * diagonal.mean() + jnp.finfo(w.dtype).tiny
    hessian = hessian + ridge * jnp.eye(size, dtype=w.dtype)[None]
    diagonal = diagonal.T + ridge

    def coordinate(i, carry):
      """One row of W, given `slope`, the Hessian times what has changed."""
      u, slope = carry
      row = order[i % size]
      best = diagonal[row] * u[row] - gradient[row] - slope[row]
      best = jnp.sign(best) * jnp.maximum(jnp.abs(best) - l1, 0)
      best = best / diagonal[row]
      slope = slope + (hessian[:, row] * (best - u[row])[:, None]).T
      return u.at[row].set(best), slope

    u, _ = jax.lax.fori_loop(
      0, sweeps * size, coordinate, (w, jnp.zeros_like(w))
    )
    shares = jnp.array(_STEPS, w.dtype)
    values = jax.vmap(lambda t: objective(w + t * (u - w)))(shares)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    share = shares[jnp.argmin(values)]
    return _unshared(jnp.where(share > 0, w + share * (u - w), w)), None

  # Answers that are sure and wrong are a worse start than none.
  zero = jnp.zeros_like(start)
  begin = jnp.where(objective(zero) < objective(start), zero, start)
  return jax.lax.scan(newton, begin, length=steps)[0]


def _unshared(w: jax.Array) -> jax.Array:
  """Less the median of each row: softmax is the same, the norm is the least."""
  ordered, count = jnp.sort(w, axis=1), w.shape[1]
  low, high = ordered[:, (count - 1) // 2], ordered[:, count // 2]
  median = jnp.where(jnp.abs(low) <= jnp.abs(high), low, high)
  return w - median[:, None]


def _split(target, weights, activation, images):
  """Inputs [N, d + 1] of the last layer, the layer [d + 1, K], and a function
  that puts another one in its place; the last row is the bias."""
  leaves = specs.leaves(target.spec, weights)
  output = specs.output_name(target.spec)
  receivers = ((i, axes.find(1)) for i, (_, _, axes) in enumerate(leaves))
  ends = {i: end for i, end in receivers if end}
  last = [i for i, end in ends.items() if end[1] == output]
  if len(last) != 2:
    names = ", ".join(leaves[i][0] for i in last) or "none"
    raise InputError(
      f"weights of space {output!r}: {names}; expected a kernel and a bias"
    )
  kernel, bias = sorted(last, key=lambda i: -leaves[i][1].ndim)
  flat, structure = jax.tree.flatten(weights)
  place = ends[kernel][0]
  moved = jnp.moveaxis(flat[kernel], place, -1)

  def replace(layer):
    new = list(flat)
    shaped = layer[:-1].reshape(moved.shape)
    new[kernel] = jnp.moveaxis(shaped, -1, place)
    new[bias] = layer[-1]
    return jax.tree.unflatten(structure, new)

  layer = jnp.concatenate(
    [moved.reshape(-1, moved.shape[-1]), flat[bias][None]]
  )

  def of_image(image):
    # Outputs are linear in the layer, and the first one in its first column.
    def first(column):
      changed = layer.at[:, 0].set(column)
      return target.apply(replace(changed), image[None], activation)[0, 0]

    return jax.grad(first)(layer[:, 0])

  size = min(_IMAGES, len(images))
  return jax.lax.map(of_image, images, batch_size=size), layer, replace
