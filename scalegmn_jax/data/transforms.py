"""Transformations that make another image set of an image set.

    images.load("mnist:rotated")
    images.load("digits+digits:inverted+digits:inverted:blurred")

A transformation is fixed: it changes every image of a set in the same way, so
that a network can learn the set that it makes, and a network of the set before
knows little of it. Images keep their shape, their classes and about their
range, [-1, 1].
"""

from collections.abc import Callable

import numpy as np
import scipy.ndimage

Transform = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(images [N, H, W, C], labels [N], K classes) -> images [N, H, W, C]."""


def _inverted(x, y, classes):
  """Bright pixels are dark."""
  return -x


def _rotated(x, y, classes):
  """By a right angle; images that are not square are turned upside down."""
  turns = 1 if x.shape[1] == x.shape[2] else 2
  return np.rot90(x, turns, axes=(1, 2))


def _mirrored(x, y, classes):
  """Left is right."""
  return x[:, :, ::-1]


def _blurred(x, y, classes):
  """The mean of 3x3 pixels."""
  for axis in (1, 2):
    x = scipy.ndimage.uniform_filter1d(x, 3, axis, mode="nearest")
  return x


def _edges(x, y, classes):
  """The slope between neighboring pixels, -1 where there is none."""
  return np.minimum(np.hypot(*np.gradient(x, axis=(1, 2))) - 1, 1)


def _checkered(x, y, classes):
  """Inverted in every second pixel."""
  rows, columns = np.indices(x.shape[1:3])
  return x * np.where((rows + columns) % 2, -1, 1)[None, :, :, None]


def _halved(x, y, classes):
  """Without the lower half."""
  x = x.copy()
  x[:, x.shape[1] // 2 :] = -1
  return x


def _mixed(x, y, classes):
  """Each image with one of the next class, half of each."""
  draw = np.random.RandomState(0)
  partners = np.zeros_like(x)
  for k in range(classes):
    of_class = np.flatnonzero(y == k)
    following = np.flatnonzero(y == (k + 1) % classes)
    if len(following):
      partners[of_class] = x[draw.choice(following, len(of_class))]
  return (x + partners) / 2


def _shuffled(x, y, classes):
  """The pixels in another order, one for all images of this shape."""
  pixels = x.reshape(len(x), -1, x.shape[-1])
  order = np.random.RandomState(1).permutation(pixels.shape[1])
  return pixels[:, order].reshape(x.shape)


TRANSFORMS: dict[str, Transform] = {
  "inverted": _inverted,
  "rotated": _rotated,
  "mirrored": _mirrored,
  "blurred": _blurred,
  "edges": _edges,
  "checkered": _checkered,
  "halved": _halved,
  "mixed": _mixed,
  "shuffled": _shuffled,
}
"""{name: transformation}."""
