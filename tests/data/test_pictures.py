"""Images as functions of coordinates."""

import numpy as np
import pytest

from scalegmn_jax.base import InputError
from scalegmn_jax.data import images, pictures

ONCE = {"train": 1, "val": 1, "test": 1}


@pytest.fixture(scope="module")
def digits():
  return images.load("digits")


def test_coordinates_are_those_of_the_pixels():
  xy = pictures.coordinates(3, 5)
  assert xy.shape == (15, 2) and xy.dtype == np.float32
  np.testing.assert_allclose(xy[0], [-1, -1])
  np.testing.assert_allclose(xy[1], [-1, -0.5])  # the next column
  np.testing.assert_allclose(xy[5], [0, -1])  # the next row
  np.testing.assert_allclose(xy[-1], [1, 1])


def test_dilation_is_the_greatest_neighbour():
  rng = np.random.default_rng(0)
  pixels = rng.uniform(size=(2, 5, 4, 3)).astype(np.float32)
  found = pictures.dilated(pixels)
  assert found.dtype == np.float32
  for n, i, j, c in np.ndindex(pixels.shape):
    near = pixels[n, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, c]
    assert found[n, i, j, c] == near.max()


def test_the_first_of_each_part(digits):
  found = pictures.first(
    digits, {"train": 2, "val": 3, "test": 10**6}, ONCE | {"train": 3}
  )
  test = len(digits.test_x)
  assert list(found.image[:9]) == [0, 0, 0, 1, 1, 1, 0, 1, 2]
  assert list(found.part[:9]) == ["train"] * 6 + ["val"] * 3
  assert len(found.pixels) == 9 + test and found.pixels.dtype == np.float32
  assert found.pixels.min() == 0 and found.pixels.max() == 1
  np.testing.assert_array_equal(found.label[-test:], digits.test_y)
  np.testing.assert_allclose(2 * found.pixels[4] - 1, digits.train_x[1])


def test_what_is_not_there_is_refused(digits):
  with pytest.raises(InputError, match="0 val images"):
    pictures.first(digits, {"train": 1, "val": 0, "test": 1}, ONCE)
  with pytest.raises(InputError, match="image 9000 of the test images"):
    pictures.take(digits, "test", np.array([1, 9000]))
  beyond = digits._replace(test_x=digits.test_x * 3)
  with pytest.raises(InputError, match="expected \\[-1, 1\\]"):
    pictures.take(beyond, "test", np.arange(5))


def test_psnr():
  assert pictures.psnr(1e-3) == pytest.approx(30)
