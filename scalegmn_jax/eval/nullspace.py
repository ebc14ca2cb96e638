"""The null space of the Jacobian of a network, decomposed by cause.

J is the Jacobian of the outputs on some images with respect to the weights. Its
null space contains the gauge directions (`symmetry.tangents`); it is larger if
some weights have no effect on these images. The rank of J is the functional
dimension of Grigsby et al. 2022, arXiv:2209.04036, on these images.

Shapes: N images, K outputs, D weights; columns of J are in the order of
`jax.flatten_util.ravel_pytree`. All functions need 64 bit numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from scalegmn_jax.base import Axis, SymmetrySpec, TargetNetwork, Weights
from scalegmn_jax.symmetry.gauge import parts
from scalegmn_jax.symmetry.spec import leaves
from scalegmn_jax.symmetry.tangents import generators, tangent
from scalegmn_jax.targets import unroll

BATCH = 100
"""Number of images that are differentiated at a time."""


def triangles(
  target: TargetNetwork,
  weights: Weights,
  images: np.ndarray,
  ends: Sequence[int],
  activation: int = 0,
) -> Iterator[np.ndarray]:
  """Triangular factors R of J = QR on the first N images, for N in `ends`.

  Since JᵀJ = RᵀR, R has the singular values and the null space of J, and
  ‖R t‖ = ‖J t‖. Only R is kept from one N to the next.

  Args:
    target: the architecture.
    weights: weights of one network, 64 bit numbers.
    images: [at least max(ends), ...].
    ends: numbers of images, ascending.
    activation: index of the network's activation.

  Yields:
    R [min(N·K, D), D] for each N.
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
  """The dimension of the null space of J as the sum of six causes.

  Each number counts the dimensions that its cause adds to the previous causes.

  Attributes:
    dimension: dimension of the null space.
    gauge: dimension of the span of the tangents.
    unread: single weights without effect on the outputs: incoming and outgoing
      weights of a neuron that is never active, incoming weights of a neuron
      without outgoing weights.
    statistics: directions of the running statistics, scale and bias of a
      neuron: a normalization computes the same for other values of them.
    inputs: directions of incoming weights without effect in the whole layer:
      the inputs of the layer are constant or linearly dependent.
    seldom: directions of incoming weights without effect in one neuron: the
      neuron is active on too few images.
    joint: directions that change several neurons at once.
    dead: number of neurons whose incoming weights are all `unread`.
    singular_values: [D] of J, descending.
    tolerance: singular values below it count as zero.
  """

  dimension: int
  gauge: int
  unread: int
  statistics: int
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
  """Computes the null space of J and its causes.

  Args:
    spec: the symmetry.
    weights: weights of one network, 64 bit numbers.
    triangle: R of J, see `triangles`.
    activation: index of the network's activation (a Python integer).
  """
  size = triangle.shape[1]
  values = np.zeros(size)
  nonzero = scipy.linalg.svdvals(triangle, check_finite=False)
  values[: len(nonzero)] = nonzero
  # The usual bound on the rounding error of singular values.
  tolerance = float(values[0] * size * np.finfo(values.dtype).eps)
  tangents = tangent_rows(spec, weights, activation)

  # Per neuron: (columns of J, basis of the directions without effect).
  unread, statistics, inputs, seldom, dead = [], [], [], [], 0
  for layer in _incoming(spec, weights):
    blocks = [triangle[:, columns] for columns in layer.columns]
    common = _null(np.concatenate(blocks), tolerance)
    for columns, block in zip(layer.columns, blocks, strict=True):
      zero = np.linalg.norm(block, axis=0) <= tolerance
      coordinates = np.eye(len(zero))[:, zero]
      own = np.eye(len(zero))[:, layer.own]
      own = own @ _null(block[:, layer.own], tolerance)
      unread.append((columns, coordinates))
      for cause, more in ((statistics, (own,)), (inputs, (own, common))):
        basis = scipy.linalg.orth(np.hstack([coordinates, *more]))
        cause.append((columns, basis))
      seldom.append((columns, _null(block, tolerance)))
      dead += int(zero.all())
  gauge = rank(tangents)
  dimension = int((values <= tolerance).sum())
  causes = (unread, statistics, inputs, seldom)
  sums = [_sum(tangents, cause) for cause in causes]
  added = np.diff([gauge, *sums, dimension]).tolist()
  return NullSpace(
    dimension=dimension,
    gauge=gauge,
    unread=added[0],
    statistics=added[1],
    inputs=added[2],
    seldom=added[3],
    joint=added[4],
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
  """Rank of vectors by an SVD, after division by their lengths.

  Args:
    rows: vectors [G, D]; their lengths are the units.
    left: projections [G, D] of these vectors, whose rank is computed in the
      same units; None for the vectors themselves.
  """
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  lengths = np.where(lengths > 0, lengths, 1)
  units = (rows if left is None else left) / lengths
  return int(np.linalg.matrix_rank(units, tol=1e-10)) if len(units) else 0


class _Layer(NamedTuple):
  """The incoming weights of the n neurons of a layer.

  Neurons of attention are pairs of a head and a dimension.

  Attributes:
    columns: [n, m], the columns of J that belong to each neuron, in the same
      order for all neurons.
    own: [m], whether they belong to weights with one number per neuron, in a
      layer with running statistics.
  """

  columns: np.ndarray
  own: np.ndarray


def _incoming(spec: SymmetrySpec, weights: Weights) -> list[_Layer]:
  """The layers of a network; each weight is in one of them.

  A weight that no neuron receives is a neuron of its own.
  """
  found: dict[tuple[str, ...], list[np.ndarray]] = {}
  normalized, start = set(), 0
  for name, weight, axes in leaves(spec, weights):
    numbers = np.arange(start, start + weight.size).reshape(weight.shape)
    start += weight.size
    for part, entries in parts(spec, numbers, axes.axes):
      receivers = _receivers(spec, entries)
      layer = tuple(receivers.values()) or (name,)
      shape = [part.shape[i] for i in receivers]
      rows = np.moveaxis(part, list(receivers), range(len(receivers)))
      found.setdefault(layer, []).append(rows.reshape(math.prod(shape), -1))
      if axes.statistic:
        normalized.add(layer)
  return [
    _Layer(
      np.hstack(blocks),
      np.repeat(
        [layer in normalized and rows.shape[1] == 1 for rows in blocks],
        [rows.shape[1] for rows in blocks],
      ),
    )
    for layer, blocks in found.items()
  ]


def _receivers(
  spec: SymmetrySpec, entries: Sequence[Axis | None]
) -> dict[int, str]:
  """{axis: space} of the neurons that a weight belongs to, by order of spaces.

  Neurons on which no group acts have no weights of their own beside others:
  positions of a position embedding.
  """
  order = list(spec.spaces)
  found = {
    i: axis.space
    for i, axis in enumerate(entries)
    if axis is not None and axis.kind != "sends"
  }
  hidden = {i: n for i, n in found.items() if not spec.spaces[n].fixed}
  return dict(
    sorted((hidden or found).items(), key=lambda item: order.index(item[1]))
  )


def _null(matrix: np.ndarray, tolerance: float) -> np.ndarray:
  """An orthonormal basis [m, d] of the null space of a matrix [.., m]."""
  _, values, rows = np.linalg.svd(np.linalg.qr(matrix, mode="r"))
  return rows[int((values > tolerance).sum()) :].T


def _sum(rows: np.ndarray, parts) -> int:
  """Dimension of the span of rows [G, D] and of mutually orthogonal parts.

  Each part is (columns, orthonormal basis within these columns).
  """
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
  """Sensitivities ‖J t‖ / ‖t‖ of directions t, by forward differentiation.

  J is never formed, which allows networks with millions of weights.

  Args:
    target: the architecture.
    weights: weights of one network, 64 bit numbers.
    images: [N, ...].
    direction: (weights, one item) -> t, a pytree like the weights.
    items: a pytree with leaves [G, ...].
    activation: index of the network's activation.

  Returns:
    [G]; NaN if t is 0.
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
  """Number of gauge directions of the unrolled MLP that preserve the CNN.

  It is the dimension of the subspace of the span of the MLP's tangents in which
  all positions share their weights and structural zeros stay zero.

  Args:
    cnn: made by `targets.cnn`.
    weights: weights of one network, 64 bit numbers.
    activation: index of the network's activation (a Python integer).
  """
  unrolled = unroll.unrolled(cnn)
  flat, unravel = jax.flatten_util.ravel_pytree(weights)

  def dense(flat):
    return jax.flatten_util.ravel_pytree(unrolled.unroll(unravel(flat)))[0]

  # The columns of this linear map do not overlap: its pseudoinverse is the
  # transpose divided by their squared lengths. Columns of kernel slots that
  # are always on the padding are zero.
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
