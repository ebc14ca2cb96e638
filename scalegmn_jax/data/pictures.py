"""Pictures: images as functions of coordinates, to which INRs are fitted.

Letters: N pictures, H rows, W columns, C channels, P = H·W pixels.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from scalegmn_jax.base import InputError
from scalegmn_jax.data.images import Images

PARTS = ("train", "val", "test")


class Pictures(NamedTuple):
  """Some images of an image set.

  Attributes:
    pixels: [N, H, W, C] float32 in [0, 1].
    label: [N] int32.
    part: [N] str, the part of the image set: train, val or test.
    image: [N] int, the row in this part.
  """

  pixels: np.ndarray
  label: np.ndarray
  part: np.ndarray
  image: np.ndarray


def take(images: Images, part: str, rows: np.ndarray) -> Pictures:
  """Takes images of one part as pictures.

  Args:
    images: an image set in [-1, 1].
    part: one of `PARTS`.
    rows: [N] int; repetitions are allowed.

  Raises:
    InputError: rows that do not exist, or images beyond [-1, 1].
  """
  x, y = getattr(images, f"{part}_x"), getattr(images, f"{part}_y")
  rows = np.asarray(rows)
  if rows.size and not (0 <= rows.min() and rows.max() < len(x)):
    raise InputError(
      f"{part} images: rows {rows.min()} to {rows.max()}, expected 0 to "
      f"{len(x) - 1}"
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
  """The first images of each part, each of them repeated.

  Args:
    images: an image set in [-1, 1].
    counts: {part: images}; all images if the part has fewer.
    copies: {part: repetitions of each image}.

  Raises:
    InputError: a part without images, or images beyond [-1, 1].
  """
  pictures = []
  for part in PARTS:
    if counts[part] < 1 or copies[part] < 1:
      raise InputError(
        f"{copies[part]} times {counts[part]} {part} images, expected at least "
        "one"
      )
    count = min(counts[part], len(getattr(images, f"{part}_x")))
    rows = np.repeat(np.arange(count), copies[part])
    pictures.append(take(images, part, rows))
  return Pictures(*map(np.concatenate, zip(*pictures, strict=True)))


def coordinates(height: int, width: int) -> np.ndarray:
  """Centres of pixels on [-1, 1]²: [H·W, 2] float32, (row, column)."""
  rows, columns = (np.linspace(-1, 1, n) for n in (height, width))
  grid = np.meshgrid(rows, columns, indexing="ij")
  return np.stack(grid, axis=-1).reshape(-1, 2).astype(np.float32)


def coarse(pixels: np.ndarray, factor: int) -> np.ndarray:
  """Means over blocks of factor x factor pixels.

  Args:
    pixels: [N, H, W, C], or the `coordinates` [1, H, W, 2]: a mean of them is
      the centre of a block.
    factor: divides H and W.

  Returns:
    [N, H / factor, W / factor, C].

  Raises:
    InputError: a factor that does not divide H and W.
  """
  size, height, width, channels = pixels.shape
  if factor < 1 or height % factor or width % factor:
    raise InputError(
      f"coarse is {factor}, expected a divisor of {height} rows and {width} "
      "columns"
    )
  blocks = height // factor, factor, width // factor, factor
  return pixels.reshape(size, *blocks, channels).mean((2, 4))


def dilated(pixels: np.ndarray) -> np.ndarray:
  """Grey dilation of [N, H, W, C]: the maximum over 3 x 3 pixels."""
  return scipy.ndimage.grey_dilation(pixels, size=(1, 3, 3, 1), mode="nearest")


def eroded(pixels: np.ndarray) -> np.ndarray:
  """Grey erosion of [N, H, W, C]: the minimum over 3 x 3 pixels."""
  return scipy.ndimage.grey_erosion(pixels, size=(1, 3, 3, 1), mode="nearest")


ANGLE = 30.0
"""Degrees by which `rotated` rotates."""


def rotated(pixels: np.ndarray) -> np.ndarray:
  """[N, H, W, C], rotated counterclockwise by `ANGLE` around the centre.

  Values between pixels are interpolated linearly, those outside are zero.
  """
  return scipy.ndimage.rotate(
    pixels, ANGLE, axes=(2, 1), reshape=False, order=1
  )


IDENTITY = "identity"
"""The edit whose result is the image, for INRs that do not render it."""

EDITS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
  "dilation": dilated,
  "erosion": eroded,
  "rotation": rotated,
  IDENTITY: lambda pixels: pixels,
}
"""{name of an edit: pixels [N, H, W, C] -> the edited pixels}."""


def psnr(error: np.ndarray | float) -> np.ndarray:
  """Peak signal-to-noise ratio in dB of a mean squared error of pixels.

  Infinite for the same pixels.
  """
  with np.errstate(divide="ignore"):
    return -10 * np.log10(error)
