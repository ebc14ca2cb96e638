"""Pictures: images as functions of coordinates."""

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images, pictures

ONCE = {"train": 1, "val": 1, "test": 1}


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


def test_coordinates_are_the_centres_of_pixels():
  xy = pictures.coordinates(3, 5)
  assert xy.shape == (15, 2) and xy.dtype == np.float32
  np.testing.assert_allclose(xy[0], [-1, -1])
  np.testing.assert_allclose(xy[1], [-1, -0.5])  # the next column
  np.testing.assert_allclose(xy[5], [0, -1])  # the next row
  np.testing.assert_allclose(xy[-1], [1, 1])


def test_dilation_is_the_maximum_of_neighbours():
  rng = np.random.default_rng(0)
  pixels = rng.uniform(size=(2, 5, 4, 3)).astype(np.float32)
  result = pictures.dilated(pixels)
  assert result.dtype == np.float32
  for n, i, j, c in np.ndindex(pixels.shape):
    near = pixels[n, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, c]
    assert result[n, i, j, c] == near.max()


def test_erosion_is_the_dilation_of_the_negative():
  pixels = np.random.default_rng(0).uniform(size=(2, 5, 4, 3))
  np.testing.assert_array_equal(
    pictures.eroded(pixels), -pictures.dilated(-pixels)
  )


def test_rotation_is_counterclockwise():
  """A spot right of the centre moves up, and does not fade by much."""
  pixels = np.zeros((2, 41, 41, 1), np.float32)
  pixels[0, 19:22, 34:37] = 1
  result = pictures.rotated(pixels)
  assert result.shape == pixels.shape and result.dtype == np.float32
  row, column = (
    float((result[0, ..., 0] * i).sum() / result[0].sum())
    for i in np.mgrid[:41, :41]
  )
  angle = np.deg2rad(pictures.ANGLE)
  np.testing.assert_allclose(row, 20 - 15 * np.sin(angle), atol=0.05)
  np.testing.assert_allclose(column, 20 + 15 * np.cos(angle), atol=0.05)
  np.testing.assert_allclose(result[0].sum(), 9, atol=0.5)
  assert not result[1].any()


def test_the_first_of_each_part(digits):
  result = pictures.first(
    digits, {"train": 2, "val": 3, "test": 10**6}, ONCE | {"train": 3}
  )
  test = len(digits.test_x)
  assert list(result.image[:9]) == [0, 0, 0, 1, 1, 1, 0, 1, 2]
  assert list(result.part[:9]) == ["train"] * 6 + ["val"] * 3
  assert len(result.pixels) == 9 + test and result.pixels.dtype == np.float32
  assert result.pixels.min() == 0 and result.pixels.max() == 1
  np.testing.assert_array_equal(result.label[-test:], digits.test_y)
  np.testing.assert_allclose(2 * result.pixels[4] - 1, digits.train_x[1])


def test_missing_images_are_refused(digits):
  with pytest.raises(InputError, match="0 val images"):
    pictures.first(digits, {"train": 1, "val": 0, "test": 1}, ONCE)
  with pytest.raises(InputError, match="test images: rows 1 to 9000"):
    pictures.take(digits, "test", np.array([1, 9000]))
  beyond = digits._replace(test_x=digits.test_x * 3)
  with pytest.raises(InputError, match="expected \\[-1, 1\\]"):
    pictures.take(beyond, "test", np.arange(5))


def test_psnr():
  assert pictures.psnr(1e-3) == pytest.approx(30)
  assert pictures.psnr(0.0) == np.inf
