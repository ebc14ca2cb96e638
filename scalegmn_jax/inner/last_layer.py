"""Optimizes the last layer of a network: a convex problem, one data pass.

The layers before the last one compute features of the images. With these
features fixed, cross-entropy + λ·L1 is convex in the weights of the last layer,
and a few proximal Newton steps minimize it (Lee, Sun, Saunders 2014, "Proximal
Newton-Type Methods for Minimizing Composite Functions", arXiv:1206.1623). As a
baseline it shows what is possible without changing the other layers; after an
operator it shows what one pass over the data adds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scalegmn_jax import batched
from scalegmn_jax.base import (
  InputError,
  Networks,
  TargetNetwork,
  Weights,
  full_precision,
)
from scalegmn_jax.inner.objective import kl_divergence, target_probs
from scalegmn_jax.symmetry import gauge
from scalegmn_jax.symmetry import spec as specs

_IMAGES = 1024
"""Number of images whose features are computed at a time."""

_RIDGE = 1e-6
"""Added to the diagonal of the Hessian, in units of the mean diagonal: a
feature that is zero for all images has no curvature."""

_CURVATURE = 1e-3
"""Lower bound of the curvature per image: without curvature, where a network
is certain of all predictions, a Newton step is unbounded."""

_STEPS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
"""Step lengths of the line search. Steps longer than one help, because the
upper bound of the Hessian is up to twice as large as the Hessian."""


def last_layer_solver(
  target: TargetNetwork,
  *,
  l1: float,
  steps: int = 5,
  sweeps: int = 5,
  check: Callable[[], Any] = lambda: None,
) -> Callable[[Networks, jax.Array, jax.Array], Networks]:
  """Makes a function that optimizes the last layer of networks.

  It balances each network and then minimizes, over the kernel and any bias of
  the output space, the KL divergence from the target probabilities + λ times
  their L1 norm. The objective and the steps are invariant under the symmetry,
  so the resulting functions are too. The results are in the balanced gauge.

  Args:
    target: the architecture; its outputs are linear in the last layer.
    l1: λ.
    steps: Newton steps; none increases the objective.
    sweeps: sweeps of coordinate descent over the weights in each step.
    check: called every few seconds; may raise `Interrupted`.

  Returns:
    (networks, images [N, ...], labels [N]) -> networks. Networks are solved one
    after another; the features [N, inputs of the layer + 1] of one network are
    in memory at a time.

  Raises:
    InputError: the output space has weights other than a kernel and a bias, or
      the outputs are not linear in them.
  """
  place = _find(target)

  def solve_one(weights, network, images, labels):
    weights = gauge.balance(target.spec, weights, network.activation)
    layer, replace = _split(place, weights)
    inputs = _inputs(target, layer, replace, network.activation, images)
    probs = target_probs(target.apply, network, images, labels, layer.shape[1])
    solved = proximal_newton(
      inputs, probs, layer, l1=l1, steps=steps, sweeps=sweeps
    )
    return replace(solved)

  in_turn = batched.update_in_turn(solve_one)

  def solve(networks, images, labels):
    weights = in_turn(
      networks.weights, networks, images, labels, on_call=lambda *_: check()
    )
    return networks._replace(weights=weights)

  return solve


@full_precision
def proximal_newton(
  inputs: jax.Array,
  probs: jax.Array,
  start: jax.Array,
  *,
  l1: float,
  steps: int,
  sweeps: int,
) -> jax.Array:
  """Minimizes KL(probs ‖ softmax(inputs W)) + λ‖W‖₁ over W, approximately.

  Each step minimizes a quadratic model of the divergence + λ‖W‖₁ by coordinate
  descent. The Hessian of the model is block diagonal with one block per output,
  2 Σ p (1 - p) f fᵀ. It bounds the true Hessian from above, because the
  difference is diagonally dominant, and lets all outputs be solved side by
  side. Adding a vector to all columns of W changes no probability; after each
  step this vector is chosen to minimize the norm.

  Args:
    inputs: f [N, d].
    probs: target probabilities [N, K]; rows of zeros are not counted.
    start: initial W [d, K]; W = 0 is the start if its objective is lower.
    l1: λ.
    steps: Newton steps.
    sweeps: sweeps of coordinate descent in each step.

  Returns:
    W [d, K]; `start` if the objective is not finite.
  """
  size = inputs.shape[1]
  counted = probs.sum(-1, keepdims=True)
  count = jnp.maximum(probs.sum(), 1)
  # This order of the rows does not depend on the order of the neurons.
  order = jnp.argsort((counted * inputs**2).sum(0))

  def objective(w):
    return kl_divergence(inputs @ w, probs) + l1 * jnp.abs(w).sum()

  def newton(w, _):
    p = jax.nn.softmax(inputs @ w) * counted
    gradient = inputs.T @ (p - probs) / count
    curvature = jnp.maximum(2 * p * (1 - p), _CURVATURE * counted) / count
    hessian = jax.vmap(lambda c: (inputs * c[:, None]).T @ inputs, 1)(curvature)
    diagonal = jnp.diagonal(hessian, axis1=1, axis2=2)  # [K, d]
    ridge = _RIDGE * diagonal.mean() + jnp.finfo(w.dtype).tiny
    hessian = hessian + ridge * jnp.eye(size, dtype=w.dtype)[None]
    diagonal = diagonal.T + ridge

    def coordinate(i, carry):
      """Updates one row; `slope` is the Hessian times the change of W."""
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
    return _center(jnp.where(share > 0, w + share * (u - w), w)), None

  # Confident wrong predictions are a worse start than zero.
  zero = jnp.zeros_like(start)
  start = jnp.where(objective(zero) < objective(start), zero, start)
  return jax.lax.scan(newton, start, length=steps)[0]


def _center(w: jax.Array) -> jax.Array:
  """Subtracts the median of each row: same softmax, minimal L1 norm."""
  ordered, count = jnp.sort(w, axis=1), w.shape[1]
  low, high = ordered[:, (count - 1) // 2], ordered[:, count // 2]
  median = jnp.where(jnp.abs(low) <= jnp.abs(high), low, high)
  return w - median[:, None]


class _Place(NamedTuple):
  """Where the last layer is among the weights of a target.

  Attributes:
    kernel: number of its kernel.
    axis: of the kernel, the outputs.
    bias: numbers of its bias, if it has one.
  """

  kernel: int
  axis: int
  bias: list[int]


def _find(target: TargetNetwork) -> _Place:
  """Finds the last layer.

  Raises:
    InputError: see `last_layer_solver`.
  """
  weights = jax.eval_shape(target.init, jax.random.key(0))
  leaves = specs.leaves(target.spec, weights)
  output = specs.output_name(target.spec)
  axes_of = {
    i: [j for j, a in enumerate(axes.axes) if getattr(a, "space", "") == output]
    for i, (_, _, axes) in enumerate(leaves)
    if any(axis.space == output for axis in axes.acting())
  }
  last = sorted(axes_of, key=lambda i: -leaves[i][1].ndim)
  single = all(len(axes) == 1 for axes in axes_of.values())
  kernels = [i for i in last if leaves[i][1].ndim > 1]
  if len(kernels) != 1 or len(last) > 2 or not single:
    names = ", ".join(leaves[i][0] for i in axes_of) or "none"
    raise InputError(
      f"weights of space {output!r}: {names}; expected a kernel and at most a "
      "bias"
    )
  place = _Place(last[0], axes_of[last[0]][0], last[1:])

  def transposed(weights, x):
    layer, replace = _split(place, weights)
    apply = jax.linear_transpose(
      lambda layer: target.apply(replace(layer), x, 0), layer
    )
    return apply(jnp.zeros((1, layer.shape[1]), layer.dtype))

  dtype = jax.tree.leaves(weights)[0].dtype
  image = jax.ShapeDtypeStruct((1, *target.input_shape), dtype)
  try:
    jax.eval_shape(transposed, weights, image)
  except Exception as error:
    reason = " ".join(str(error).split())[:120]
    raise InputError(
      f"weight {leaves[place.kernel][0]}: expected outputs [N, K] that are "
      f"linear in the last layer ({type(error).__name__}: {reason})"
    ) from error
  return place


def _split(
  place: _Place, weights: Weights
) -> tuple[jax.Array, Callable[[jax.Array], Weights]]:
  """Splits the weights of a network.

  Returns:
    (the last layer [d + 1, K] with the bias as its last row, function: another
    last layer -> weights). Without a bias there is one row less.
  """
  flat, structure = jax.tree.flatten(weights)
  kernel, axis, bias = place
  outputs_last = jnp.moveaxis(flat[kernel], axis, -1)

  def replace(layer):
    new = list(flat)
    rows = len(layer) - len(bias)
    shaped = layer[:rows].reshape(outputs_last.shape)
    new[kernel] = jnp.moveaxis(shaped, -1, axis)
    for i in bias:
      new[i] = layer[-1]
    return jax.tree.unflatten(structure, new)

  layer = jnp.concatenate(
    [
      outputs_last.reshape(-1, outputs_last.shape[-1]),
      *(flat[i][None] for i in bias),
    ]
  )
  return layer, replace


def _inputs(
  target: TargetNetwork,
  layer: jax.Array,
  replace: Callable[[jax.Array], Weights],
  activation: jax.Array | int,
  images: jax.Array,
) -> jax.Array:
  """The inputs [N, d + 1] of the last layer, 1 for the bias."""

  def inputs_of(image):
    # Output 0 is linear in column 0 of the layer; its gradient is the input.
    def first_output(column):
      changed = layer.at[:, 0].set(column)
      return target.apply(replace(changed), image[None], activation)[0, 0]

    return jax.grad(first_output)(layer[:, 0])

  size = min(_IMAGES, len(images))
  return jax.lax.map(inputs_of, images, batch_size=size)
