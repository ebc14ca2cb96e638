"""Which directions of the weights the outputs do not feel, and why.

The null space of J, the Jacobian of a network's outputs in its weights on some
images, holds the gauge directions (`symmetry.tangents`). It is larger where
images leave weights unread, and it shrinks to the gauge where they do not.
The rank of J is the functional dimension of Grigsby et al. 2022,
arXiv:2209.04036, on these images.

Letters: N images, K outputs, D weights, columns of J in the order of
`jax.flatten_util.ravel_pytree`. All of it wants 64 bit numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from scalegmn_jax.base import SymmetrySpec, TargetNetwork, Weights
from scalegmn_jax.symmetry.spec import leaves
from scalegmn_jax.symmetry.tangents import generators, tangent
from scalegmn_jax.targets import unroll

BATCH = 100
"""Images that are differentiated at a time."""


def triangles(
  target: TargetNetwork,
  weights: Weights,
  images: np.ndarray,
  ends: Sequence[int],
  activation: int = 0,
) -> Iterator[np.ndarray]:
  """R [min(N·K, D), D] of J = QR, for the first N images, N in `ends`.

  JᵀJ = RᵀR: R has the singular values and the null space of J, and lengths
  ‖J t‖ = ‖R t‖. Only R is kept from one number of images to the next.

  Args:
    target: the architecture.
    weights: of one network, 64 bit numbers.
    images: [at least max(ends), ...].
    ends: numbers of images, ascending.
    activation: index of the network's activation.
  """
  flat, unravel = jax.flatten_util.ravel_pytree(weights)

  def outputs(flat, image):
    return target.apply(unravel(flat), image[None], activation)[0]

  jacobian = jax.jit(jax.vmap(jax.jacrev(outputs), (None, 0)))
  triangle = np.zeros((0, flat.size))
  for start, end in zip((0, *ends[:-1]), ends, strict=True):
    blocks = [triangle]
    for first in range(start, end, BATCH):
      batch = images[first : min(first + BATCH, end)].astype(flat.dtype)
      blocks.append(np.asarray(jacobian(flat, batch)).reshape(-1, flat.size))
    triangle = np.asarray(np.linalg.qr(np.concatenate(blocks), mode="r"))
    yield triangle


class NullSpace(NamedTuple):
  """The null space of J, by cause: its dimension is the sum of the five.

  Each number counts what its cause adds to the causes before it.

  Attributes:
    dimension: of the null space.
    gauge: dimension of the span of the tangents.
    unread: weights that no output feels: those into and out of a neuron that
      is never active, those into one that nothing reads.
    inputs: directions of a neuron's incoming weights that no neuron of its
      layer feels: the layer's inputs are constant, or depend linearly on each
      other.
    seldom: directions of a neuron's incoming weights that this neuron does
      not feel: it is active on too few images to tell its inputs apart.
    joint: directions that change several neurons at once.
    dead: neurons all of whose incoming weights are unread.
    singular_values: [D] of J, descending.
    tolerance: singular values below it count as zero.
  """

  dimension: int
  gauge: int
  unread: int
  inputs: int
  seldom: int
  joint: int
  dead: int
  singular_values: np.ndarray
  tolerance: float


def null_space(
  spec: SymmetrySpec,
  weights: Weights,
  triangle: np.ndarray,
  activation: int = 0,
) -> NullSpace:
  """The null space of J and its causes.

  Args:
    spec: the symmetry.
    weights: of one network, 64 bit numbers.
    triangle: R of J, see `triangles`.
    activation: index of the network's activation (a Python integer).
  """
  size = triangle.shape[1]
  values = np.zeros(size)
  found = scipy.linalg.svdvals(triangle, check_finite=False)
  values[: len(found)] = found
  # The usual bound on the rounding of singular values.
  tolerance = float(values[0] * size * np.finfo(values.dtype).eps)
  tangents = tangent_rows(spec, weights, activation)

  # Of each neuron its columns of J, and a basis of what its cause leaves free.
  unread, inputs, seldom, dead = [], [], [], 0
  for layer in _incoming(spec, weights).values():
    blocks = [triangle[:, columns] for columns in layer]
    common = _null(np.concatenate(blocks), tolerance)
    for columns, block in zip(layer, blocks, strict=True):
      zero = np.linalg.norm(block, axis=0) <= tolerance
      coordinates = np.eye(len(zero))[:, zero]
      both = scipy.linalg.orth(np.hstack([coordinates, common]))
      unread.append((columns, coordinates))
      inputs.append((columns, both))
      seldom.append((columns, _null(block, tolerance)))
      dead += int(zero.all())
  gauge = rank(tangents)
  dimension = int((values <= tolerance).sum())
  sums = [_sum(tangents, parts) for parts in (unread, inputs, seldom)]
  added = np.diff([gauge, *sums, dimension]).tolist()
  return NullSpace(
    dimension=dimension,
    gauge=gauge,
    unread=added[0],
    inputs=added[1],
    seldom=added[2],
    joint=added[3],
    dead=dead,
    singular_values=values,
    tolerance=tolerance,
  )


def tangent_rows(
  spec: SymmetrySpec, weights: Weights, activation: int = 0
) -> np.ndarray:
  """The tangents of all gauge directions, [G, D]."""
  flat = jax.flatten_util.ravel_pytree(weights)[0]
  rates = generators(spec, activation, dtype=flat.dtype)
  if not rates:
    return np.zeros((0, flat.size))

  @jax.jit
  def rows(rates):
    return jax.lax.map(
      lambda r: jax.flatten_util.ravel_pytree(tangent(spec, weights, r))[0],
      rates,
    )

  return np.asarray(rows(rates))


def rank(rows: np.ndarray, left: np.ndarray | None = None) -> int:
  """Rank of vectors [G, D] by an SVD, each in units of its length.

  Args:
    rows: the vectors.
    left: what a projection leaves of them, whose rank is asked for, in units
      of the same lengths; None: all.
  """
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  lengths = np.where(lengths > 0, lengths, 1)
  units = (rows if left is None else left) / lengths
  return int(np.linalg.matrix_rank(units, tol=1e-10)) if len(units) else 0


def _incoming(spec: SymmetrySpec, weights: Weights) -> dict[str, np.ndarray]:
  """{space: columns of J [n, m]}, those of each neuron's incoming weights in
  the same order."""
  columns, start = {}, 0
  for name, weight, axes in leaves(spec, weights):
    receiver = axes.find(1)
    if receiver is None:
      raise ValueError(f"weight {name} has no receiving axis")
    numbers = np.arange(start, start + weight.size).reshape(weight.shape)
    start += weight.size
    rows = np.moveaxis(numbers, receiver[0], 0)
    rows = rows.reshape(weight.shape[receiver[0]], -1)
    columns.setdefault(receiver[1], []).append(rows)
  return {name: np.hstack(parts) for name, parts in columns.items()}


def _null(matrix: np.ndarray, tolerance: float) -> np.ndarray:
  """An orthonormal basis [m, d] of the null space of a matrix [.., m]."""
  _, values, rows = np.linalg.svd(np.linalg.qr(matrix, mode="r"))
  return rows[int((values > tolerance).sum()) :].T


def _sum(rows: np.ndarray, parts) -> int:
  """Dimension of the span of rows [G, D] and of parts that are orthogonal to
  each other: (columns, orthonormal basis)."""
  left = rows.copy()
  for columns, basis in parts:
    left[:, columns] -= left[:, columns] @ basis @ basis.T
  inside = sum(basis.shape[1] for _, basis in parts)
  return inside + rank(rows, left)


def sensitivity(
  target: TargetNetwork,
  weights: Weights,
  images: np.ndarray,
  direction: Callable[[Weights, Any], Weights],
  items: Any,
  activation: int = 0,
) -> np.ndarray:
  """‖J t‖ / ‖t‖ of directions t [G], by forward differentiation.

  J is never formed: networks of millions of weights have theirs too.

  Args:
    target: the architecture.
    weights: of one network, 64 bit numbers.
    images: [N, ...].
    direction: (weights, one item) -> t, a pytree like the weights.
    items: a pytree with leaves [G, ...].
    activation: index of the network's activation.

  Returns:
    [G], NaN where t is 0.
  """
  dtype = jax.tree.leaves(weights)[0].dtype
  x = jnp.asarray(images, dtype)

  @jax.jit
  def measure(weights, items):
    def one(item):
      t = direction(weights, item)
      _, change = jax.jvp(
        lambda w: target.apply(w, x, activation), (weights,), (t,)
      )
      return jnp.linalg.norm(change) / optax.tree.norm(t)

    return jax.lax.map(one, items)

  return np.asarray(measure(weights, items))


def tied_directions(
  cnn: TargetNetwork, weights: Weights, activation: int = 0
) -> int:
  """How many gauge directions of its unrolled MLP keep a CNN a CNN.

  Of the span of the MLP's tangents the dimension of the part in which all
  positions go on sharing their weights, and structural zeros stay zero.

  Args:
    cnn: made by `targets.cnn`.
    weights: of one network, 64 bit numbers.
    activation: index of the network's activation (a Python integer).
  """
  unrolled = unroll.unrolled(cnn)
  flat, unravel = jax.flatten_util.ravel_pytree(weights)

  def dense(flat):
    return jax.flatten_util.ravel_pytree(unrolled.unroll(unravel(flat)))[0]

  # The columns of this linear map do not overlap, so that its pseudoinverse
  # is its transpose over their squared lengths. Those of kernel slots that
  # only ever read padding are zero.
  _, transpose = jax.vjp(dense, flat)
  lengths = transpose(dense(jnp.ones_like(flat)))[0]
  lengths = jnp.where(lengths > 0, lengths, 1)

  @jax.jit
  def broken(row):
    return row - dense(transpose(row)[0] / lengths)

  spec = unrolled.target.spec
  rows = tangent_rows(spec, unrolled.unroll(weights), activation)
  left = np.asarray(jax.lax.map(broken, rows))
  return rank(rows) - rank(rows, left)
