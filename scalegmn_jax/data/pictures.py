"""Images as functions of coordinates, which implicit networks are fitted to.

Letters: N pictures, H rows, W columns, C channels, P = H·W pixels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from scalegmn_jax.base import InputError
from scalegmn_jax.data.images import Images

PARTS = ("train", "val", "test")


class Pictures(NamedTuple):
  """Some images of a set.

  Attributes:
    pixels: [N, H, W, C] float32 in [0, 1].
    label: [N] int32.
    part: [N] str, the part of the image set that each is from.
    image: [N] int, its row in that part.
  """

  pixels: np.ndarray
  label: np.ndarray
  part: np.ndarray
  image: np.ndarray


def take(images: Images, part: str, rows: np.ndarray) -> Pictures:
  """The images of these rows of one part.

  Args:
    images: in [-1, 1].
    part: one of `PARTS`.
    rows: [N] int; one may come several times.

  Raises:
    InputError: rows that are not there, or images beyond [-1, 1].
  """
  x, y = getattr(images, f"{part}_x"), getattr(images, f"{part}_y")
  rows = np.asarray(rows)
  if rows.size and not (0 <= rows.min() and rows.max() < len(x)):
    raise InputError(
      f"image {rows.max()} of the {part} images: there are {len(x)}"
    )
  pixels = (x[rows] + 1) / 2
  if rows.size and not (pixels.min() >= 0 and pixels.max() <= 1):
    raise InputError(
      f"{part} images: from {x.min():g} to {x.max():g}, expected [-1, 1]"
    )
  return Pictures(pixels, y[rows], np.full(len(rows), part), rows)


def first(
  images: Images, counts: Mapping[str, int], copies: Mapping[str, int]
) -> Pictures:
  """The first images of each part, some of them several times.

  Args:
    images: in [-1, 1].
    counts: {part: images}; more than there are is all of them.
    copies: {part: how often each image is there}.

  Raises:
    InputError: none of some part, or images beyond [-1, 1].
  """
  taken = []
  for part in PARTS:
    if counts[part] < 1 or copies[part] < 1:
      raise InputError(
        f"{copies[part]} times {counts[part]} {part} images, expected at least "
        "one"
      )
    count = min(counts[part], len(getattr(images, f"{part}_x")))
    taken.append(take(images, part, np.repeat(np.arange(count), copies[part])))
  return Pictures(*map(np.concatenate, zip(*taken, strict=True)))


def coordinates(height: int, width: int) -> np.ndarray:
  """The centres of pixels on [-1, 1]²: [H·W, 2] float32, (row, column)."""
  rows, columns = (np.linspace(-1, 1, n) for n in (height, width))
  grid = np.meshgrid(rows, columns, indexing="ij")
  return np.stack(grid, axis=-1).reshape(-1, 2).astype(np.float32)


def dilated(pixels: np.ndarray) -> np.ndarray:
  """The greatest value within 3 x 3 pixels: grey dilation of [N, H, W, C]."""
  return scipy.ndimage.grey_dilation(pixels, size=(1, 3, 3, 1), mode="nearest")


def psnr(error):
  """Peak signal to noise ratio in dB of a mean squared error of pixels."""
  return -10 * np.log10(error)
